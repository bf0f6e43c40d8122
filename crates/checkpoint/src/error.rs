use std::io;
use std::path::{Path, PathBuf};

use weightstream_source::FileError;

use crate::packed::PackedError;
use crate::{Dtype, OutsideError, found_at};

/// A checkpoint that cannot be used: which file, which tensor, what was expected and what was got.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the fields are what the message says
pub enum CheckpointError {
    #[error("{}: cannot {action}: {source}", file.display())]
    Io {
        file: PathBuf,
        action: &'static str,
        source: io::Error,
    },

    #[error(transparent)]
    File(#[from] FileError),

    #[error(transparent)]
    Outside(#[from] OutsideError),

    #[error(
        "{}: expected a safetensors file, which has at least 8 bytes, got {length} bytes",
        file.display()
    )]
    TooShort { file: PathBuf, length: u64 },

    #[error("{}: expected a header of at most {limit} bytes, got {length}", file.display())]
    HeaderTooLarge {
        file: PathBuf,
        length: u64,
        limit: u64,
    },

    #[error(
        "{}: expected a file of at least {expected} bytes, 8 and the header, got {got} bytes",
        file.display()
    )]
    HeaderBeyondFile {
        file: PathBuf,
        expected: u64,
        got: u64,
    },

    #[error("{}: expected UTF-8 in the header, got byte {position} which is not", file.display())]
    NotUtf8 { file: PathBuf, position: usize },

    #[error("{}: header{}: {source}", file.display(), of_tensor(tensor))]
    Json {
        file: PathBuf,
        tensor: Option<String>,
        source: serde_json::Error,
    },

    #[error(
        "{}: tensor {tensor:?}: expected a dtype of the safetensors format, got {dtype:?}",
        file.display()
    )]
    UnknownDtype {
        file: PathBuf,
        tensor: String,
        dtype: String,
    },

    #[error(
        "{}: tensor {tensor:?}: expected a whole number of bytes below 2^61, got {dtype} {shape:?}",
        file.display()
    )]
    ImpossibleShape {
        file: PathBuf,
        tensor: String,
        dtype: Dtype,
        shape: Vec<u64>,
    },

    #[error(
        "{}: tensor {tensor:?}: expected {expected} bytes for {dtype} {shape:?}, got {got}",
        file.display()
    )]
    WrongLength {
        file: PathBuf,
        tensor: String,
        dtype: Dtype,
        shape: Vec<u64>,
        expected: u64,
        got: u64,
    },

    #[error(
        "{}: tensor {tensor:?}: expected data offsets in order, got [{begin}, {end}]",
        file.display()
    )]
    ReversedOffsets {
        file: PathBuf,
        tensor: String,
        begin: u64,
        end: u64,
    },

    #[error(
        "{}: tensor {tensor:?}: expected its data at offset {expected}, right after {}, \
         got {got}, which {}",
        file.display(),
        previous.as_ref().map_or("the header".to_owned(), |name| format!("tensor {name:?}")),
        if got > expected { "leaves a hole" } else { "overlaps" }
    )]
    NotContiguous {
        file: PathBuf,
        tensor: String,
        previous: Option<String>,
        expected: u64,
        got: u64,
    },

    #[error(
        "{}: tensor {tensor:?} ends after the file: expected {expected} bytes, got {got}; \
         the file is truncated",
        file.display()
    )]
    Truncated {
        file: PathBuf,
        tensor: String,
        expected: u64,
        got: u64,
    },

    #[error(
        "{}: expected {expected} bytes, header and all tensors, got {got}; \
         what follows the last tensor belongs to none",
        file.display()
    )]
    TrailingBytes {
        file: PathBuf,
        expected: u64,
        got: u64,
    },

    #[error(
        "tensor {tensor:?}: expected one, got two: in {} and in {}",
        first.display(),
        second.display()
    )]
    Duplicate {
        tensor: String,
        first: PathBuf,
        second: PathBuf,
    },

    #[error("{}: expected {expected}; got {got}", path.display())]
    NoCheckpoint {
        path: PathBuf,
        expected: &'static str,
        got: String,
    },

    #[error(
        "{}: expected one *.safetensors, an index, or shards named like \
         model-00001-of-00004.safetensors, got {}; name the file to open",
        folder.display(),
        files.join(", ")
    )]
    SeveralFiles { folder: PathBuf, files: Vec<String> },

    #[error(
        "{}: expected all {} shards of {shard:?}, got {} of them; the first that is missing is {missing:?}",
        folder.display(),
        expected,
        got
    )]
    IncompleteShards {
        folder: PathBuf,
        shard: String,
        missing: String,
        expected: u64,
        got: u64,
    },

    #[error(
        "{}: tensor {tensor:?}: {source}",
        index.display()
    )]
    ShardOutside {
        index: PathBuf,
        tensor: String,
        source: OutsideError,
    },

    #[error(
        "{}: tensor {tensor:?}: expected shard {shard:?} beside the index, got no such file",
        index.display()
    )]
    MissingShard {
        index: PathBuf,
        tensor: String,
        shard: String,
    },

    #[error("{}: expected {expected}, got {got}", file.display())]
    Archive {
        file: PathBuf,
        expected: &'static str,
        got: String,
    },

    #[error("{}: {source}", file.display())]
    Content {
        file: PathBuf,
        source: crate::ContentError,
    },

    #[error("{}: {source}", manifest.display())]
    Packed {
        manifest: PathBuf,
        source: PackedError,
    },

    #[error("{}{}: {reason}", file.display(), of_tensor(tensor))]
    Torch {
        file: PathBuf,
        tensor: Option<String>,
        reason: String,
    },

    #[error("{}{}: {reason}", file.display(), of_tensor(tensor))]
    Gguf {
        file: PathBuf,
        tensor: Option<String>,
        reason: String,
    },
}

impl CheckpointError {
    /// That something else is at `path`, and what to do with that.
    pub fn nothing_like(expected: &'static str, path: &Path) -> Self {
        Self::NoCheckpoint {
            path: path.to_owned(),
            expected,
            got: found_at(path),
        }
    }
}

fn of_tensor(tensor: &Option<String>) -> String {
    match tensor {
        Some(name) => format!(", tensor {name:?}"),
        None => String::new(),
    }
}
