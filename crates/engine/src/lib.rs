//! What is read, what stays and what leaves: the policy of weightstream.
//!
//! The engine is a state machine. It is told what happened (a block began, a weight was touched, a read ended) and
//! answers with [`Action`]s for the pager to carry out. It knows neither files nor memory nor threads nor clocks,
//! so every test runs it against a simulated disk, and the same engine drives the host, a GPU and a phone.
//!
//! A pass over a model's weights is a cyclic scan. The engine learns the order of touches ([`trace`]), keeps an
//! evenly scattered set of chunks for good ([`plan`]), and streams all others through a small window.
#![forbid(unsafe_code)]

mod action;
mod bits;
mod convoy;
mod cursor;
mod effort;
mod engine;
mod evict;
mod marker;
mod plan;
mod pool;
mod shelf;
pub mod tiers;
mod trace;
mod wishes;

pub use action::Action;
pub use engine::{Chunks, Counters, Engine, least_slots};
pub use marker::Marker;
pub use plan::Plan;
pub use pool::Residence;
pub use shelf::Work;

/// A chunk's number: its address divided by the chunk size.
pub type Chunk = u32;
/// A slot's number in the pool.
pub type Slot = u32;
/// A thread that runs passes, by whatever number the pager knows it.
pub type Caller = u32;
