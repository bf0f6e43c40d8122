//! Memory of activations: blocks are kept for the next one of about the same size, and the peak is known.

use crate::OperatorError;
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::collections::BTreeMap;
use std::ptr::{self, NonNull};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Every block begins at a multiple of this many bytes.
const ALIGNMENT: usize = 64;
/// Blocks of at least this many bytes are kept for reuse; the allocator is good at smaller ones. They are mappings of
/// their own: an allocator keeps what lies between blocks that are in use, a fifth of a convolutional network's peak.
const KEPT: usize = 64 << 10;
/// What their lengths are multiples of: the largest page of the systems that are supported.
const PAGE: usize = 16 << 10;

/// Where activations live. Several threads may share one.
#[derive(Default)]
pub struct Arena {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Bytes of blocks in use.
    used: usize,
    /// Bytes of blocks in `free`.
    free_bytes: usize,
    /// The most that `used` and `free_bytes` were together.
    peak: usize,
    /// Blocks that wait for reuse, by their size in bytes.
    free: BTreeMap<usize, Vec<NonNull<u8>>>,
}

// SAFETY: the free blocks belong to the arena alone, wherever it goes.
unsafe impl Send for Inner {}

/// A block of memory; dropping it gives it back.
pub struct Block {
    pointer: NonNull<u8>,
    /// Bytes asked for.
    bytes: usize,
    /// Bytes of the block.
    capacity: usize,
    arena: Arc<Arena>,
}

// SAFETY: a block is plain memory that it owns; who may read or write it is decided where it is used.
unsafe impl Send for Block {}
// SAFETY: as above; a shared block tells its address and length only.
unsafe impl Sync for Block {}

impl Arena {
    /// A block of `bytes` bytes. What is in it is not defined, but it is initialised memory.
    ///
    /// # Errors
    /// There is no memory.
    pub fn allocate(self: &Arc<Self>, bytes: usize) -> Result<Block, OperatorError> {
        let wanted = capacity_for(bytes).ok_or(OperatorError::Memory { bytes })?;
        let mut inner = self.lock();
        let (pointer, capacity) = match inner.reuse(wanted) {
            Some(found) => found,
            None => {
                // Keeping blocks must never make the peak higher than it has to be.
                inner.shrink_to_fit(wanted);
                let pointer = acquire(wanted).ok_or(OperatorError::Memory { bytes })?;
                (pointer, wanted)
            }
        };
        inner.used += capacity;
        inner.peak = inner.peak.max(inner.used + inner.free_bytes);
        Ok(Block {
            pointer,
            bytes,
            capacity,
            arena: Arc::clone(self),
        })
    }

    /// Bytes of blocks in use.
    pub fn used(&self) -> usize {
        self.lock().used
    }

    /// The most bytes that were held at once since the last [`reset_peak`](Self::reset_peak).
    pub fn peak(&self) -> usize {
        self.lock().peak
    }

    /// Begins to look for the peak anew.
    pub fn reset_peak(&self) {
        let mut inner = self.lock();
        inner.peak = inner.used + inner.free_bytes;
    }

    /// Gives all memory that is not in use back to the system.
    pub fn trim(&self) {
        self.lock().release_down_to(0);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// A free block that is at most a quarter too large.
    fn reuse(&mut self, wanted: usize) -> Option<(NonNull<u8>, usize)> {
        if wanted < KEPT {
            return None;
        }
        let (&capacity, blocks) = self.free.range_mut(wanted..=wanted + wanted / 4).next()?;
        let pointer = blocks.pop()?;
        if blocks.is_empty() {
            self.free.remove(&capacity);
        }
        self.free_bytes -= capacity;
        Some((pointer, capacity))
    }

    fn shrink_to_fit(&mut self, wanted: usize) {
        let room = self.peak.saturating_sub(self.used + wanted);
        self.release_down_to(room);
    }

    fn release_down_to(&mut self, bytes: usize) {
        while self.free_bytes > bytes
            && let Some((capacity, blocks)) = self.free.pop_last()
        {
            for pointer in blocks {
                self.free_bytes -= capacity;
                release(pointer, capacity);
            }
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.release_down_to(0);
    }
}

impl Block {
    pub(crate) fn address(&self) -> usize {
        self.pointer.as_ptr() as usize
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let mut inner = self.arena.lock();
        inner.used -= self.capacity;
        if self.capacity < KEPT {
            release(self.pointer, self.capacity);
        } else {
            inner.free_bytes += self.capacity;
            inner
                .free
                .entry(self.capacity)
                .or_default()
                .push(self.pointer);
        }
    }
}

/// The bytes of a block for `bytes`; None where there can be none.
fn capacity_for(bytes: usize) -> Option<usize> {
    let multiple = if bytes < KEPT { ALIGNMENT } else { PAGE };
    bytes.max(1).checked_next_multiple_of(multiple)
}

fn layout(capacity: usize) -> Option<Layout> {
    Layout::from_size_align(capacity, ALIGNMENT).ok()
}

/// Zeros.
fn acquire(capacity: usize) -> Option<NonNull<u8>> {
    if capacity < KEPT {
        // SAFETY: the layout has a size of at least 64 bytes.
        return NonNull::new(unsafe { alloc_zeroed(layout(capacity)?) });
    }
    // SAFETY: an anonymous mapping at an address of the system's choice touches nobody's memory.
    let mapped = unsafe {
        libc::mmap(
            ptr::null_mut(),
            capacity,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if mapped == libc::MAP_FAILED {
        return None;
    }
    NonNull::new(mapped.cast())
}

fn release(pointer: NonNull<u8>, capacity: usize) {
    if capacity >= KEPT {
        // SAFETY: mapped with this length, and nobody has it any more.
        unsafe { libc::munmap(pointer.as_ptr().cast(), capacity) };
    } else if let Some(layout) = layout(capacity) {
        // SAFETY: allocated with this layout, and nobody has it any more.
        unsafe { dealloc(pointer.as_ptr(), layout) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_reused_and_the_peak_is_what_was_in_use() {
        let arena = Arc::new(Arena::default());
        let first = arena.allocate(1 << 20).unwrap();
        let address = first.address();
        drop(first);
        let again = arena.allocate((1 << 20) - 1000).unwrap();
        assert_eq!(again.address(), address);
        assert_eq!(again.bytes(), (1 << 20) - 1000);
        drop(again);
        // A free block of another size makes room instead of being counted on top.
        let larger = arena.allocate(2 << 20).unwrap();
        assert_eq!(arena.peak(), 2 << 20);
        drop(larger);
        assert_eq!(arena.used(), 0);
        arena.trim();
        arena.reset_peak();
        assert_eq!(arena.peak(), 0);
    }
}
