//! Who must be told that a weight was missing.
//!
//! When a weight can't be read, the thread that waits for it is let go on with NaN in its place: it stands in the
//! middle of an operator and can't be stopped. What it computes must therefore never be handed on:
//! - every thread that is inside a block then, or enters one before the NaN is taken away, gets the error when it leaves;
//! - a thread outside of all blocks gets it when it next checks or enters one, and the stream's user is told at once.

use crate::error::WeightError;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Threads remembered before those that have ended are looked for and forgotten.
const MANY: usize = 256;

#[derive(Debug, Default)]
struct State {
    /// How many failures have been cured.
    cured: u64,
    last: Option<Arc<WeightError>>,
    /// Threads that went on with a substitute outside of all blocks and have not been told.
    outside: HashSet<u32>,
    /// Nobody was inside a block then: a library's worker among them can't have worked for one that will be told at the
    /// end of its block.
    alone: bool,
    /// For each thread inside a block: how deep, and the failures that don't concern it.
    inside: HashMap<u32, (u32, u64)>,
    /// The failures that each thread was told of, or that don't concern it. Empty as long as there was none.
    told: HashMap<u32, u64>,
}

#[derive(Debug, Default)]
pub struct Failures {
    /// How many there were.
    failed: AtomicU64,
    state: Mutex<State>,
}

impl State {
    /// The thread knows now of everything up to failure `failed`.
    fn tell(&mut self, thread: u32, failed: u64) {
        if failed == 0 {
            return;
        }
        self.outside.remove(&thread);
        self.alone &= !self.outside.is_empty();
        if self.told.len() >= MANY && !self.told.contains_key(&thread) {
            self.told.retain(|&thread, _| is_alive(thread));
            self.outside.retain(|&thread| is_alive(thread));
        }
        self.told.insert(thread, failed);
    }
}

fn is_alive(thread: u32) -> bool {
    std::fs::exists(format!("/proc/self/task/{thread}")).unwrap_or(true)
}

impl Failures {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Failures so far.
    pub fn count(&self) -> u64 {
        self.failed.load(Ordering::SeqCst)
    }

    /// A weight is about to be replaced by NaN for the `waiting` threads. Whether one of them is in no block.
    pub fn report(&self, error: WeightError, waiting: &[u32]) -> bool {
        let mut state = self.lock();
        self.failed.fetch_add(1, Ordering::SeqCst);
        state.last = Some(Arc::new(error));
        let outside: Vec<u32> = waiting
            .iter()
            .copied()
            .filter(|thread| !state.inside.contains_key(thread))
            .collect();
        state.alone |= !outside.is_empty() && state.inside.is_empty();
        state.outside.extend(&outside);
        !outside.is_empty()
    }

    /// All substitutes up to failure `failed` are gone.
    pub fn cure(&self, failed: u64) {
        let mut state = self.lock();
        state.cured = state.cured.max(failed);
    }

    /// Failures so far, if any of them has not been cured.
    pub fn uncured(&self) -> Option<u64> {
        let failed = self.count();
        (failed > 0 && failed > self.lock().cured).then_some(failed)
    }

    /// A thread enters a block. An error where a weight was missing outside of all blocks since the last time.
    pub fn enter(&self, thread: u32) -> Result<(), Arc<WeightError>> {
        let mut state = self.lock();
        if state.alone || state.outside.contains(&thread) {
            state.alone = false;
            state.tell(thread, self.count());
            if let Some(error) = state.last.clone() {
                return Err(error);
            }
        }
        let cured = state.cured;
        state.inside.entry(thread).or_insert((0, cured)).0 += 1;
        Ok(())
    }

    /// A thread leaves a block; whether that was the outermost. An error where a weight was missing meanwhile; told
    /// once per thread and failure.
    pub fn leave(&self, thread: u32) -> Result<bool, Arc<WeightError>> {
        let mut state = self.lock();
        let failed = self.count();
        let Some((depth, known)) = state.inside.get_mut(&thread) else {
            return Ok(true);
        };
        let told = *known >= failed;
        *known = failed;
        *depth = depth.saturating_sub(1);
        let outermost = *depth == 0;
        if outermost {
            state.inside.remove(&thread);
        }
        state.tell(thread, failed);
        match state.last.clone() {
            Some(error) if !told => Err(error),
            _ => Ok(outermost),
        }
    }

