//! Waking the pager.

use crate::sync::atomic::{AtomicU32, Ordering};
use crate::sync::futex;
use std::time::Duration;

/// A bell for one listener: ringing it is cheap and allowed in a signal handler.
#[derive(Default)]
pub struct Doorbell {
    rings: AtomicU32,
    listening: AtomicU32,
}

impl Doorbell {
    /// Wakes the listener, or makes its next wait return at once.
    pub fn ring(&self) {
        self.rings.fetch_add(1, Ordering::SeqCst);
        if self.listening.load(Ordering::SeqCst) != 0 {
            futex::wake_all(&self.rings);
        }
    }

    /// How often it rang so far; pass it to [`Doorbell::wait`] so that no ring in between is missed.
    pub fn rings(&self) -> u32 {
        self.rings.load(Ordering::SeqCst)
    }

    /// Sleeps until the bell has rung since `seen`, or `timeout` is over. May wake early.
    pub fn wait(&self, seen: u32, timeout: Option<Duration>) {
        self.listening.store(1, Ordering::SeqCst);
        if self.rings.load(Ordering::SeqCst) == seen {
            futex::wait(&self.rings, seen, timeout);
        }
        self.listening.store(0, Ordering::SeqCst);
    }
}
