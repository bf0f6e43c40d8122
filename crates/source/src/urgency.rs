//! Threads that keep a disk busy work a few microseconds at a time and must not wait for their turn.

/// Asks the scheduler to let this thread run as soon as it wakes. Computing threads use every processor there is, and
/// some spin while they wait for each other: without this, a read that has ended lies for milliseconds until somebody
/// starts the next one. What is not permitted is left out; nothing depends on it but speed.
pub fn raise_urgency() {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    linux::raise();
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod linux {
    /// Shorter slices run earlier (EEVDF; Linux 6.12 and later heed it, no privilege needed).
    const SLICE_NANOSECONDS: u64 = 100_000;
    const NICE: i32 = -10;
    /// `SCHED_OTHER`, which Android's headers call `SCHED_NORMAL`.
    const ORDINARY: u32 = 0;

    /// `struct sched_attr` of Linux' include/uapi/linux/sched/types.h, version 0.
    #[repr(C)]
    struct Attributes {
        size: u32,
        policy: u32,
        flags: u64,
        nice: i32,
        priority: u32,
        runtime: u64,
        deadline: u64,
        period: u64,
    }

    pub fn raise() {
        // The nice value needs a privilege, the slice does not.
        let _ = set(NICE) || set(0);
    }

    fn set(nice: i32) -> bool {
        let attributes = Attributes {
            size: size_of::<Attributes>() as u32,
            policy: ORDINARY,
            flags: 0,
            nice,
            priority: 0,
            runtime: SLICE_NANOSECONDS,
            deadline: 0,
            period: 0,
        };
        // SAFETY: the kernel reads `size` bytes of a live structure and changes this thread only.
        unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) == 0 }
    }
}
