//! One model's weights on a GPU: disk → pinned host memory → device memory, each tier with a budget.

mod core;
mod decoding;
mod feed;
mod fit;
mod pager;
mod stream;

pub use decoding::define_decoder;
pub use stream::{DeviceOptions, DeviceStats, DeviceStream, Ticket};
pub use weightstream_memory::cuda::{
    CudaError, Driver, Library, Live, Reservation, Simulated, StreamHandle,
};
