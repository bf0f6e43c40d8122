use crate::limits::limits;
use std::io;

/// Why an address space could not be made or changed.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// The kernel refused a mapping.
    #[error("{action} of {bytes} bytes failed: {cause}{}", limits(cause))]
    Mapping {
        /// What was being done, in words.
        action: &'static str,
        /// How many bytes it concerned.
        bytes: usize,
        /// The kernel's answer.
        cause: io::Error,
    },
    /// More models stream at once than the fault handler's table holds.
    #[error("{limit} models stream at once in this process already; close one first")]
    TooManySpaces {
        /// The table's size.
        limit: usize,
    },
    /// Chunk size that the pages of this machine do not divide.
    #[error("chunks of {chunk_bytes} bytes: expected a multiple of the page size, {page_bytes}")]
    ChunkSize {
        /// The size asked for.
        chunk_bytes: usize,
        /// This machine's page size.
        page_bytes: usize,
    },
}
