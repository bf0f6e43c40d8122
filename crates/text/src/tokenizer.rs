use crate::TextError;
use serde_json::Value;
use std::path::Path;
use weightstream::caught;
use weightstream::source::read_small;

/// Larger than any tokenizer: one of 260,000 tokens has 33 MB.
const MAX_TOKENIZER: u64 = 256 << 20;

const MAX_CONFIG: u64 = 16 << 20;

/// Hugging Face's `tokenizer.json`.
pub struct Tokenizer(tokenizers::Tokenizer);

impl Tokenizer {
    /// Opens a `tokenizer.json`.
    ///
    /// # Errors
    /// The file can't be read, or is no tokenizer.
    pub fn open(path: &Path) -> Result<Self, TextError> {
        let text = read_small(path, MAX_TOKENIZER)?;
        let opened = guarded(|| {
            let mut tokenizer = tokenizers::Tokenizer::from_bytes(text)?;
            // As transformers does: a prompt is neither filled up nor cut to the length that a file happens to name.
            tokenizer.with_padding(None).with_truncation(None)?;
            Ok(tokenizer)
        });
        opened.map(Self).map_err(|cause| TextError::TokenizerFile {
            path: path.to_owned(),
            cause,
        })
    }

    /// The tokens of a text, with those that the model wants at its beginning.
    ///
    /// # Errors
    /// The tokenizer has no token for a part of it.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TextError> {
        let encoding =
            guarded(|| self.0.encode(text, true)).map_err(|cause| TextError::Tokenizer {
                action: "encode the prompt",
                cause,
            })?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The number of a token, such as `<|im_end|>`.
    pub fn token(&self, text: &str) -> Option<u32> {
        self.0.token_to_id(text)
    }

    /// The tokens that end a text, as the generation_config.json beside this `tokenizer.json` says; none without one.
    ///
    /// # Errors
    /// The file is there and can't be read, or is no JSON; or its `eos_token_id` is neither a token nor a list of them.
    pub fn ends(path: &Path) -> Result<Vec<u32>, TextError> {
        let path = path.with_file_name("generation_config.json");
        let text = match read_small(&path, MAX_CONFIG) {
            Err(error) if error.is_missing() => return Ok(Vec::new()),
            text => text?,
        };
        let failed = |cause: String| TextError::GenerationConfig {
            path: path.clone(),
            cause,
        };
        let config: Value = serde_json::from_slice(&text)
            .map_err(|error| failed(format!("expected JSON, got {error}")))?;
        let ends = match config.get("eos_token_id") {
            None | Some(Value::Null) => &[],
            Some(Value::Array(tokens)) => &tokens[..],
            Some(one) => std::slice::from_ref(one),
        };
        let token = |value: &Value| {
            let token = value.as_u64().and_then(|token| u32::try_from(token).ok());
            token.ok_or_else(|| failed(format!("expected tokens in eos_token_id, got {value}")))
        };
        ends.iter().map(token).collect()
    }

    /// Makes text of tokens as they come.
    pub fn stream(&self) -> TextStream<'_> {
        TextStream {
            tokenizer: self,
            tokens: Vec::new(),
            shown: 0,
        }
    }
}

/// Text of tokens that come one after the other: characters may be parted over several of them.
pub struct TextStream<'t> {
    tokenizer: &'t Tokenizer,
    /// The last of those that were shown, and what was not yet.
    tokens: Vec<u32>,
    /// How many of these were shown.
    shown: usize,
}

impl TextStream<'_> {
    /// What a further token adds; nothing while a character is incomplete.
    ///
    /// # Errors
    /// The tokenizer can't decode it.
    pub fn push(&mut self, token: u32) -> Result<String, TextError> {
        self.tokens.push(token);
        // A token's text may depend on the one before (a space in front): both are decoded with and without it.
        let before = self.decode(&self.tokens[..self.shown])?;
        let text = self.decode(&self.tokens)?;
        if text.ends_with(char::REPLACEMENT_CHARACTER) && self.tokens.len() - self.shown < 8 {
            return Ok(String::new());
        }
        let added = text.get(before.len()..).unwrap_or_default().to_owned();
        self.tokens.drain(..self.shown);
        self.shown = self.tokens.len();
        Ok(added)
    }

    fn decode(&self, tokens: &[u32]) -> Result<String, TextError> {
        guarded(|| self.tokenizer.0.decode(tokens, true)).map_err(|cause| TextError::Tokenizer {
            action: "decode",
            cause,
        })
    }
}

/// Calls the tokenizers' library, which panics where a file contradicts itself.
fn guarded<T>(call: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, String> {
    match caught(call) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(panic) => Err(format!("the library tokenizers panicked: {panic}")),
    }
}
