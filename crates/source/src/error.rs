//! What can go wrong, and where.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::{Backend, FileError};

/// A range that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("can't read {length} bytes at offset {offset} of {}: {kind}", path.display())]
pub struct ReadError {
    /// The file.
    pub path: Arc<Path>,
    /// Where the piece that failed starts, in bytes from the start of the file.
    pub offset: u64,
    /// Bytes that the piece asked for.
    pub length: usize,
    /// The cause.
    pub kind: ReadErrorKind,
}

/// Why a range could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadErrorKind {
    /// The system reported an error.
    #[error("{message}")]
    Io {
        /// The system's number of the error, where it gave one.
        errno: Option<i32>,
        /// Its kind.
        kind: io::ErrorKind,
        /// Its text.
        message: String,
    },
    /// The file ends within the range.
    #[error("the file ends after {got} bytes of them")]
    UnexpectedEnd {
        /// Bytes of the range that the file has.
        got: usize,
    },
    /// Someone wrote to the file, or truncated it, after it was opened.
    #[error("the file was changed while it was in use: {change}")]
    Changed {
        /// What it was, and what it is.
        change: String,
    },
    /// The request named a file that was not opened.
    #[error("no such file was opened, there are {files}")]
    UnknownFile {
        /// How many files are open.
        files: usize,
    },
    /// No memory for a bounce buffer.
    #[error("no memory for a buffer of {bytes} bytes")]
    OutOfMemory {
        /// Its size.
        bytes: usize,
    },
    /// Bytes came that can't be those that were written.
    #[error("they are damaged: {reason}")]
    Damaged {
        /// What was expected and what was got.
        reason: String,
    },
    /// The source was closed before it came to this range.
    #[error("the source was closed")]
    Abandoned,
}

impl From<io::Error> for ReadErrorKind {
    fn from(error: io::Error) -> Self {
        Self::Io {
            errno: error.raw_os_error(),
            kind: error.kind(),
            message: error.to_string(),
        }
    }
}

/// Why a source could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A file can't be opened.
    #[error(transparent)]
    File(#[from] FileError),
    /// The backend does not work here.
    #[error("{backend:?} does not work here: {reason}")]
    Unavailable {
        /// The backend.
        backend: Backend,
        /// What was tried and what was got.
        reason: String,
    },
    /// A thread can't be started.
    #[error("can't start a reading thread: {0}")]
    Thread(#[source] io::Error),
}
