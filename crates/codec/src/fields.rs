//! 512 numbers of 3 bits in three planes of 64 bytes; see [`crate::layout`].

use crate::layout::{BLOCK, FIELDS};

const COLUMNS: usize = 64;

/// Writes the fields of a block; only the lower 3 bits of each number may be set.
#[inline(always)]
pub(crate) fn pack(numbers: &[u8; BLOCK], fields: &mut [u8; FIELDS]) {
    for column in 0..COLUMNS {
        let row = |row: usize| numbers[row * COLUMNS + column];
        let last = row(6) | row(7) << 3;
        fields[column] = row(0) | row(1) << 3 | last << 6;
        fields[COLUMNS + column] = row(2) | row(3) << 3 | (last >> 2) << 6;
        fields[2 * COLUMNS + column] = row(4) | row(5) << 3 | (last >> 4) << 6;
    }
}

/// Reads the fields of a block.
#[inline(always)]
pub(crate) fn unpack(fields: &[u8; FIELDS], numbers: &mut [u8; BLOCK]) {
    for column in 0..COLUMNS {
        let (a, b, c) = (
            fields[column],
            fields[COLUMNS + column],
            fields[2 * COLUMNS + column],
        );
        let last = a >> 6 | (b >> 6) << 2 | (c >> 6) << 4;
        for (pair, byte) in [a, b, c, last].into_iter().enumerate() {
            numbers[2 * pair * COLUMNS + column] = byte & 7;
            numbers[(2 * pair + 1) * COLUMNS + column] = byte >> 3 & 7;
        }
    }
}
