//! How large a budget should be, from the memory that is left.

use crate::Pressure;
use std::time::Duration;

/// Within these the budget moves, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Never less.
    pub least: u64,
    /// Never more.
    pub most: u64,
}

/// Less than this share of the limit free is too little: the budget shrinks until `COMFORT` is free.
const DANGER: u64 = 16;
/// Between danger and this share nothing changes.
const COMFORT: u64 = 8;
/// Of the time, in percent: tasks wait for memory though there seems to be enough.
const STALLED: f64 = 10.0;
/// Nothing grows for so long after it had to shrink.
const CALM: Duration = Duration::from_secs(10);
/// Then a step of a sixteenth of the range at most, once in this time.
const PAUSE: Duration = Duration::from_secs(1);
const STEPS: u64 = 16;

/// Shrinks at once when memory runs short, and grows back slowly when it has been plenty for a while.
#[derive(Debug, Clone)]
pub struct Governor {
    limits: Limits,
    may_grow: Duration,
}

impl Governor {
    /// A governor that leaves the budget within `limits`.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            may_grow: Duration::ZERO,
        }
    }

    /// What a budget of `current` bytes should be at time `now` (from any fixed start, never going back).
    pub fn decide(&mut self, now: Duration, current: u64, pressure: &Pressure) -> u64 {
        let Limits { least, most } = self.limits;
        let (danger, comfort) = (pressure.limit / DANGER, pressure.limit / COMFORT);
        let free = pressure.free();
        let stalled = pressure.stalled.is_some_and(|share| share >= STALLED);
        if free < danger || stalled {
            self.may_grow = now + CALM;
            let missing = comfort.saturating_sub(free);
            let shrink = if stalled {
                missing.max(current / 8)
            } else {
                missing
            };
            return current.saturating_sub(shrink).clamp(least, most);
        }
        let step = (most - least).div_ceil(STEPS);
        let spare = free.saturating_sub(comfort);
        if now >= self.may_grow && spare > 0 && current < most {
            self.may_grow = now + PAUSE;
            // Half of what is spare: whatever takes the rest meanwhile does not make it shrink again.
            return (current + step.min(spare / 2)).clamp(least, most);
        }
        current.clamp(least, most)
    }
}
