//! Who must be told that a weight was missing, or was written to.
//!
//! When a weight can't be read, the thread that waits for it is let go on with NaN in its place: it stands in the
//! middle of an operator and can't be stopped. Nor can one that writes to a weight, whose pages others read too. What is
//! computed must therefore never be handed on:
//! - every thread that is inside a block then gets the error when it leaves, and nobody else enters one before;
//! - a thread outside of all blocks gets it when it next checks or enters one, and the stream's user is told at once.
//!
//! The NaN, or what was written, is taken away (cured) once everybody inside a block has been told. Earlier it would be read again, in vain,
//! by an operator that is still at it, and that could go on for ever.

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
    /// For each thread inside a block: how deep, and the failures that it knows of.
    inside: HashMap<u32, (u32, u64)>,
    /// The cured failures that each thread knows of. Empty as long as nothing was told.
    told: HashMap<u32, u64>,
}

#[derive(Debug, Default)]
pub struct Failures {
    /// How many there were.
    failed: AtomicU64,
    state: Mutex<State>,
}

type Told = Result<(), Arc<WeightError>>;

impl State {
    fn error(&self) -> Told {
        self.last.clone().map_or(Ok(()), Err)
    }

    fn tell(&mut self, thread: u32) {
        self.outside.remove(&thread);
        // A library's worker is taken for the thread's own.
        self.alone = false;
        if self.told.len() >= MANY && !self.told.contains_key(&thread) {
            self.told.retain(|&thread, _| is_alive(thread));
            self.outside.retain(|&thread| is_alive(thread));
        }
        self.told.insert(thread, self.cured);
    }
}

fn is_alive(thread: u32) -> bool {
    std::fs::exists(format!("/proc/self/task/{thread}")).unwrap_or(true)
}

