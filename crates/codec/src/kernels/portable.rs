//! Plain Rust: what every other kernel must equal.

use std::mem::MaybeUninit;

use crate::decode::Tile;
use crate::fields;
use crate::layout::{BLOCK, ESCAPE, FIELDS, Format};

/// See [`Kernel::decode`](crate::Kernel::decode).
pub(crate) fn decode(tile: &Tile, values: &mut [MaybeUninit<u8>]) -> Option<()> {
    let format = tile.format;
    let blocks = tile.blocks.chunks_exact(format.block());
    let raw_blocks = values.chunks_exact_mut(format.raw_block());
    for (number, (block, raw)) in blocks.zip(raw_blocks).enumerate() {
        let (kept, codes) = block.split_at(format.kept());
        let mut exponents = [0; BLOCK];
        fields::unpack(codes.first_chunk::<FIELDS>()?, &mut exponents);
        let count = exponents.iter().filter(|code| **code == ESCAPE).count();
        look_up(tile, tile.nibbles(number, count)?, &mut exponents)?;
        put_together(format, kept, &exponents, raw)?;
    }
    Some(())
}

/// Replaces codes by the exponent bytes that they stand for.
fn look_up(tile: &Tile, escapes: &[u8], codes: &mut [u8; BLOCK]) -> Option<()> {
    let mut seen = 0;
    for code in codes {
        if *code == ESCAPE {
            let nibble = escapes.get(seen / 2)? >> (seen % 2 * 4) & 15;
            *code = tile.escape_exponents[usize::from(nibble)];
            seen += 1;
        } else {
            *code = tile.exponents[usize::from(*code)];
        }
    }
    Some(())
}

fn put_together(
    format: Format,
    kept: &[u8],
    exponents: &[u8; BLOCK],
    raw: &mut [MaybeUninit<u8>],
) -> Option<()> {
    match format {
        Format::Bf16 => {
            for ((value, kept), exponent) in raw.chunks_exact_mut(2).zip(kept).zip(exponents) {
                let turned = u16::from_le_bytes([*kept, *exponent]);
                write(value, &turned.rotate_right(1).to_le_bytes());
            }
        }
        Format::F16 => {
            let (lower, fields) = kept.split_at(BLOCK);
            let mut numbers = [0; BLOCK];
            fields::unpack(fields.first_chunk()?, &mut numbers);
            let parts = lower.iter().zip(exponents).zip(&numbers);
            for (value, ((lower, exponent), number)) in raw.chunks_exact_mut(2).zip(parts) {
                let upper = exponent | number >> 2 << 7 | number & 3;
                write(value, &[*lower, upper]);
            }
        }
        Format::F32 => {
            let (lower, upper) = kept.split_at(2 * BLOCK);
            let parts = lower.chunks_exact(2).zip(upper).zip(exponents);
            for (value, ((lower, upper), exponent)) in raw.chunks_exact_mut(4).zip(parts) {
                let turned = u16::from_le_bytes([*upper, *exponent]).rotate_right(1);
                let [low, high] = turned.to_le_bytes();
                write(value, &[lower[0], lower[1], low, high]);
            }
        }
    }
    Some(())
}

fn write(to: &mut [MaybeUninit<u8>], bytes: &[u8]) {
    for (to, byte) in to.iter_mut().zip(bytes) {
        to.write(*byte);
    }
}
