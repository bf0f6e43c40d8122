//! Memory for reads whose destination direct I/O can't reach.

use std::alloc::{Layout, alloc, dealloc};
use std::ptr::NonNull;
use std::sync::Arc;

/// Bytes of a bounce buffer, and the most that one read through it takes.
pub(crate) const BOUNCE: usize = 512 << 10;

/// The strictest alignment that direct I/O may ask of a buffer.
pub(crate) const STRICTEST: usize = 64 << 10;

const HUGE_PAGE: usize = 2 << 20;

/// Memory for direct reads, aligned to whatever they may ask for.
pub struct AlignedBuffer {
    start: NonNull<u8>,
    length: usize,
    _region: Arc<Region>,
}

// SAFETY: it alone uses its part of the region.
unsafe impl Send for AlignedBuffer {}

impl AlignedBuffer {
    #[cfg(target_os = "linux")]
    pub(crate) fn new(length: usize) -> Option<Self> {
        Self::several(1, length)?.pop()
    }

    /// Buffers side by side: of 4 KiB pages, direct reads cost several times as much processor
    /// time as of the huge pages that these share. `None` if there is no memory.
    pub fn several(count: usize, length: usize) -> Option<Vec<Self>> {
        let stride = length.max(1).checked_next_multiple_of(STRICTEST)?;
        let region = Arc::new(Region::new(stride.checked_mul(count)?)?);
        let buffer = |index| {
            // SAFETY: within the region, whose size is `count` strides.
            let start = unsafe { region.start.add(index * stride) };
            Self {
                start,
                length,
                _region: Arc::clone(&region),
            }
        };
        Some((0..count).map(buffer).collect())
    }

    /// Where it begins.
    pub fn start(&mut self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// Its size in bytes.
    pub fn length(&self) -> usize {
        self.length
    }

    /// The first `length` bytes.
    ///
    /// # Safety
    /// They were written, and no read into the buffer is in flight.
    pub unsafe fn bytes(&self, length: usize) -> &[u8] {
        // SAFETY: within this buffer's part, and written by this function's contract.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), length.min(self.length)) }
    }
}

/// An allocation that is not initialised, in huge pages if it fills any.
struct Region {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: it owns its memory, and only frees it.
unsafe impl Send for Region {}
// SAFETY: it gives no access to its memory.
unsafe impl Sync for Region {}

impl Region {
    fn new(size: usize) -> Option<Self> {
        let alignment = if size >= HUGE_PAGE {
            HUGE_PAGE
        } else {
            STRICTEST
        };
        let layout = Layout::from_size_align(size.max(1), alignment).ok()?;
        // SAFETY: the layout's size is not zero.
        let start = NonNull::new(unsafe { alloc(layout) })?;
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if alignment == HUGE_PAGE {
            let whole_pages = size - size % HUGE_PAGE;
            // SAFETY: a hint about whole pages of this allocation.
            unsafe { libc::madvise(start.as_ptr().cast(), whole_pages, libc::MADV_HUGEPAGE) };
        }
        Some(Self { start, layout })
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout; every buffer within holds the region.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}
