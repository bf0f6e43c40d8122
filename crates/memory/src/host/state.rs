//! The state of one chunk in one word, changed by compare-and-swap from the pager and from fault handlers.
//!
//! ```text
//!             ready(slot)            publish (pager or fault)
//!   Absent ────────────────> Ready ──────── Moving ───────> Published
//!     ^                        │                                │
//!     └──────── take ──────────┴──────────── Moving <───────────┘  withdraw (pager)
//!
//!              ask (fault)             permit (pager)
//!   Published ─────────────> Asked ──────── Moving ───────> Written
//! ```
//! `Asked` and `Written` are withdrawn as `Published` is. In a closed space a touch leads from `Absent` to
//! `Substituted`, for good.
//!
//! Only who won the swap to `Moving` touches the page tables, and only they may end it with `set`; every other
//! change is a swap. The upper bits hold the slot, or for an absent chunk a number that no earlier absence had, so
//! that a sleeper never takes a new absence for the one it fell asleep on.

use crate::sync::atomic::{AtomicU32, Ordering};
use crate::sync::futex;
use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Not in the pool. Which absence of the space this is: see [`ABSENCES`].
    Absent(u32),
    /// Complete in this slot, not visible.
    Ready(u32),
    /// Someone is moving its pages.
    Moving,
    /// Visible at its address; its pages belong to this slot.
    Published(u32),
    /// Published, and a thread waits to write to it.
    Asked(u32),
    /// Published, and writable.
    Written(u32),
    /// No weight: the space was closed, and a stand-in lies at the address.
    Substituted,
}

impl State {
    /// The slot of a chunk that is visible at its address.
    pub fn visible(self) -> Option<u32> {
        match self {
            State::Published(slot) | State::Asked(slot) | State::Written(slot) => Some(slot),
            State::Absent(_) | State::Ready(_) | State::Moving | State::Substituted => None,
        }
    }
}

/// Absences are numbered below this, then again from 0: a sleeper would have to miss a thousand million of them.
pub const ABSENCES: u32 = 1 << 30;

const ABSENT: u32 = 0;
const READY: u32 = 1;
const MOVING: u32 = 2;
const PUBLISHED: u32 = 3;
const SUBSTITUTED: u32 = 1 << 2 | MOVING;
/// In the word of a published chunk, above its slot.
const IS_ASKED: u32 = 1 << 31;
const IS_WRITTEN: u32 = 1 << 30;

impl State {
    fn word(self) -> u32 {
        match self {
            State::Absent(count) => count << 2 | ABSENT,
            State::Ready(slot) => slot << 2 | READY,
            State::Moving => MOVING,
            State::Published(slot) => slot << 2 | PUBLISHED,
            State::Asked(slot) => IS_ASKED | slot << 2 | PUBLISHED,
            State::Written(slot) => IS_WRITTEN | slot << 2 | PUBLISHED,
            State::Substituted => SUBSTITUTED,
        }
    }

    fn of(word: u32) -> Self {
        match word & 3 {
            ABSENT => State::Absent(word >> 2),
            READY => State::Ready(word >> 2),
            MOVING if word == SUBSTITUTED => State::Substituted,
            MOVING => State::Moving,
            _ => {
                let slot = (word & !(IS_ASKED | IS_WRITTEN)) >> 2;
                match word & (IS_ASKED | IS_WRITTEN) {
                    0 => State::Published(slot),
                    IS_ASKED => State::Asked(slot),
                    _ => State::Written(slot),
                }
            }
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

    /// From `from` to `to`; false where something came between. Sleepers go on sleeping: see [`Cell::change`].
    pub fn swap(&self, from: State, to: State) -> bool {
        self.0
            .compare_exchange(from.word(), to.word(), Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// Like [`Cell::swap`], and wakes those who wait for the chunk.
    pub fn change(&self, from: State, to: State) -> bool {
        let changed = self.swap(from, to);
        if changed {
            futex::wake_all(&self.0);
        }
        changed
    }

    /// Ends a move that this thread began, and wakes those who wait for the chunk.
    pub fn set(&self, to: State) {
        self.0.store(to.word(), Ordering::Release);
        futex::wake_all(&self.0);
    }

    /// Sleeps while the state is `seen`, for at most `time`.
    pub fn pause(&self, seen: State, time: Duration) {
        futex::wait(&self.0, seen.word(), Some(time));
    }

    /// Sleeps until the state is no longer `seen`.
    pub fn wait(&self, seen: State) {
        while self.get() == seen {
            futex::wait(&self.0, seen.word(), None);
        }
    }
}
