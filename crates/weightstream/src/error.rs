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
    /// The files don't have bytes that weights are made of.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The pager thread could not be started.
    #[error("can't start the thread that reads: {0}")]
    Thread(std::io::Error),
    /// No memory for the buffers that coded weights are read into.
    #[error("no memory for buffers of {bytes} bytes")]
    Buffers {
        /// Bytes of all of them.
        bytes: u64,
    },
    /// A weight that was needed could not be read, or was written to.
    #[error(transparent)]
    Weight(#[from] Arc<WeightError>),
    /// The process was forked from the one that opened the stream.
    #[error(
        "this stream belongs to the parent process: load the model in the child, or start children with 'spawn'"
    )]
    Forked,
    /// The thread that reads has ended by itself; the log says why.
    #[error(
        "streaming has ended: the kernel refused to move memory (see the log; is vm.max_map_count reached?)"
    )]
    Ended,
    /// The stream was closed.
    #[error("this stream is closed")]
    Closed,
}

/// A weight that was not what the checkpoint has. What was computed meanwhile is not to be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WeightError {
    /// It could not be read. The next pass works as soon as the file can be read again.
    #[error("weight {tensor:?} could not be loaded: {cause}")]
    Unread {
        /// The tensor whose bytes are missing (the first in the chunk), with how many others share them.
        tensor: String,
        /// File, offset and reason.
        cause: ReadError,
    },
    /// It was written to. It is as stored again by the next pass.
    #[error(
        "weight {tensor:?} was written to, but streamed weights are read-only: the write is undone; give its module \
         memory of its own first, module.{leaf} = torch.nn.Parameter(module.{leaf}.clone())"
    )]
    Written {
        /// The tensor.
        tensor: String,
        /// The last part of its name.
        leaf: String,
    },
    /// It was written to, which it may be, but the budget has no room to keep what was written.
    #[error(
        "buffer {tensor:?} was written to, and memory of {memory} bytes has no room to keep that: the write is undone; \
         the least that works is {least} bytes"
    )]
    Full {
        /// The tensor.
        tensor: String,
        /// The budget in bytes.
        memory: u64,
        /// Bytes that would do.
        least: u64,
    },
}

impl WeightError {
    /// Of a chunk in which the tensors of these `names` lie, and that could not be read.
    pub(crate) fn unread<'n>(names: impl IntoIterator<Item = &'n str>, cause: ReadError) -> Self {
        let mut names = names.into_iter();
        let first = names.next().unwrap_or_default();
        let tensor = match names.count() {
            0 => first.to_owned(),
            others => format!("{first} (and {others} more in the same chunk)"),
        };
        Self::Unread { tensor, cause }
    }

    /// Of a weight that was written to.
    pub(crate) fn written(tensor: &str) -> Self {
        let leaf = tensor.rsplit('.').next().unwrap_or_default();
        Self::Written {
            tensor: tensor.to_owned(),
            leaf: leaf.to_owned(),
        }
    }
}
