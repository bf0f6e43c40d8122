//! Sleeping on a word of memory. Plain system calls: safe to use inside a signal handler.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Sleeps while `word` holds `expected`, until woken or until `timeout` is over. May wake early.
pub fn wait(word: &AtomicU32, expected: u32, timeout: Option<Duration>) {
    let limit = timeout.map(|timeout| libc::timespec {
        tv_sec: timeout.as_secs() as libc::time_t,
        tv_nsec: timeout.subsec_nanos() as libc::c_long,
    });
    let limit = limit.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: the word outlives the call, the time-out is null or a live timespec; FUTEX_WAIT only reads both.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
            expected,
            limit,
        );
    }
}

/// Wakes everyone who sleeps on `word`.
pub fn wake_all(word: &AtomicU32) {
    // SAFETY: FUTEX_WAKE uses the word's address only as a key.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
            i32::MAX,
        );
    }
}

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
            wake_all(&self.rings);
        }
    }

    /// How often it rang so far; pass it to [`Doorbell::wait`] so that no ring in between is missed.
    pub fn rings(&self) -> u32 {
        self.rings.load(Ordering::SeqCst)
    }

    /// Sleeps until the bell has rung since `seen`, or `timeout` is over.
    pub fn wait(&self, seen: u32, timeout: Option<Duration>) {
        self.listening.store(1, Ordering::SeqCst);
        if self.rings.load(Ordering::SeqCst) == seen {
            wait(&self.rings, seen, timeout);
        }
        self.listening.store(0, Ordering::SeqCst);
    }
}
