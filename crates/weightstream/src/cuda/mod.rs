//! One model's weights on a GPU: disk → pinned host memory → device memory, each tier with a budget.

mod core;
mod pager;
mod stream;

pub use stream::{DeviceOptions, DeviceStats, DeviceStream, Ticket};
pub use weightstream_memory::cuda::{
    CudaError, Driver, Library, Live, Reservation, Simulated, StreamHandle,
};
