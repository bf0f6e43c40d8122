//! Apple: os/os_sync_wait_on_address.h, from iOS 17.4 and macOS 14.4 on.

use std::sync::atomic::AtomicU32;
use std::time::Duration;

/// Sleeps while `word` holds `expected`, until woken or until `timeout` is over. May wake early.
pub fn wait(word: &AtomicU32, expected: u32, timeout: Option<Duration>) {
    let address = word.as_ptr().cast();
    // SAFETY: the word outlives the call, which only reads it.
    unsafe {
        match timeout {
            None => libc::os_sync_wait_on_address(
                address,
                u64::from(expected),
                size_of::<u32>(),
                libc::OS_SYNC_WAIT_ON_ADDRESS_NONE,
            ),
            Some(timeout) => libc::os_sync_wait_on_address_with_timeout(
                address,
                u64::from(expected),
                size_of::<u32>(),
                libc::OS_SYNC_WAIT_ON_ADDRESS_NONE,
                libc::OS_CLOCK_MACH_ABSOLUTE_TIME,
                // 0 is refused.
                u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX).max(1),
            ),
        };
    }
}

/// Wakes everyone who sleeps on `word`.
pub fn wake_all(word: &AtomicU32) {
    // SAFETY: the address is only a key.
    unsafe {
        libc::os_sync_wake_by_address_all(
            word.as_ptr().cast(),
            size_of::<u32>(),
            libc::OS_SYNC_WAKE_BY_ADDRESS_NONE,
        );
    }
}
