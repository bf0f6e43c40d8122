//! Apple: Mach memory entries, mach/vm_map.h and mach/memory_object_types.h. One for each piece, so that a piece's
//! memory goes back as soon as nothing shows it any more.

use crate::MemoryError;
use mach2::kern_return::{KERN_SUCCESS, kern_return_t};
use mach2::mach_port::mach_port_deallocate;
use mach2::port::mach_port_t;
use mach2::traps::mach_task_self;
use mach2::vm::mach_make_memory_entry_64;
use mach2::vm_inherit::{VM_INHERIT_NONE, vm_inherit_t};
use mach2::vm_prot::{VM_PROT_READ, VM_PROT_WRITE, vm_prot_t};
use mach2::vm_statistics::{VM_FLAGS_FIXED, VM_FLAGS_OVERWRITE};
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

/// A new memory object, rather than a name for memory that there is.
const MAP_MEM_NAMED_CREATE: vm_prot_t = 0x02_0000;

/// `copy` of `vm_map`: writes are seen by everybody who maps the memory, or go to a copy.
const SHARED: libc::c_uint = 0;
const COPIED: libc::c_uint = 1;

unsafe extern "C" {
    // The 64-bit call under its public name: iOS has no header for `mach_vm_map`.
    fn vm_map(
        task: mach_port_t,
        address: *mut usize,
        size: usize,
        mask: usize,
        flags: libc::c_int,
        object: mach_port_t,
        offset: usize,
        copy: libc::c_uint,
        protection: vm_prot_t,
        most: vm_prot_t,
        inheritance: vm_inherit_t,
    ) -> kern_return_t;
}

/// `pieces` pieces of `piece_bytes` bytes each; they take memory as they are written.
pub struct SharedMemory {
    /// The port of each piece's memory.
    pieces: Vec<AtomicU32>,
    piece_bytes: usize,
}

impl SharedMemory {
    pub fn new(pieces: usize, piece_bytes: usize) -> Result<Self, MemoryError> {
        let mut memory = Self {
            pieces: Vec::with_capacity(pieces),
            piece_bytes,
        };
        for _ in 0..pieces {
            let port = create(piece_bytes)?;
            memory.pieces.push(AtomicU32::new(port));
        }
        Ok(memory)
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
        let port = self
            .pieces
            .get(piece as usize)
            .map_or(0, |port| port.load(Ordering::Acquire));
        // SAFETY: as the caller promised.
        unsafe { show(port, self.piece_bytes, at, protection, SHARED) }
    }

    /// Shows a piece at an address for reading and writing; what is written concerns nobody else.
    ///
    /// # Safety
    /// As for [`map`](Self::map).
    pub unsafe fn map_copy(&self, piece: u32, at: usize) -> Result<(), MemoryError> {
        let port = self
            .pieces
            .get(piece as usize)
            .map_or(0, |port| port.load(Ordering::Acquire));
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: as the caller promised.
        unsafe { show(port, self.piece_bytes, at, protection, COPIED) }
    }

    /// Gives the memory of a piece back to the system; it stays mapped, writable, at `at` and reads as zeros.
    ///
    /// # Safety
    /// As for [`map`](Self::map); the piece is mapped nowhere else.
    pub unsafe fn discard(&self, piece: u32, at: usize) {
        let Some(piece) = self.pieces.get(piece as usize) else {
            return;
        };
        // Where the system has no port for it, the memory stays.
        let Ok(fresh) = create(self.piece_bytes) else {
            return;
        };
        // SAFETY: as the caller promised.
        let shown = unsafe {
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            show(fresh, self.piece_bytes, at, protection, SHARED)
        };
        free(match shown {
            Ok(()) => piece.swap(fresh, Ordering::AcqRel),
            Err(_) => fresh,
        });
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        for piece in &self.pieces {
            free(piece.load(Ordering::Acquire));
        }
    }
}

fn create(bytes: usize) -> Result<mach_port_t, MemoryError> {
    let mut size = bytes as u64;
    let mut port = 0;
    // SAFETY: both results have a place; a new object concerns nobody's memory.
    let result = unsafe {
        mach_make_memory_entry_64(
            mach_task_self(),
            &raw mut size,
            0,
            MAP_MEM_NAMED_CREATE | VM_PROT_READ | VM_PROT_WRITE,
            &raw mut port,
            0,
        )
    };
    answer(result, "creating a memory entry", bytes).map(|()| port)
}

/// # Safety
/// `bytes` from `at` on belong to a reservation of the caller's.
unsafe fn show(
    port: mach_port_t,
    bytes: usize,
    at: usize,
    protection: libc::c_int,
    copy: libc::c_uint,
) -> Result<(), MemoryError> {
    let mut address = at;
    // SAFETY: OVERWRITE replaces only what the caller owns. PROT_ and VM_PROT_ have the same values. A child of fork
    // gets nothing of it.
    let result = unsafe {
        vm_map(
            mach_task_self(),
            &raw mut address,
            bytes,
            0,
            VM_FLAGS_FIXED | VM_FLAGS_OVERWRITE,
            port,
            0,
            copy,
            protection,
            VM_PROT_READ | VM_PROT_WRITE,
            VM_INHERIT_NONE,
        )
    };
    answer(result, "mapping a chunk", bytes)
}

fn free(port: mach_port_t) {
    // SAFETY: our own right, given up once; what is mapped of it stays until it is unmapped.
    unsafe { mach_port_deallocate(mach_task_self(), port) };
}

fn answer(result: kern_return_t, action: &'static str, bytes: usize) -> Result<(), MemoryError> {
    if result == KERN_SUCCESS {
        return Ok(());
    }
    Err(MemoryError::Mapping {
        action,
        bytes,
        cause: io::Error::other(format!("the kernel answered {result}")),
    })
}
