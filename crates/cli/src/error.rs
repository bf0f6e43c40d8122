use std::io;
use std::path::PathBuf;

use weightstream::{CheckpointError, Panicked, StreamError};
use weightstream_pack::PackError;
use weightstream_source::sweep::SweepError;
use weightstream_source::{FileError, OpenError, ReadError};
use weightstream_text::TextError;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the fields are what the message says
pub enum CliError {
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),

    #[error(transparent)]
    Pack(#[from] PackError),

    #[error(transparent)]
    Stream(#[from] StreamError),

    #[error(transparent)]
    Open(#[from] OpenError),

    #[error(transparent)]
    Read(#[from] ReadError),

    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),

    #[error("{}: cannot {action}: {source}", path.display())]
    File {
        path: PathBuf,
        action: &'static str,
        source: io::Error,
    },

    #[error(transparent)]
    Given(#[from] FileError),

    #[error("{}: expected JSON, got {cause}", path.display())]
    Json {
        path: PathBuf,
        cause: serde_json::Error,
    },

    /// A program, or an input of one, that can't be run.
    #[error("{0}")]
    Program(String),

    #[error(transparent)]
    Text(#[from] TextError),

    #[error(transparent)]
    Sweep(#[from] SweepError),

    #[error("a bug in weightstream: {0}")]
    Panicked(#[from] Panicked),
}
