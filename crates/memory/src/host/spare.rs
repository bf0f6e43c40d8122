//! Mappings kept for when a process has no other left (vm.max_map_count).

use super::mapping::{page_bytes, protect};
use std::sync::atomic::{AtomicBool, Ordering};

/// A few pages of a reservation, every other one readable, so that no two of them can be one mapping. Given back, they
/// are one with what lies around them.
pub struct Spare {
    at: usize,
    pages: usize,
    lent: AtomicBool,
}

impl Spare {
    /// How much of a reservation `pages` such pages take; each is two mappings.
    pub fn bytes(pages: usize) -> usize {
        (2 * pages + 1) * page_bytes()
    }

    /// Of the untouchable [`bytes`](Self::bytes) from `at` on, which are for nobody else.
    pub fn keep(at: usize, pages: usize) -> Self {
        let spare = Self {
            at,
            pages,
            lent: AtomicBool::new(true),
        };
        spare.take_back();
        spare
    }

    /// What the kernel refuses to `act` is tried again with these mappings given back.
    pub fn lend<E>(&self, act: impl Fn() -> Result<(), E>) -> Result<(), E> {
        act().or_else(|_| {
            self.lent.store(true, Ordering::SeqCst);
            self.each(libc::PROT_NONE);
            act()
        })
    }

    /// Whether some are lent: what mappings there are, are for who borrowed them.
    pub fn is_lent(&self) -> bool {
        self.lent.load(Ordering::SeqCst)
    }

    /// Takes back what was lent, as far as the kernel has it. Not for two threads at once.
    pub fn take_back(&self) {
        if self.is_lent() {
            let complete = self.each(libc::PROT_READ);
            self.lent.store(!complete, Ordering::SeqCst);
        }
    }

    /// Whether the kernel lets all pages have it.
    fn each(&self, protection: libc::c_int) -> bool {
        (0..self.pages).all(|page| {
            let at = self.at + (2 * page + 1) * page_bytes();
            protect(at, page_bytes(), protection).is_ok()
        })
    }
}
