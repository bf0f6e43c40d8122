//! Jobs that wait for a thread.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, PoisonError};

use crate::lock;
use crate::read::Job;

/// First in, first out.
#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    closed: bool,
}

impl Queue {
    pub(crate) fn push(&self, jobs: Vec<Job>) {
        let several = jobs.len() > 1;
        lock(&self.state).jobs.extend(jobs);
        if several {
            self.changed.notify_all();
        } else {
            self.changed.notify_one();
        }
    }

    /// Waits for a job; `None` once closed.
    pub(crate) fn take(&self) -> Option<Job> {
        let state = lock(&self.state);
        let idle = |state: &mut State| state.jobs.is_empty() && !state.closed;
        let waited = self.changed.wait_while(state, idle);
        waited
            .unwrap_or_else(PoisonError::into_inner)
            .jobs
            .pop_front()
    }

    /// Abandons the jobs that wait.
    pub(crate) fn close(&self) {
        let abandoned = {
            let mut state = lock(&self.state);
            state.closed = true;
            std::mem::take(&mut state.jobs)
        };
        self.changed.notify_all();
        drop(abandoned);
    }
}
