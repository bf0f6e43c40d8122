//! How long callers wait for each other.
//!
//! The engine holds a caller back that is ahead of another one in the same pass, so that both can go on with one read
//! for two. It knows no time, and can't tell a caller that computes from one that sleeps, or that waits for a lock
//! which the caller ahead holds. So nobody is waited for who shows no sign of life, and nobody waits for more than half
//! of its time.

#[cfg(test)]
mod simulation;

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;
use weightstream_engine::{Action, Engine};

/// In nanoseconds: without a sign for so long, a caller is left behind; and so long anybody may be held in its pass,
/// before that is measured by the time since.
const SILENCE: u64 = 100_000_000;

#[derive(Debug, Default)]
pub struct Patience {
    /// For whom callers are held, as the engine tells it, and since when that is the same.
    rear: Option<((u32, u64), u64)>,
    /// Of each caller that was held in its pass.
    waits: HashMap<u32, Wait>,
}

#[derive(Debug)]
struct Wait {
    /// When it was held first.
    first: u64,
    /// For how long altogether, up to `since`.
    total: u64,
    /// Since when it is held now, as far as that is not in `total`.
    since: Option<u64>,
}

impl Wait {
    /// How much longer it may be held from `now` on, if it is held all the time.
    fn left(&self, now: u64) -> u64 {
        let allowed = SILENCE + (now - self.first) / 2;
        // What is allowed grows meanwhile by half of the time.
        2 * allowed.saturating_sub(self.total)
    }
}

impl Patience {
    /// Has the engine decide, and decide anew where somebody's patience is over, until that is nobody's: one wait may
    /// begin where another ends. Gives the time after which to call again if nothing happens before.
    pub fn decide(
        &mut self,
        engine: &mut Engine,
        actions: &mut Vec<Action>,
        now: u64,
    ) -> Option<Duration> {
        loop {
            engine.pump(actions);
            let left = [self.rear_left(engine, now), self.held_left(engine, now)];
            match left.into_iter().flatten().min() {
                Some(0) => {}
                left => return left.map(Duration::from_nanos),
            }
        }
    }

    /// For how long others may still wait for the one that they wait for, if it gives no sign. At 0 nobody waits for
    /// it any more.
    fn rear_left(&mut self, engine: &mut Engine, now: u64) -> Option<u64> {
        let seen = engine.holding();
        if self.rear.map(|(rear, _)| rear) != seen {
            self.rear = seen.map(|seen| (seen, now));
        }
        let ((rear, _), since) = self.rear?;
        let left = (since + SILENCE).saturating_sub(now);
        if left == 0 {
            engine.leave_behind(rear);
        }
        Some(left)
    }

    /// For how long those that are held may still be. At 0 it is released for the rest of its pass.
    fn held_left(&mut self, engine: &mut Engine, now: u64) -> Option<u64> {
        let held: BTreeSet<u32> = engine.held().iter().copied().collect();
        for (caller, wait) in &mut self.waits {
            wait.total += wait.since.map_or(0, |since| now - since);
            wait.since = held.contains(caller).then_some(now);
        }
        let left = held.into_iter().map(|caller| {
            let wait = self.waits.entry(caller).or_insert(Wait {
                first: now,
                total: 0,
                since: Some(now),
            });
            let left = wait.left(now);
            if left == 0 {
                engine.release(caller);
            }
            left
        });
        left.min()
    }

    /// A caller's pass is over.
    pub fn passed(&mut self, caller: u32) {
        self.waits.remove(&caller);
    }
}
