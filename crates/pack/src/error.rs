use std::io;
use std::path::{Path, PathBuf};

use weightstream::CheckpointError;
use weightstream_source::{FileError, ReadError};

use crate::verify::Damage;

/// Why a checkpoint could not be packed, verified or unpacked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the fields are what the message says
pub enum PackError {
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),

    #[error(transparent)]
    Read(#[from] ReadError),

    #[error(transparent)]
    File(#[from] FileError),

    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        path: PathBuf,
        action: &'static str,
        source: io::Error,
    },

    #[error(
        "{}: expected a folder without a finished packed checkpoint, got one that is of something else or can't be \
         read; choose another folder, or overwrite it (--overwrite)",
        folder.display()
    )]
    Exists { folder: PathBuf },

    #[error(
        "{}: expected to write here alone, but another pack or unpack writes into this folder; wait for it to end",
        folder.display()
    )]
    Busy { folder: PathBuf },

    #[error(
        "{}: expected no file of this name or one of the same content, got another; move it away or choose another \
         folder",
        path.display()
    )]
    Companion { path: PathBuf },

    #[error(
        "{}: expected a source that stays as it is while it is packed, got another one in its place; pack it again",
        source_path.display()
    )]
    Changed { source_path: PathBuf },

    #[error("{}: expected a JSON list of tensor names, or an object with one in \"tensors\", got {got}", path.display())]
    Order { path: PathBuf, got: String },

    #[error(
        "expected an order of this checkpoint's tensors, got {count} names that it doesn't have: {}",
        names.join(", ")
    )]
    UnknownNames { count: usize, names: Vec<String> },

    #[error("expected chunks of a power of two of bytes from 256 KiB to 64 MiB, got {got}")]
    ChunkBytes { got: u64 },

    #[error("tensor {tensor:?}: expected a tensor that can be converted to {wanted}, got {got}")]
    Convert {
        tensor: String,
        wanted: String,
        got: String,
    },

    #[error(
        "{}: expected what was written, got something else: {damage}; the disk or its file system is failing",
        path.display()
    )]
    Written { path: PathBuf, damage: Box<Damage> },

    #[error("{} pieces are damaged; the first: {first}", count)]
    Damaged { count: u64, first: Box<Damage> },

    #[error("tensor {tensor:?}: expected a packed checkpoint that decodes, got {reason}")]
    Decode { tensor: String, reason: String },

    #[error("{}: expected a folder without safetensors files, got {name:?}; choose another folder", folder.display())]
    NotEmpty { folder: PathBuf, name: String },

    #[error(
        "expected a code that decodes to the weights, got another: this is a defect of weightstream or of memory"
    )]
    Coding,

    #[error("a thread panicked: this is a defect of weightstream")]
    Panicked,
}

impl PackError {
    /// Wraps an I/O error with what was tried on which file.
    pub(crate) fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| PackError::Io {
            path,
            action,
            source,
        }
    }
}
