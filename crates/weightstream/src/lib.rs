//! Models larger than memory: a [`Stream`] gives every weight a fixed address and brings its bytes there when they
//! are touched, within a budget of memory that holds.
//!
//! ```no_run
//! use weightstream::{Checkpoint, Options, Parameter, Part, Stream};
//!
//! let checkpoint = Checkpoint::open("model.safetensors".as_ref())?;
//! let parameters = checkpoint.tensors.iter().map(|tensor| Parameter {
//!     name: tensor.name.clone(),
//!     parts: vec![Part { file: tensor.file, offset: tensor.offset, length: tensor.length }],
//!     itemsize: tensor.dtype.bits().div_ceil(8),
//!     unit: 0,
//! });
//! let stream = Stream::open(&checkpoint.paths(), parameters.collect(), Options::with_memory(64 << 20))?;
//! let first_weight = stream.address(0) as *const u8;
//! stream.enter(0)?;
//! // ... compute with the weights at their addresses, from any thread ...
//! stream.leave(0)?;
//! println!("{:?}", stream.stats());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod budget;
mod caught;
#[cfg(target_os = "linux")]
pub mod cuda;
mod cut;
mod error;
mod failures;
mod forecast;
mod govern;
mod loader;
mod pager;
mod patience;
mod recorder;
mod residency;
mod retry;
mod shared_budget;
mod stats;
mod stream;

pub use caught::{Panicked, caught};
pub use cut::{Fit, fit};
pub use error::{StreamError, WeightError};
pub use forecast::{Forecast, Pace, Use, forecast};
pub use govern::Governed;
pub use loader::{Reader, read};
pub use pager::Alarm;
pub use recorder::{Record, RecordKind};
pub use residency::Residency;
pub use shared_budget::Budget;
pub use stats::Stats;
pub use stream::{OpenSource, Options, Stream};
pub use weightstream_checkpoint::{
    Archive, Checkpoint, CheckpointError, Content, Dtype, Extent, Form, Layout, LayoutError,
    OutsideError, Parameter, Part, StoredFile, Tensor, cast, exported_dtype, exported_models,
    identity, inside,
};
pub use weightstream_governor as governor;
pub use weightstream_memory::{Backend as MemoryBackend, MemoryError};
pub use weightstream_source as source;
