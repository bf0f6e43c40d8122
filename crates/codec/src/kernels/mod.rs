//! One file for each kind of vector.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon;
pub(crate) mod portable;

mod place;

/// The first `ROWS` rows of `WIDTH` bytes each.
#[inline(always)]
fn as_rows<const WIDTH: usize, const ROWS: usize>(bytes: &[u8]) -> Option<&[[u8; WIDTH]; ROWS]> {
    bytes.as_chunks::<WIDTH>().0.first_chunk()
}

/// Asks for a block some way ahead: the processor's own prefetching stops at each page of 4 KiB.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn prefetch_after(block: &[u8]) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    const AHEAD: usize = 4096;
    for line in (0..block.len()).step_by(64) {
        let place = block.as_ptr().wrapping_add(AHEAD + line);
        // SAFETY: prefetching has no effect but on the caches, wherever it points.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(place.cast()) };
    }
}
