//! Sleeping on a word of memory. Plain system calls: safe to use inside a signal handler.

#[cfg(target_vendor = "apple")]
mod apple;
#[cfg(not(target_vendor = "apple"))]
mod linux;

#[cfg(target_vendor = "apple")]
pub use apple::{wait, wake_all};
#[cfg(not(target_vendor = "apple"))]
pub use linux::{wait, wake_all};
