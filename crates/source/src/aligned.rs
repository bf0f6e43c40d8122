//! Memory for reads whose destination direct I/O can't reach.

use std::alloc::{Layout, alloc, dealloc};
use std::ptr::NonNull;

/// Bytes of a buffer, and the most that one read through it takes.
pub(crate) const BOUNCE: usize = 512 << 10;

/// The strictest alignment that direct I/O may ask of a buffer.
pub(crate) const STRICTEST: usize = 64 << 10;

/// A buffer that is aligned to [`STRICTEST`]. Pages that are never written cost nothing.
pub(crate) struct AlignedBuffer {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: it owns its memory.
unsafe impl Send for AlignedBuffer {}

impl AlignedBuffer {
    /// `None` if there is no memory.
    pub(crate) fn new(length: usize) -> Option<Self> {
        let layout = Layout::from_size_align(length.max(1), STRICTEST).ok()?;
        // SAFETY: the layout's size is not zero.
        let start = NonNull::new(unsafe { alloc(layout) })?;
        Some(Self { start, layout })
    }

    pub(crate) fn start(&mut self) -> *mut u8 {
        self.start.as_ptr()
    }

    pub(crate) fn length(&self) -> usize {
        self.layout.size()
    }

    /// The first `length` bytes.
    ///
    /// # Safety
    /// They were written, and no read into the buffer is in flight.
    pub(crate) unsafe fn bytes(&self, length: usize) -> &[u8] {
        // SAFETY: within the allocation, and written by this function's contract.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), length.min(self.layout.size())) }
    }
}

impl Drop for AlignedBuffer {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}
