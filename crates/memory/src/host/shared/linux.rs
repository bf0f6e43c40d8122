//! Linux: a memory file, memfd_create(2).

use crate::MemoryError;
use crate::host::mapping::last_error;
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd};

/// `pieces` pieces of `piece_bytes` bytes each; they take memory as they are written.
pub struct SharedMemory {
    file: File,
    piece_bytes: usize,
}

impl SharedMemory {
    pub fn new(pieces: usize, piece_bytes: usize) -> Result<Self, MemoryError> {
        let bytes = pieces * piece_bytes;
        // The C library of Android has no function for it before API 30.
        // SAFETY: the name is a C string.
        let descriptor = unsafe {
            libc::syscall(
                libc::SYS_memfd_create,
                c"weightstream".as_ptr(),
                libc::MFD_CLOEXEC,
            )
        };
        if descriptor < 0 {
            return Err(last_error("creating a memory file", bytes));
        }
        // SAFETY: the descriptor is new and nobody else's.
        let file = unsafe { File::from_raw_fd(descriptor as libc::c_int) };
        file.set_len(bytes as u64)
            .map_err(|cause| MemoryError::Mapping {
                action: "sizing a memory file",
                bytes,
                cause,
            })?;
        Ok(Self { file, piece_bytes })
    }

    /// Shows a piece at an address, in one step, in the place of what was mapped there.
    ///
    /// # Safety
    /// The piece's bytes from `at` on belong to a reservation of the caller's.
    pub unsafe fn map(
        &self,
        piece: u32,
        at: usize,
        protection: libc::c_int,
    ) -> Result<(), MemoryError> {
        // SAFETY: as the caller promised.
        unsafe { self.show(piece, at, protection, libc::MAP_SHARED) }
    }

    /// Shows a piece at an address for reading and writing; what is written concerns nobody else.
    ///
    /// # Safety
    /// As for [`map`](Self::map).
    pub unsafe fn map_copy(&self, piece: u32, at: usize) -> Result<(), MemoryError> {
        // SAFETY: as the caller promised.
        unsafe {
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            self.show(piece, at, protection, libc::MAP_PRIVATE)
        }
    }

    unsafe fn show(
        &self,
        piece: u32,
        at: usize,
        protection: libc::c_int,
        sharing: libc::c_int,
    ) -> Result<(), MemoryError> {
        // SAFETY: MAP_FIXED replaces only what the caller owns.
        let mapped = unsafe {
            libc::mmap(
                at as *mut libc::c_void,
                self.piece_bytes,
                protection,
                sharing | libc::MAP_FIXED,
                self.file.as_raw_fd(),
                (piece as usize * self.piece_bytes) as libc::off_t,
            )
        };
        if mapped == libc::MAP_FAILED {
            return Err(last_error("mapping a chunk", self.piece_bytes));
        }
        Ok(())
    }

    /// Gives the memory of a piece back to the system; it stays mapped, writable, at `at` and reads as zeros.
    ///
    /// # Safety
    /// As for [`map`](Self::map); the piece is mapped nowhere else.
    pub unsafe fn discard(&self, _piece: u32, at: usize) {
        // SAFETY: the caller has no more use for these bytes.
        unsafe { libc::madvise(at as *mut libc::c_void, self.piece_bytes, libc::MADV_REMOVE) };
    }
}
