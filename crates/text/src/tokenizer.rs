use crate::TextError;
use serde_json::Value;
use std::path::Path;
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
        tokenizers::Tokenizer::from_bytes(read_small(path, MAX_TOKENIZER)?)
            .map(Self)
            .map_err(|cause| TextError::TokenizerFile {
                path: path.to_owned(),
                cause: cause.to_string(),
            })
    }

    /// The tokens of a text, with those that the model wants at its beginning.
    ///
    /// # Errors
    /// The tokenizer has no token for a part of it.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TextError> {
        let encoding = self
            .0
            .encode(text, true)
            .map_err(|cause| TextError::Tokenizer {
                action: "encode the prompt",
                cause: cause.to_string(),
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
    /// The file is there and can't be read, or is no JSON.
    pub fn ends(path: &Path) -> Result<Vec<u32>, TextError> {
        let path = path.with_file_name("generation_config.json");
        let text = match read_small(&path, MAX_CONFIG) {
            Err(error) if error.is_missing() => return Ok(Vec::new()),
            text => text?,
        };
        let config: Value = serde_json::from_slice(&text)
            .map_err(|cause| TextError::GenerationConfig { path, cause })?;
        let token = |value: &Value| value.as_u64().and_then(|token| u32::try_from(token).ok());
        Ok(match config.get("eos_token_id") {
            Some(Value::Array(tokens)) => tokens.iter().filter_map(token).collect(),
            Some(one) => token(one).into_iter().collect(),
            None => Vec::new(),
        })
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
        self.tokenizer
            .0
            .decode(tokens, true)
            .map_err(|cause| TextError::Tokenizer {
                action: "decode",
                cause: cause.to_string(),
            })
    }
}
