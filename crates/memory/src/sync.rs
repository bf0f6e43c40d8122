//! What the protocol between pager and fault handlers is built of. Unit tests put shuttle's atomics and a model of
//! the futex here, and so run the same code through thousands of interleavings.

#[cfg(not(test))]
pub(crate) use crate::futex;
#[cfg(not(test))]
pub use std::{sync::atomic, thread::yield_now};

#[cfg(test)]
pub use shuttle::{sync::atomic, thread::yield_now};

/// The futex of the model: a word is looked at and slept on in one step, and only a wake of that word ends the sleep.
#[cfg(test)]
pub mod futex {
    use super::atomic::{AtomicU32, Ordering};
    use shuttle::sync::{Condvar, Mutex};
    use std::collections::HashMap;
    use std::sync::Arc;
    use std::time::Duration;

    shuttle::lazy_static! {
        static ref SLEEPERS: Mutex<HashMap<usize, Arc<Condvar>>> = Mutex::new(HashMap::new());
    }

    fn key(word: &AtomicU32) -> usize {
        std::ptr::from_ref(word) as usize
    }

    pub fn wait(word: &AtomicU32, expected: u32, timeout: Option<Duration>) {
        assert_eq!(timeout, None, "the model has no clock");
        let mut sleepers = SLEEPERS.lock().unwrap();
        if word.load(Ordering::SeqCst) == expected {
            let bed = sleepers.entry(key(word)).or_default().clone();
            drop(bed.wait(sleepers).unwrap());
        }
    }

    pub fn wake_all(word: &AtomicU32) {
        if let Some(bed) = SLEEPERS.lock().unwrap().get(&key(word)) {
            bed.notify_all();
        }
    }
}
