//! The state of one chunk in one word, changed by compare-and-swap from the pager and from fault handlers.
//!
//! ```text
//!             ready(slot)            publish (pager or fault)
//!   Absent ────────────────> Ready ──────── Moving ───────> Published
//!     ^                        │                                │
//!     └──────── take ──────────┴──────────── Moving <───────────┘  withdraw (pager)
//! ```
//! Only who won the swap to `Moving` touches the page tables. The upper bits hold the slot, or for an absent
//! chunk a count that goes up whenever something about it changed, so that a sleeper never misses it.

use crate::futex;
use std::sync::atomic::{AtomicU32, Ordering};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Not in the pool. Carries a change count.
    Absent(u32),
    /// Complete in this slot, not visible.
    Ready(u32),
    /// Someone is moving its pages.
    Moving,
    /// Visible at its address; its pages belong to this slot.
    Published(u32),
}

const ABSENT: u32 = 0;
const READY: u32 = 1;
const MOVING: u32 = 2;
const PUBLISHED: u32 = 3;

impl State {
    fn word(self) -> u32 {
        match self {
            State::Absent(count) => count << 2 | ABSENT,
            State::Ready(slot) => slot << 2 | READY,
            State::Moving => MOVING,
            State::Published(slot) => slot << 2 | PUBLISHED,
        }
    }

    fn of(word: u32) -> Self {
        match word & 3 {
            ABSENT => State::Absent(word >> 2),
            READY => State::Ready(word >> 2),
            MOVING => State::Moving,
            _ => State::Published(word >> 2),
        }
    }
}

/// One chunk's state.
#[derive(Default)]
pub struct Cell(AtomicU32);

impl Cell {
    pub fn get(&self) -> State {
        State::of(self.0.load(Ordering::Acquire))
    }

    /// From `from` to `to` if nothing came between; true where it did.
    pub fn swap(&self, from: State, to: State) -> bool {
        self.0
            .compare_exchange(from.word(), to.word(), Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// Ends a move that this thread began, and wakes those who wait for the chunk.
    pub fn set(&self, to: State) {
        self.0.store(to.word(), Ordering::Release);
        futex::wake_all(&self.0);
    }

    /// Sleeps until the state is no longer `seen`.
    pub fn wait(&self, seen: State) {
        while self.get() == seen {
            futex::wait(&self.0, seen.word(), None);
        }
    }
}
