//! Mappings kept for when a process has no other left (vm.max_map_count).

use super::mapping::{page_bytes, protect};
use std::sync::atomic::{AtomicBool, Ordering};

/// Pages that differ from those around them; each is two mappings. What is to be shown or withdrawn takes a few.
const PAGES: usize = 8;

/// A few pages of a reservation, every other one readable, so that no two of them can be one mapping. Given back, they
/// are one with what lies around them.
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

    /// Gives the mappings back; false where they were given already.
    pub fn give(&self) -> bool {
        let first = !self.given.swap(true, Ordering::SeqCst);
        if first {
            self.each(libc::PROT_NONE);
        }
        first
    }

    /// Takes as many again as the kernel lets have. Not for two threads at once.
    pub fn take_back(&self) {
        if self.given.load(Ordering::SeqCst) {
            self.each(libc::PROT_READ);
            self.given.store(false, Ordering::SeqCst);
        }
    }

    fn each(&self, protection: libc::c_int) {
        for page in 0..PAGES {
            let at = self.at + (2 * page + 1) * page_bytes();
            // One that is refused is no spare mapping, and that is all.
            let _ = protect(at, page_bytes(), protection);
        }
    }
}
