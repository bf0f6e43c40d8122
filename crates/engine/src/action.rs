//! What the engine answers.

use crate::{Chunk, Slot};

/// What the pager is to do, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Read the chunk into the slot; answer with [`Engine::loaded`] or [`Engine::failed`].
    Read {
        /// The chunk.
        chunk: Chunk,
        /// Where to.
        slot: Slot,
    },
    /// Make the chunk absent; its slot is free, and may be named by a later action.
    Withdraw {
        /// The chunk.
        chunk: Chunk,
        /// Where it was.
        slot: Slot,
    },
    /// Give the memory of this free slot back to the system.
    Release {
        /// The slot.
        slot: Slot,
    },
}
