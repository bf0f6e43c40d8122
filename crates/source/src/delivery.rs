//! A thread that delivers completions when they are due, for the doubles.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use crate::error::OpenError;
use crate::lock;
use crate::request::{Completion, OnCompletion};

/// Completions and when they are due. Dropping it delivers the rest at once.
pub(crate) struct Delivery {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// Puts completions into a [`Delivery`].
#[derive(Clone)]
pub(crate) struct Mailbox(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: BinaryHeap<Reverse<Letter>>,
    posted: u64,
    closed: bool,
}

struct Letter {
    due: Instant,
    number: u64,
    completion: Completion,
}

impl Delivery {
    pub(crate) fn start(on_completion: OnCompletion) -> Result<Self, OpenError> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let mailbox = Arc::clone(&shared);
        let thread = crate::spawn(move || {
            while let Some(completion) = mailbox.next() {
                on_completion(completion);
            }
        })?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    pub(crate) fn mailbox(&self) -> Mailbox {
        Mailbox(Arc::clone(&self.shared))
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        lock(&self.shared.state).closed = true;
        self.shared.changed.notify_all();
        self.thread.take().into_iter().for_each(crate::join);
    }
}

impl Mailbox {
    pub(crate) fn post(&self, due: Instant, completion: Completion) {
        let mut state = lock(&self.0.state);
        state.posted += 1;
        let number = state.posted;
        state.waiting.push(Reverse(Letter {
            due,
            number,
            completion,
        }));
        self.0.changed.notify_all();
    }
}

impl Shared {
    /// Waits for the next one to be due; `None` once closed and empty.
    fn next(&self) -> Option<Completion> {
        let mut state = lock(&self.state);
        loop {
            let now = Instant::now();
            let due = state.waiting.peek().map(|Reverse(letter)| letter.due);
            state = match due {
                Some(due) if due > now && !state.closed => {
                    let waited = self.changed.wait_timeout(state, due - now);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                Some(_) => return state.waiting.pop().map(|Reverse(letter)| letter.completion),
                None if state.closed => return None,
                None => self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

impl Ord for Letter {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.number).cmp(&(other.due, other.number))
    }
}

impl PartialOrd for Letter {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Letter {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Letter {}
