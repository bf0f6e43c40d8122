//! How long callers wait for each other.
//!
//! The engine holds a caller back that is ahead of another one in the same pass, so that both can go on with one read
//! for two. It knows no time, and can't tell a caller that computes from one that sleeps, or that waits for a lock
//! which the caller ahead holds. So nobody is waited for who shows no sign of life, and nobody waits for more than half
//! of its time.

use std::collections::HashMap;
use std::time::Duration;
use weightstream_engine::Engine;

/// In nanoseconds: without a sign for so long, a caller is left behind.
const SILENCE: u64 = 100_000_000;

#[derive(Debug, Default)]
pub struct Patience {
    /// For whom callers are held, as the engine tells it, and since when that is the same.
    waiting: Option<((u32, u64), u64)>,
    /// When it was looked at last.
    looked: u64,
    /// Of each caller: when it was held first in its pass, and for how long altogether.
    held: HashMap<u32, (u64, u64)>,
}

impl Patience {
    /// Called after every decision of the engine; true where it is to decide anew, as somebody's patience was over.
    pub fn is_over(&mut self, engine: &mut Engine, now: u64) -> bool {
        let passed = now.saturating_sub(std::mem::replace(&mut self.looked, now));
        let Some(seen) = engine.holding() else {
            self.waiting = None;
            return false;
        };
        let was_held = self.waiting.is_some();
        let mut over = false;
        let mut callers = engine.held().to_vec();
        callers.sort_unstable();
        callers.dedup();
        for caller in callers {
            let (since, total) = self.held.entry(caller).or_insert((now, 0));
            *total += if was_held { passed } else { 0 };
            if *total > SILENCE + (now - *since) / 2 {
                engine.release(caller);
                over = true;
            }
        }
        match self.waiting {
            Some((waiting, since)) if waiting == seen => {
                if now.saturating_sub(since) > SILENCE {
                    engine.leave_behind(seen.0);
                    self.waiting = None;
                    over = true;
                }
            }
            _ => self.waiting = Some((seen, now)),
        }
        over
    }

    /// When to look again, if nothing happens before.
    pub fn lasts(&self) -> Option<Duration> {
        self.waiting.map(|_| Duration::from_nanos(SILENCE))
    }

    /// A caller's pass is over.
    pub fn passed(&mut self, caller: u32) {
        self.held.remove(&caller);
    }
}
