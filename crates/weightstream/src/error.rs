use std::sync::Arc;
use weightstream_checkpoint::LayoutError;
use weightstream_memory::MemoryError;
use weightstream_source::{OpenError, ReadError};

/// Why a stream could not be opened, changed or used.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The budget is below what can work.
    #[error(
        "memory of {given} bytes is too small for this model: the least that works is {least} bytes"
    )]
    Budget {
        /// Bytes given.
        given: u64,
        /// Bytes that would work.
        least: u64,
    },
    /// The budget of host memory behind a device is below what can work.
    #[error(
        "host_memory of {given} bytes is too small for this model: the least that works is {least} bytes"
    )]
    HostBudget {
        /// Bytes given.
        given: u64,
        /// Bytes that would work.
        least: u64,
    },
    /// The device refused.
    #[cfg(target_os = "linux")]
    #[error(transparent)]
    Device(#[from] weightstream_memory::cuda::CudaError),
    /// The parameters don't fit the files.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The kernel refused the memory.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// A file can't be read.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A file's length can't be found out.
    #[error("can't open {path}: {cause}")]
    File {
        /// The file.
        path: String,
        /// What the system said.
        cause: std::io::Error,
    },
    /// A thread could not be started.
    #[error("can't start a thread: {0}")]
    Thread(std::io::Error),
    /// No memory for the buffers that coded weights are read into.
    #[error("no memory for buffers of {bytes} bytes")]
    Buffers {
        /// Bytes of all of them.
        bytes: u64,
    },
    /// A weight that was needed could not be read.
    #[error(transparent)]
    Weight(#[from] Arc<WeightError>),
    /// The process was forked from the one that opened the stream.
    #[error(
        "this stream belongs to the parent process: load the model in the child, or start children with 'spawn'"
    )]
    Forked,
    /// The thread that reads has ended by itself, for this reason.
    #[error("streaming has ended: {0}")]
    Ended(String),
    /// The stream was closed.
    #[error("this stream is closed")]
    Closed,
}

/// A weight that could not be read. What was computed meanwhile is not to be used; the next pass works as soon as
/// the file can be read again.
#[derive(Debug, Clone, thiserror::Error)]
#[error("weight {tensor:?} could not be loaded: {cause}")]
pub struct WeightError {
    /// The tensor whose bytes are missing (the first in the chunk), with how many others share them.
    pub tensor: String,
    /// File, offset and reason.
    pub cause: ReadError,
}

impl WeightError {
    /// Of a chunk in which the tensors of these `names` lie.
    pub(crate) fn of<'n>(names: impl IntoIterator<Item = &'n str>, cause: ReadError) -> Self {
        let mut names = names.into_iter();
        let first = names.next().unwrap_or_default();
        let tensor = match names.count() {
            0 => first.to_owned(),
            others => format!("{first} (and {others} more in the same chunk)"),
        };
        Self { tensor, cause }
    }
}
