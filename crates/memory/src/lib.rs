//! How weights appear at their addresses: the one part of weightstream that is `unsafe`.
//!
//! An [`AddressSpace`] reserves an address for every byte of a model and owns a pool of slots, each as large as
//! a chunk. A chunk is read into a slot and then *published*: the page tables move from the slot to the chunk's
//! address, atomically, without a copy. A touch of a chunk that is not published raises SIGSEGV in the touching
//! thread; the handler publishes the chunk if it is ready, or reports it as [`Event::Missing`] and waits. The
//! instruction then runs again. No operator, thread or compiled code can therefore see anything but the weight.
//!
//! This crate decides nothing: what to read, keep and withdraw is the engine's business.

#[cfg(all(target_os = "linux", not(test)))]
pub mod cuda;
mod doorbell;
mod error;
#[cfg(not(test))]
mod futex;
mod host;
mod limits;
mod sync;

pub use error::MemoryError;
pub use host::{
    AddressSpace, Backend, Event, Registration, blocks_faults, current_thread,
    ensure_fault_handler, page_bytes, unblock_faults,
};
