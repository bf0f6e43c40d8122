//! Mappings kept for when a process has no other left (vm.max_map_count).

use super::mapping::{page_bytes, protect};
use std::sync::atomic::{AtomicBool, Ordering};

/// Two mappings each. To withdraw a chunk takes up to a dozen for a moment.
const PAGES: usize = 8;

/// A few pages of a reservation, every other one readable, so that no two of them can be one mapping. Given back, they
/// are one with what lies around them. For one thread at a time.
pub struct Spare {
    at: usize,
    given: AtomicBool,
}

impl Spare {
    /// How much of a reservation they take.
    pub fn bytes() -> usize {
        (2 * PAGES + 1) * page_bytes()
    }

    /// Of the untouchable [`bytes`](Self::bytes) from `at` on, which are for nobody else.
    pub fn keep(at: usize) -> Self {
        let spare = Self {
            at,
            given: AtomicBool::new(true),
        };
        spare.take_back();
        spare
    }

    /// What the kernel refuses to `act` is tried again with these mappings given back, and they are taken again after.
    pub fn lend<E>(&self, act: impl Fn() -> Result<(), E>) -> Result<(), E> {
        act().or_else(|_| {
            self.give();
            act()
        })?;
        self.take_back();
        Ok(())
    }

    /// Gives them to whoever comes first.
    pub fn give(&self) {
        self.given.store(true, Ordering::Relaxed);
        self.each(libc::PROT_NONE);
    }

    /// As many as the kernel has.
    fn take_back(&self) {
        if self.given.load(Ordering::Relaxed) {
            let complete = self.each(libc::PROT_READ);
            self.given.store(!complete, Ordering::Relaxed);
        }
    }

    /// Whether the kernel lets all pages have it.
    fn each(&self, protection: libc::c_int) -> bool {
        (0..PAGES).all(|page| {
            let at = self.at + (2 * page + 1) * page_bytes();
            protect(at, page_bytes(), protection).is_ok()
        })
    }
}