impl Failures {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self) -> u64 {
        self.failed.load(Ordering::SeqCst)
    }

    /// A weight is about to be replaced by NaN for the `waiting` threads, or to be written by them. Whether one of them is in no block.
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

    /// Failures so far, if there are any to be cured and nobody inside a block is to be told of them.
    pub fn curable(&self) -> Option<u64> {
        let failed = self.count();
        if failed == 0 {
            return None;
        }
        let mut state = self.lock();
        state
            .inside
            .retain(|&thread, &mut (_, known)| known >= failed || is_alive(thread));
        let all_know = state.inside.values().all(|&(_, known)| known >= failed);
        (failed > state.cured && all_know).then_some(failed)
    }

    /// All substitutes up to failure `failed` are gone.
    pub fn cure(&self, failed: u64) {
        let mut state = self.lock();
        state.cured = state.cured.max(failed);
    }

    /// A thread enters a block. An error where a weight was missing outside of all blocks since the last time, or is
    /// missing still.
    pub fn enter(&self, thread: u32) -> Told {
        let mut state = self.lock();
        let failed = self.count();
        let missed = state.outside.remove(&thread) | state.alone;
        if missed || failed > state.cured {
            state.alone = false;
            if let Some((_, known)) = state.inside.get_mut(&thread) {
                *known = failed;
            }
            return state.error();
        }
        if failed > 0 {
            // Whatever the thread did before is over, and everything was cured.
            state.tell(thread);
        }
        state.inside.entry(thread).or_insert((0, failed)).0 += 1;
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
        if !told {
            state.error()?;
        }
        Ok(outermost)
    }

    /// Whether this may be a library's worker, which nobody can tell: it lives, and was never told of anything.
    pub fn is_worker(&self, thread: u32) -> bool {
        !self.lock().told.contains_key(&thread) && is_alive(thread)
    }

    /// Whether this thread is inside a block.
    pub fn is_inside(&self, thread: u32) -> bool {
        self.lock().inside.contains_key(&thread)
    }

    /// Whether another thread than this one, and one that lives, is inside a block.
    pub fn others_inside(&self, thread: u32) -> bool {
        let others: Vec<u32> = {
            let state = self.lock();
            let inside = state.inside.keys().copied();
            inside.filter(|&other| other != thread).collect()
        };
        others.into_iter().any(is_alive)
    }

    /// Whether a thread is inside a block.
    pub fn anybody_inside(&self) -> bool {
        !self.lock().inside.is_empty()
    }

    /// What [`since`](Self::since) takes for whatever is done from now on.
    pub fn mark(&self) -> u64 {
        self.lock().cured
    }

    /// An error where a weight was missing since `mark`.
    pub fn since(&self, mark: u64) -> Told {
        if self.count() <= mark {
            return Ok(());
        }
        self.lock().error()
    }

    /// An error where a weight was missing that the thread has not been told of. Nothing inside a block: the end of
    /// that tells. A thread that was never seen before may hear of something that happened before it began.
    pub fn news(&self, thread: u32) -> Told {
        let state = self.lock();
        let known = state.told.get(&thread).copied().unwrap_or(0);
        if self.count() <= known || state.inside.contains_key(&thread) {
            return Ok(());
        }
        state.error()
    }

    /// An error where a weight was missing outside of all blocks, for the calling thread; where that is the `only` one
    /// but for libraries' workers, also for one of these.
    pub fn outside(&self, thread: u32, only: bool) -> Told {
        let mut state = self.lock();
        let worker = state.alone && only;
        if !worker && !state.outside.contains(&thread) {
            return Ok(());
        }
        state.alone = false;
        state.error()
    }

    /// The thread has been told: what is cured by now does not concern it any more.
    pub fn told(&self, thread: u32) {
        self.lock().tell(thread);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use std::path::Path;
    use weightstream_source::{ReadError, ReadErrorKind};

    const OTHER: u32 = 2;
    const WORKER: u32 = 3;

    fn me() -> u32 {
        std::process::id()
    }

    fn error() -> WeightError {
        WeightError::Unread {
            tensor: "a".into(),
            cause: ReadError {
                path: Path::new("file").into(),
                offset: 0,
                length: 1,
                kind: ReadErrorKind::Abandoned,
            },
        }
    }

    fn cure(failures: &Failures) {
        let failed = failures.curable().unwrap();
        failures.cure(failed);
    }

    #[test]
    fn inside_a_block_everybody_is_told_once() {
        let failures = Failures::default();
        for thread in [me(), OTHER, me()] {
            failures.enter(thread).unwrap();
        }
        assert!(!failures.report(error(), &[me()]));
        assert!(failures.leave(me()).is_err());
        assert!(failures.leave(me()).unwrap());
        assert!(failures.leave(OTHER).is_err());
        cure(&failures);
        failures.enter(OTHER).unwrap();
        assert!(failures.leave(OTHER).unwrap());
    }

    #[test]
    fn threads_that_live_are_inside_until_they_leave() {
        let failures = Failures::default();
        for thread in [me(), u32::MAX] {
            failures.enter(thread).unwrap();
        }
        assert!(failures.is_inside(me()) && !failures.others_inside(me()));
        assert!(failures.others_inside(OTHER));
        failures.leave(me()).unwrap();
        assert!(!failures.is_inside(me()) && !failures.others_inside(OTHER));
    }

    #[test]
    fn whoever_was_told_is_no_worker() {
        let failures = Failures::default();
        assert!(failures.is_worker(me()) && !failures.is_worker(u32::MAX));
        failures.told(me());
        assert!(!failures.is_worker(me()));
    }

    #[test]
    fn nobody_enters_and_nothing_is_cured_before_those_inside_are_told() {
        let failures = Failures::default();
        // A thread that lives, so that it counts.
        failures.enter(me()).unwrap();
        failures.report(error(), &[me()]);
        for _ in 0..2 {
            assert_eq!(failures.curable(), None);
            assert!(failures.enter(OTHER).is_err());
        }
        assert!(failures.leave(me()).is_err());
        cure(&failures);
        failures.enter(OTHER).unwrap();
    }

    #[test]
    fn a_thread_that_ended_inside_a_block_is_not_waited_for() {
        let failures = Failures::default();
        failures.enter(u32::MAX).unwrap();
        failures.report(error(), &[u32::MAX]);
        cure(&failures);
    }

    #[test]
    fn outside_of_all_blocks_it_is_told_by_whatever_comes_first() {
        type Tell = fn(&Failures) -> bool;
        let ways: [Tell; 4] = [
            |failures| failures.enter(me()).is_err(),
            |failures| failures.news(me()).is_err(),
            |failures| failures.since(0).is_err(),
            |failures| failures.outside(me(), false).is_err(),
        ];
        for tell in ways {
            let failures = Failures::default();
            assert_eq!(failures.mark(), 0);
            assert!(failures.report(error(), &[me()]));
            assert!(tell(&failures));
            cure(&failures);
            failures.told(me());
            failures.outside(me(), true).unwrap();
            failures.news(me()).unwrap();
            failures.enter(me()).unwrap();
            failures.leave(me()).unwrap();
        }
    }

    #[test]
    fn what_is_not_cured_is_told_again() {
        let failures = Failures::default();
        failures.report(error(), &[OTHER]);
        for _ in 0..2 {
            assert!(failures.news(OTHER).is_err());
            failures.told(OTHER);
        }
        // Cured while the thread is at it again.
        cure(&failures);
        assert!(failures.news(OTHER).is_err());
        failures.told(OTHER);
        failures.news(OTHER).unwrap();
    }

    #[test]
    fn a_worker_belongs_to_a_block_or_else_to_the_only_user() {
        let failures = Failures::default();
        failures.enter(me()).unwrap();
        assert!(failures.report(error(), &[WORKER]));
        failures.outside(me(), true).unwrap();
        assert!(failures.leave(me()).is_err());
        cure(&failures);
        failures.enter(me()).unwrap();
        failures.leave(me()).unwrap();

        failures.report(error(), &[WORKER]);
        failures.outside(me(), false).unwrap();
        assert!(failures.outside(me(), true).is_err());
    }

    #[test]
    fn whoever_is_told_of_a_workers_failure_is_the_only_one() {
        type Tell = fn(&Failures) -> bool;
        let ways: [Tell; 2] = [
            |failures| failures.news(me()).is_err(),
            |failures| failures.since(0).is_err(),
        ];
        for tell in ways {
            let failures = Failures::default();
            failures.report(error(), &[WORKER]);
            assert!(tell(&failures));
            cure(&failures);
            failures.told(me());
            for thread in [me(), OTHER] {
                failures.enter(thread).unwrap();
                failures.leave(thread).unwrap();
            }
        }
    }
}
