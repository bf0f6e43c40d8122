//! Which object owns an address: a table that a signal handler can search while others enter and leave.

use crate::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering};
use crate::sync::yield_now;
use std::ptr::null_mut;

struct Entry<T> {
    /// Null where the entry is free.
    owner: AtomicPtr<T>,
    base: AtomicUsize,
    /// 0 where the owner is entering or leaving.
    length: AtomicUsize,
    /// Searches that look at this entry now; its owner leaves only at zero.
    visitors: AtomicU32,
}

pub struct Table<T, const LIMIT: usize> {
    entries: [Entry<T>; LIMIT],
    /// No entry from here on was ever used.
    used: AtomicUsize,
}

impl<T, const LIMIT: usize> Table<T, LIMIT> {
    pub const fn new() -> Self {
        Self {
            entries: [const {
                Entry {
                    owner: AtomicPtr::new(null_mut()),
                    base: AtomicUsize::new(0),
                    length: AtomicUsize::new(0),
                    visitors: AtomicU32::new(0),
                }
            }; LIMIT],
            used: AtomicUsize::new(0),
        }
    }

    fn used(&self) -> &[Entry<T>] {
        let used = self.used.load(Ordering::SeqCst);
        self.entries.get(..used).unwrap_or(&self.entries)
    }

    /// Enters the owner of `length` bytes from `base` on; None where the table is full.
    ///
    /// # Safety
    /// `owner` stays alive until [`Table::leave`] has returned for this index.
    pub unsafe fn enter(&self, owner: *const T, base: usize, length: usize) -> Option<usize> {
        let index = self.entries.iter().position(|entry| {
            entry
                .owner
                .compare_exchange(
                    null_mut(),
                    owner.cast_mut(),
                    Ordering::SeqCst,
                    Ordering::SeqCst,
                )
                .is_ok()
        })?;
        let entry = self.entries.get(index)?;
        entry.base.store(base, Ordering::SeqCst);
        entry.length.store(length, Ordering::SeqCst);
        self.used.fetch_max(index + 1, Ordering::SeqCst);
        Some(index)
    }

    /// Removes an entry, and returns when no search looks at its owner any more.
    pub fn leave(&self, index: usize) {
        let Some(entry) = self.entries.get(index) else {
            return;
        };
        entry.length.store(0, Ordering::SeqCst);
        while entry.visitors.load(Ordering::SeqCst) != 0 {
            yield_now();
        }
        entry.owner.store(null_mut(), Ordering::SeqCst);
    }

    /// Shows `look` the owner of `address`, if there is one. An entry that changes meanwhile may show another owner.
    pub fn visit<R>(&self, address: usize, look: impl FnOnce(&T) -> R) -> Option<R> {
        let entry = self.used().iter().find(|entry| entry.covers(address))?;
        entry.visitors.fetch_add(1, Ordering::SeqCst);
        // In this order: a length that is not 0 now was stored by an owner who looks for visitors after storing 0,
        // so it is alive until we are gone, and the pointer, stored before the length, is its own.
        let owner = if entry.covers(address) {
            entry.owner.load(Ordering::SeqCst)
        } else {
            null_mut()
        };
        // SAFETY: as said above, alive as `enter` was promised.
        let seen = unsafe { owner.as_ref() }.map(look);
        entry.visitors.fetch_sub(1, Ordering::SeqCst);
        seen
    }

    /// In a child of fork only the forking thread goes on: whoever was visiting never leaves. Calls `each` with the
    /// addresses of every entry.
    pub fn forked(&self, each: impl Fn(usize, usize)) {
        for entry in self.used() {
            entry.visitors.store(0, Ordering::SeqCst);
            let length = entry.length.load(Ordering::SeqCst);
            if length != 0 {
                each(entry.base.load(Ordering::SeqCst), length);
            }
        }
    }
}

impl<T> Entry<T> {
    fn covers(&self, address: usize) -> bool {
        let length = self.length.load(Ordering::SeqCst);
        let base = self.base.load(Ordering::SeqCst);
        address.checked_sub(base).is_some_and(|at| at < length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shuttle::sync::Arc;
    use shuttle::sync::atomic::AtomicBool;
    use shuttle::thread;

    /// Owners come and go at the same address while two threads search: none is seen after it has left.
    #[test]
    fn nobody_is_seen_after_leaving() {
        struct Owner {
            alive: AtomicBool,
        }
        shuttle::check_random(
            || {
                let table = Arc::new(Table::<Owner, 2>::new());
                let owners: Vec<_> = (0..2)
                    .map(|_| {
                        let table = table.clone();
                        thread::spawn(move || {
                            for _ in 0..3 {
                                // Never freed, so that a late visitor finds a dead owner and not a reused one.
                                let owner = Box::leak(Box::new(Owner {
                                    alive: AtomicBool::new(true),
                                }));
                                // SAFETY: leaked.
                                let index = unsafe { table.enter(owner, 100, 10) }.unwrap();
                                thread::yield_now();
                                table.leave(index);
                                owner.alive.store(false, Ordering::SeqCst);
                            }
                        })
                    })
                    .collect();
                for _ in 0..4 {
                    table.visit(105, |owner| {
                        assert!(owner.alive.load(Ordering::SeqCst));
                        thread::yield_now();
                        assert!(owner.alive.load(Ordering::SeqCst));
                    });
                    assert_eq!(table.visit(110, |_| ()), None);
                }
                for owner in owners {
                    owner.join().unwrap();
                }
            },
            3000,
        );
    }
}
