//! Host memory: reserve, publish, withdraw, and the fault handler.

mod access;
mod fault;
mod mapping;
#[cfg(test)]
mod model;
mod names;
mod pages;
mod shared;
mod space;
mod state;
mod table;

pub use fault::{Registration, ensure_fault_handler};
pub use mapping::page_bytes;
pub use pages::Backend;
pub use space::{AddressSpace, Event, current_thread};
