//! Writes packed checkpoints, verifies them, and makes safetensors of them again.
//!
//! ```no_run
//! use weightstream_pack::{Options, pack};
//!
//! let report = pack("model".as_ref(), "packed".as_ref(), &Options::default(), &|_| ())?;
//! println!("{} of {} bytes", report.stored, report.weights);
//! # Ok::<(), weightstream_pack::PackError>(())
//! ```
//!
//! [`pack`] takes any checkpoint that [`Checkpoint`](weightstream::Checkpoint) opens, in memory that does not grow
//! with the model. It may be killed at any time: what is left does not open, and the next call goes on from there.

mod arrangement;
mod companions;
mod convert;
mod error;
mod frames;
mod journal;
mod lock;
mod order;
mod pack;
mod pipeline;
mod progress;
mod seal;
mod unpack;
mod verify;

pub use error::PackError;
pub use order::Order;
pub use pack::{Coding, Options, Report, pack};
pub use progress::{Phase, Progress};
pub use seal::seal;
pub use unpack::{UnpackOptions, unpack};
pub use verify::{Damage, verify};
