//! Which faults came to our handler, so that one is not taken for another that went elsewhere.

use std::sync::atomic::{AtomicU64, Ordering};

/// More threads than anyone computes with at once; of more, some are forgotten.
const THREADS: usize = 4096;

/// The last fault of each thread, as a handler of signals may write it down.
pub struct Seen([AtomicU64; THREADS]);

impl Seen {
    pub const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; THREADS])
    }

    pub fn note(&self, thread: u32, address: usize) {
        if let Some(last) = self.0.get(thread as usize % THREADS) {
            last.store(address as u64, Ordering::Relaxed);
        }
    }

    /// Whether it was the last fault of a thread. Of any: a thread inherits its registers from the one that starts it.
    pub fn has(&self, address: usize) -> bool {
        (self.0.iter()).any(|last| last.load(Ordering::Relaxed) == address as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_fault_of_each_thread_is_known() {
        let seen = Seen::new();
        seen.note(1, 10);
        seen.note(2, 20);
        seen.note(1, 30);
        assert!(seen.has(30) && seen.has(20) && !seen.has(10));
        // Shares the place of thread 2.
        seen.note(2 + THREADS as u32, 40);
        assert!(seen.has(40) && !seen.has(20));
    }
}
