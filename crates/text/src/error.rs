use std::path::PathBuf;
use weightstream_graph::{OperatorError, ProgramError};

/// Why no text came.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the fields are what the message says
pub enum TextError {
    #[error(transparent)]
    Program(#[from] ProgramError),
    #[error(
        "expected a program of a language model, with inputs input_ids [1, length] and cache_position [length] of \
         I64; {0}"
    )]
    Interface(String),
    #[error(transparent)]
    File(#[from] weightstream::source::FileError),
    #[error("{}: {cause}", path.display())]
    GenerationConfig { path: PathBuf, cause: String },
    #[error("{}: cannot be read as a tokenizer: {cause}", path.display())]
    TokenizerFile { path: PathBuf, cause: String },
    #[error("the tokenizer can't {action}: {cause}")]
    Tokenizer { action: &'static str, cause: String },
    #[error("expected a prompt, got one of no tokens")]
    Empty,
    #[error(
        "expected at most {room} more tokens, which is what the model's cache has room for, got {got}"
    )]
    Room { room: usize, got: usize },
    #[error("the logits after {position} tokens are not numbers")]
    NotFinite { position: usize },
    #[error("expected {expected}, got {got}")]
    Sampling { expected: &'static str, got: f64 },
}

impl From<OperatorError> for TextError {
    fn from(error: OperatorError) -> Self {
        Self::Program(error.into())
    }
}
