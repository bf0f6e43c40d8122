//! A range of reserved addresses, given back when dropped.

use crate::MemoryError;
use std::io;

/// Huge pages need this alignment of both ends of a move.
pub const ALIGNMENT: usize = 2 << 20;

/// This machine's page size in bytes.
pub fn page_bytes() -> usize {
    // SAFETY: sysconf has no preconditions.
    let answer = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(answer).unwrap_or(4096)
}

/// Address space of `length` bytes that starts at a multiple of [`ALIGNMENT`]. Costs no memory until it is used.
pub struct Mapping {
    raw: *mut libc::c_void,
    raw_length: usize,
    base: usize,
}

// SAFETY: a Mapping is a pair of numbers; what may be done to the memory is its owner's argument.
unsafe impl Send for Mapping {}
// SAFETY: as above; no method changes it.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Reserves `length` bytes with the given protection (PROT_NONE: no touch succeeds).
    pub fn reserve(length: usize, protection: libc::c_int) -> Result<Self, MemoryError> {
        let raw_length = length + ALIGNMENT;
        // SAFETY: an anonymous mapping at an address of the kernel's choice touches nobody's memory.
        let raw = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                raw_length,
                protection,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if raw == libc::MAP_FAILED {
            return Err(last_error("reserving address space", raw_length));
        }
        let base = (raw as usize).next_multiple_of(ALIGNMENT);
        Ok(Self {
            raw,
            raw_length,
            base,
        })
    }

    /// The first address.
    pub fn base(&self) -> usize {
        self.base
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this range came from mmap in `reserve`, everything inside it was mapped over it with MAP_FIXED,
        // and its owner is gone.
        unsafe { libc::munmap(self.raw, self.raw_length) };
    }
}

/// Puts untouchable address space in the place of what lies in this range of one of our reservations. A plain
/// system call: safe to use inside a signal handler and in a child of fork.
pub fn forbid(at: usize, bytes: usize) -> Result<(), MemoryError> {
    // SAFETY: every caller passes a range inside one of our reservations.
    let mapped = unsafe {
        libc::mmap(
            at as *mut libc::c_void,
            bytes,
            libc::PROT_NONE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED,
            -1,
            0,
        )
    };
    if mapped == libc::MAP_FAILED {
        return Err(last_error("withdrawing a chunk", bytes));
    }
    Ok(())
}

/// Changes what may be done with a part of one of our reservations. A plain system call, as [`forbid`].
pub fn protect(at: usize, bytes: usize, protection: libc::c_int) -> Result<(), MemoryError> {
    // SAFETY: every caller passes whole pages inside one of our reservations.
    if unsafe { libc::mprotect(at as *mut libc::c_void, bytes, protection) } != 0 {
        return Err(last_error("protecting memory", bytes));
    }
    Ok(())
}

/// The kernel's last answer, with what was tried.
pub fn last_error(action: &'static str, bytes: usize) -> MemoryError {
    MemoryError::Mapping {
        action,
        bytes,
        cause: io::Error::last_os_error(),
    }
}
