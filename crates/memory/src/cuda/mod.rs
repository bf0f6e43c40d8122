//! GPU memory: one reserved range of addresses, physical chunks that are mapped to it and taken away again, pinned
//! host memory, copies and events.
//!
//! Everything goes through the trait [`Driver`], which has two implementations: [`Library`], the CUDA driver that
//! is opened at run time, and [`Simulated`], which checks every rule that a real one punishes with a dead context.

mod copy;
mod driver;
mod error;
mod library;
mod pinned;
mod pool;
mod simulated;

pub use copy::CopyQueue;
pub use driver::{
    Argument, Driver, Event, Function, Launch, Module, Physical, Pinned, StreamHandle,
};
pub use error::CudaError;
pub use library::Library;
pub use pinned::PinnedPool;
pub use pool::{DevicePool, Reservation};
pub use simulated::{Live, Simulated};
