//! The policy where computation can't wait for a touch: a GPU, fed from host memory, fed from disk.
//!
//! Two tiers hold chunks: the *host* (page-locked memory, filled from disk) and the *device* (filled from the host).
//! A block's chunks must all be on the device before its work is launched, and may leave only when the device is
//! done with them. Which chunks a block needs is known beforehand, so nothing is learned but the order of blocks.
//!
//! Like the host's [`Engine`](crate::Engine) this is a state machine without threads, clock or unsafe code.

mod engine;
mod order;
mod plan;

pub use engine::{Blocks, Depths, TierAction, TierCounters, Tiers, TooSmall};
pub use plan::TierPlan;