    /// An error where a weight was missing since failure `since`.
    pub fn since(&self, thread: u32, since: u64) -> Result<(), Arc<WeightError>> {
        if self.count() <= since {
            return Ok(());
        }
        let (mut state, failed) = (self.lock(), self.count());
        state.tell(thread, failed);
        state.last.clone().map_or(Ok(()), Err)
    }

    /// An error where a weight was missing that the thread has not been told of. Nothing inside a block: the end of
    /// that tells. A thread that was never seen before may hear of something that happened before it began.
    pub fn news(&self, thread: u32) -> Result<(), Arc<WeightError>> {
        if self.count() == 0 {
            return Ok(());
        }
        let known = {
            let state = self.lock();
            if state.inside.contains_key(&thread) {
                return Ok(());
            }
            state.told.get(&thread).copied().unwrap_or(0)
        };
        self.since(thread, known)
    }

    /// An error where a weight was missing outside of all blocks, for the calling thread or for one that may have
    /// worked for it.
    pub fn outside(&self, thread: u32) -> Result<(), Arc<WeightError>> {
        if self.count() == 0 {
            return Ok(());
        }
        let mut state = self.lock();
        if !state.alone && !state.outside.contains(&thread) {
            return Ok(());
        }
        state.alone = false;
        state.tell(thread, self.count());
        state.last.clone().map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use std::path::Path;
    use weightstream_source::{ReadError, ReadErrorKind};

    const ME: u32 = 1;
    const OTHER: u32 = 2;
    const WORKER: u32 = 3;

    fn error() -> WeightError {
        WeightError {
            tensor: "a".into(),
            cause: ReadError {
                path: Path::new("file").into(),
                offset: 0,
                length: 1,
                kind: ReadErrorKind::Abandoned,
            },
        }
    }

    #[test]
    fn inside_a_block_everybody_is_told_once() {
        let failures = Failures::default();
        for thread in [ME, OTHER, ME] {
            failures.enter(thread).unwrap();
        }
        assert!(!failures.report(error(), &[ME]));
        assert!(failures.leave(ME).is_err());
        assert!(failures.leave(ME).unwrap());
        assert!(failures.leave(OTHER).is_err());
        failures.cure(1);
        failures.enter(OTHER).unwrap();
        assert!(failures.leave(OTHER).unwrap());
    }

    #[test]
    fn who_enters_before_the_cure_is_told() {
        let failures = Failures::default();
        failures.enter(OTHER).unwrap();
        failures.report(error(), &[OTHER]);
        failures.enter(ME).unwrap();
        failures.cure(1);
        assert!(failures.leave(ME).is_err());
        assert!(failures.leave(OTHER).is_err());
        assert_eq!(failures.uncured(), None);
    }

    #[test]
    fn outside_of_all_blocks_it_is_told_by_whatever_comes_first() {
        type Tell = fn(&Failures) -> bool;
        let ways: [Tell; 4] = [
            |failures| failures.enter(ME).is_err(),
            |failures| failures.news(ME).is_err(),
            |failures| failures.since(ME, 0).is_err(),
            |failures| failures.outside(ME).is_err(),
        ];
        for tell in ways {
            let failures = Failures::default();
            assert!(failures.report(error(), &[ME]));
            assert!(tell(&failures));
            failures.cure(1);
            failures.outside(ME).unwrap();
            failures.news(ME).unwrap();
            failures.enter(ME).unwrap();
            failures.leave(ME).unwrap();
        }
    }

    #[test]
    fn a_worker_of_a_block_may_also_have_worked_for_someone_outside() {
        let failures = Failures::default();
        failures.enter(ME).unwrap();
        assert!(failures.report(error(), &[WORKER]));
        assert!(failures.leave(ME).is_err());
        failures.outside(ME).unwrap();
        failures.enter(ME).unwrap();
        assert!(failures.news(OTHER).is_err());
    }
}
