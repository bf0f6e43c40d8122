//! Escapes for vectors that can't expand under a mask: written one by one into a block's exponents in memory.

use crate::layout::BLOCK;

/// Values of a row.
pub(super) const ROW: usize = 64;

/// Exponents of a block: 8 rows of 64, each followed by room for what has no place.
#[repr(align(64))]
pub(super) struct Exponents(pub [[u8; 2 * ROW]; 8]);

/// Escapes of a block, and room to read beyond.
pub(super) type Escapes = [u8; BLOCK + ROW];

/// Writes the escapes to the places that the masks show, in order; the n-th bit of the r-th mask is value 64 r + n.
#[inline(always)]
pub(super) fn place(exponents: &mut Exponents, escaped: &[u64; 8], escapes: &Escapes) {
    /// Nearly always that is all there are in a row: no branch depends on the data, and the processor runs ahead.
    const AT_ONCE: usize = 4;
    let mut used = 0;
    for (row, mask) in exponents.0.iter_mut().zip(escaped) {
        let count = mask.count_ones() as usize;
        let mut mask = *mask;
        let mut put = |escape: u8| {
            // Where nothing is left this is place 64, beside the row.
            row[mask.trailing_zeros() as usize] = escape;
            mask &= mask.wrapping_sub(1);
        };
        let (first, rest) = escapes[used % BLOCK..][..ROW].split_at(AT_ONCE);
        for escape in first {
            put(*escape);
        }
        if count > AT_ONCE {
            for escape in &rest[..count - AT_ONCE] {
                put(*escape);
            }
        }
        used += count;
    }
}
