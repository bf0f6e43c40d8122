//! The signal of touches in a thread's mask.

use super::fault::SIGNAL;
use std::mem::MaybeUninit;

/// Unblocks the signal that a touch raises, in the calling thread; whether it was blocked. Threads inherit it blocked
/// from whoever blocks all signals while starting them. The kernel ends a process of which a thread faults with the
/// signal blocked, whatever handler there is.
pub fn unblock_faults() -> bool {
    // SAFETY: the sets are this function's own, and only this thread's mask changes.
    unsafe {
        let mut signals = MaybeUninit::uninit();
        let mut before = MaybeUninit::zeroed();
        libc::sigemptyset(signals.as_mut_ptr());
        libc::sigaddset(signals.as_mut_ptr(), SIGNAL);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, signals.as_ptr(), before.as_mut_ptr());
        libc::sigismember(before.as_ptr(), SIGNAL) == 1
    }
}

/// Whether a mask has the signal blocked: bit n - 1 is for signal n, as in the kernel's words on a thread.
pub fn blocks_faults(mask: u64) -> bool {
    mask >> (SIGNAL - 1) & 1 != 0
}
