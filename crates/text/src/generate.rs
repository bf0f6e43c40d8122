use crate::{Conversation, Sampler, Sampling, TextError, Tokenizer};
use std::time::{Duration, Instant};

/// What is wanted.
#[derive(Debug, Clone)]
pub struct Request {
    /// How many tokens at most.
    pub tokens: usize,
    /// How they are chosen.
    pub sampling: Sampling,
    /// Tokens that end the text; they are not shown.
    pub stop: Vec<u32>,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            tokens: 128,
            sampling: Sampling::default(),
            stop: Vec::new(),
        }
    }
}

/// What came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Generated {
    /// The tokens, without the one that ended the text.
    pub tokens: Vec<u32>,
    /// Until the first token.
    pub prompt: Duration,
    /// From the first token to the last.
    pub rest: Duration,
    /// Passes over the weights after the prompt's.
    pub passes: usize,
    /// Why it ended.
    pub end: End,
}

/// Why a text ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The model gave a token that ends texts.
    Stopped,
    /// There are as many tokens as were wanted.
    Tokens,
    /// The model's cache is full.
    Room,
}

/// Goes on after `prompt`, and shows the text as it comes.
///
/// # Errors
/// A prompt of no tokens or longer than the cache, sampling that makes no sense, or as
/// [`Program::run`](weightstream_graph::Program::run).
pub fn generate(
    conversation: &mut Conversation<'_>,
    tokenizer: &Tokenizer,
    prompt: &[u32],
    request: &Request,
    show: &mut dyn FnMut(&str),
) -> Result<Generated, TextError> {
    let mut sampler = Sampler::new(request.sampling.clone())?;
    let mut text = tokenizer.stream();
    let began = Instant::now();
    let mut logits = conversation.say(prompt)?;
    let first = Instant::now();
    let mut generated = Generated {
        tokens: Vec::new(),
        prompt: first - began,
        rest: Duration::ZERO,
        passes: 0,
        end: End::Tokens,
    };
    while generated.tokens.len() < request.tokens {
        let position = conversation.position();
        let token = sampler
            .choose(&logits)
            .ok_or(TextError::NotFinite { position })?;
        if request.stop.contains(&token) {
            generated.end = End::Stopped;
            break;
        }
        generated.tokens.push(token);
        show(&text.push(token)?);
        if generated.tokens.len() == request.tokens {
            break;
        }
        if conversation.room() == Some(0) {
            generated.end = End::Room;
            break;
        }
        logits = conversation.say(&[token])?;
        generated.passes += 1;
    }
    generated.rest = first.elapsed();
    Ok(generated)
}
