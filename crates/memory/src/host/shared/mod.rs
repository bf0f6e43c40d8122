//! Memory without an address of its own: one piece for each slot, visible wherever it is mapped.

#[cfg(target_vendor = "apple")]
mod apple;
#[cfg(not(target_vendor = "apple"))]
mod linux;

#[cfg(target_vendor = "apple")]
pub use apple::SharedMemory;
#[cfg(not(target_vendor = "apple"))]
pub use linux::SharedMemory;
