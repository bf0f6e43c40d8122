//! Who must be told that a weight was missing.
//!
//! When a weight can't be read, the thread that waits for it is let go on with NaN in its place: it stands in the
//! middle of an operator and can't be stopped. What it computes must therefore never be handed on: every thread
//! that is inside a block then, or enters one before the NaN is taken away, gets the error when it leaves.

use crate::error::WeightError;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[derive(Debug, Default)]
struct State {
    /// Failures so far, and how many of them have been cured.
    failed: u64,
    cured: u64,
    last: Option<Arc<WeightError>>,
    /// Nobody was inside a block when it happened.
    stray: bool,
    /// For each thread inside a block: how deep, and the failures that don't concern it.
    inside: HashMap<u32, (u32, u64)>,
}

#[derive(Debug, Default)]
pub struct Failures {
    state: Mutex<State>,
}

impl Failures {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A weight is about to be replaced by NaN.
    pub fn report(&self, error: WeightError) {
        let mut state = self.lock();
        state.failed += 1;
        state.stray |= state.inside.is_empty();
        state.last = Some(Arc::new(error));
    }

    /// All substitutes up to failure `failed` are gone.
    pub fn cure(&self, failed: u64) {
        let mut state = self.lock();
        state.cured = state.cured.max(failed);
    }

    /// Failures so far, if any of them has not been cured.
    pub fn uncured(&self) -> Option<u64> {
        let state = self.lock();
        (state.failed > state.cured).then_some(state.failed)
    }

    /// A thread enters a block. An error where a weight was missing outside of all blocks since the last time.
    pub fn enter(&self, thread: u32) -> Result<(), Arc<WeightError>> {
        let mut state = self.lock();
        if state.stray {
            state.stray = false;
            if let Some(error) = state.last.clone() {
                return Err(error);
            }
        }
        let cured = state.cured;
        state.inside.entry(thread).or_insert((0, cured)).0 += 1;
        Ok(())
    }

    /// A thread leaves a block. An error where a weight was missing meanwhile; told once per thread and failure.
    pub fn leave(&self, thread: u32) -> Result<(), Arc<WeightError>> {
        let mut state = self.lock();
        let failed = state.failed;
        let Some((depth, known)) = state.inside.get_mut(&thread) else {
            return Ok(());
        };
        let told = *known >= failed;
        *known = failed;
        *depth = depth.saturating_sub(1);
        if *depth == 0 {
            state.inside.remove(&thread);
        }
        match state.last.clone() {
            Some(error) if !told => Err(error),
            _ => Ok(()),
        }
    }
}
