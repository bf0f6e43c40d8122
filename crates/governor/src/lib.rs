//! How much memory who may have: the policy, without threads, clocks or models.
//!
//! [`share`] divides one budget among several models. A [`Governor`] decides how large a budget should be while other
//! programs need memory too; a [`PressureSource`] tells it how much there is: [`linux`] reads that of control groups,
//! a phone's application implements the trait with what its system calls back.
#![forbid(unsafe_code)]

mod govern;
pub mod linux;
mod pressure;
mod shares;

pub use govern::{Governor, Limits};
pub use pressure::{Pressure, PressureSource};
pub use shares::{Member, share};
