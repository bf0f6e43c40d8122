//! Host memory: reserve, publish, withdraw, and the fault handler.

mod access;
mod fault;
mod mapping;
mod mask;
#[cfg(test)]
mod model;
mod names;
mod pages;
mod seen;
mod shared;
mod space;
mod spare;
mod state;
mod table;

pub use fault::{Registration, ensure_fault_handler};
pub use mapping::page_bytes;
pub use mask::{blocks_faults, unblock_faults};
pub use pages::Backend;
pub use space::{AddressSpace, Event, current_thread};
