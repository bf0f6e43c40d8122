//! 16 values at a time. Exponents of a block wait in memory until their escapes are in place.

use std::arch::aarch64::*;
use std::mem::MaybeUninit;

use super::as_rows;
use super::place::{Escapes, Exponents, ROW, place};
use crate::decode::Tile;
use crate::layout::{BLOCK, Format};

/// Bytes of a vector.
const WIDTH: usize = 16;
type Vector = uint8x16_t;

/// See [`Kernel::decode`](crate::Kernel). Every aarch64 processor has what it needs.
#[target_feature(enable = "neon")]
pub(crate) fn decode(tile: &Tile, values: &mut [MaybeUninit<u8>]) -> Option<()> {
    let format = tile.format;
    let table = load_8(&tile.exponents);
    let marker = vdupq_n_u8(tile.exponents[7]);
    let escape_table = load(&tile.escape_exponents);

    let mut exponents = Exponents([[0; 2 * ROW]; 8]);
    let mut escapes: Escapes = [0; _];
    let blocks = tile.blocks.chunks_exact(format.block());
    let raw_blocks = values.chunks_exact_mut(format.raw_block());
    for (number, (block, raw)) in blocks.zip(raw_blocks).enumerate() {
        let (kept, codes) = block.split_at(format.kept());
        let mut escaped = [0_u64; 8];
        for quarter in 0..4 {
            for (row, fields) in fields(codes, quarter)?.into_iter().enumerate() {
                let found = vqtbl1q_u8(table, fields);
                let mask = u64::from(mask(vceqq_u8(found, marker)));
                escaped[row] |= mask << (quarter * WIDTH);
                keep(found, &mut exponents.0[row], quarter * WIDTH)?;
            }
        }
        let count = escaped.iter().map(|row| row.count_ones() as usize).sum();
        let nibbles = tile.nibbles(number, count)?.as_chunks::<WIDTH>().0;
        for (place, nibbles) in nibbles.iter().enumerate() {
            let nibbles = load(nibbles);
            let (lower, upper) = (vandq_u8(nibbles, vdupq_n_u8(15)), vshrq_n_u8::<4>(nibbles));
            for (half, apart) in interleave(lower, upper).into_iter().enumerate() {
                let looked_up = vqtbl1q_u8(escape_table, apart);
                keep(looked_up, &mut escapes, (2 * place + half) * WIDTH)?;
            }
        }
        place(&mut exponents, &escaped, &escapes);
        put_together(format, kept, &exponents, raw)?;
    }
    Some(())
}

/// The 8 rows of fields, of one quarter of the columns.
#[target_feature(enable = "neon")]
fn fields(planes: &[u8], quarter: usize) -> Option<[Vector; 8]> {
    let planes = as_rows::<WIDTH, 12>(planes)?;
    let [a, b, c] = [0, 4, 8].map(|plane| &planes[plane + quarter % 4]);
    let (a, b, c) = (load(a), load(b), load(c));
    // Each insertion keeps the lower bits of the first and puts the second above them.
    let last = vshrq_n_u8::<6>(a);
    let last = vsliq_n_u8::<2>(last, vshrq_n_u8::<6>(b));
    let last = vsliq_n_u8::<4>(last, vshrq_n_u8::<6>(c));
    let lower = |vector| vandq_u8(vector, vdupq_n_u8(7));
    let upper = |vector| lower(vshrq_n_u8::<3>(vector));
    Some([
        lower(a),
        upper(a),
        lower(b),
        upper(b),
        lower(c),
        upper(c),
        lower(last),
        upper(last),
    ])
}

/// A bit for each byte of which all bits are set.
#[target_feature(enable = "neon")]
fn mask(bytes: Vector) -> u16 {
    const BITS: [u8; WIDTH] = [1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128];
    let bits = vandq_u8(bytes, load(&BITS));
    let lower = vaddv_u8(vget_low_u8(bits));
    let upper = vaddv_u8(vget_high_u8(bits));
    u16::from_le_bytes([lower, upper])
}

/// Writes a block of values.
#[target_feature(enable = "neon")]
fn put_together(
    format: Format,
    kept: &[u8],
    exponents: &Exponents,
    raw: &mut [MaybeUninit<u8>],
) -> Option<()> {
    let exponents = exponents
        .0
        .iter()
        .flat_map(|row| &row.as_chunks::<WIDTH>().0[..4]);
    match format {
        Format::Bf16 => {
            let kept = as_rows::<WIDTH, 32>(kept)?;
            let raw = raw.as_chunks_mut::<{ 2 * WIDTH }>().0;
            for ((kept, exponents), raw) in kept.iter().zip(exponents).zip(raw) {
                store(turned(load(kept), load(exponents)), raw);
            }
        }
        Format::F16 => {
            let (lower, planes) = kept.split_at(BLOCK);
            let lower = as_rows::<WIDTH, 32>(lower)?;
            let signs = load_8(&[0, 1, 2, 3, 0x80, 0x81, 0x82, 0x83]);
            let mut fields_of = [[vdupq_n_u8(0); 8]; 4];
            for (quarter, rows) in fields_of.iter_mut().enumerate() {
                *rows = fields(planes, quarter)?;
            }
            let raw = raw.as_chunks_mut::<{ 2 * WIDTH }>().0;
            for (number, ((lower, exponents), raw)) in
                lower.iter().zip(exponents).zip(raw).enumerate()
            {
                let sign = vqtbl1q_u8(signs, fields_of[number % 4][number / 4]);
                let upper = vorrq_u8(sign, load(exponents));
                store(interleave(load(lower), upper), raw);
            }
        }
        Format::F32 => {
            let (lower, upper) = kept.split_at(2 * BLOCK);
            let lower = lower.as_chunks::<{ 2 * WIDTH }>().0.iter();
            let parts = lower.zip(as_rows::<WIDTH, 32>(upper)?).zip(exponents);
            let raw = raw.as_chunks_mut::<{ 4 * WIDTH }>().0;
            for (((lower, upper), exponents), raw) in parts.zip(raw) {
                let [low, high] = turned(load(upper), load(exponents));
                let [lower, other] = as_rows::<WIDTH, 2>(lower)?;
                let [a, b] = interleave_16(load(lower), low);
                let [c, d] = interleave_16(load(other), high);
                store([a, b, c, d], raw);
            }
        }
    }
    Some(())
}

/// The upper halves of 16 values from what is kept of them and their exponents.
#[target_feature(enable = "neon")]
fn turned(kept: Vector, exponents: Vector) -> [Vector; 2] {
    let [low, high] = interleave(kept, exponents);
    [turn(low), turn(high)]
}

/// Turns each 16-bit number right by one bit.
#[target_feature(enable = "neon")]
fn turn(pairs: Vector) -> Vector {
    let pairs = vreinterpretq_u16_u8(pairs);
    vreinterpretq_u8_u16(vsliq_n_u16::<15>(vshrq_n_u16::<1>(pairs), pairs))
}

/// The bytes of both in turn.
#[target_feature(enable = "neon")]
fn interleave(first: Vector, second: Vector) -> [Vector; 2] {
    [vzip1q_u8(first, second), vzip2q_u8(first, second)]
}

/// The 16-bit numbers of both in turn.
#[target_feature(enable = "neon")]
fn interleave_16(first: Vector, second: Vector) -> [Vector; 2] {
    let (first, second) = (vreinterpretq_u16_u8(first), vreinterpretq_u16_u8(second));
    [
        vreinterpretq_u8_u16(vzip1q_u16(first, second)),
        vreinterpretq_u8_u16(vzip2q_u16(first, second)),
    ]
}

#[target_feature(enable = "neon")]
fn load(bytes: &[u8; WIDTH]) -> Vector {
    // SAFETY: reads 16 bytes.
    unsafe { vld1q_u8(bytes.as_ptr()) }
}

/// The bytes twice.
#[target_feature(enable = "neon")]
fn load_8(bytes: &[u8; 8]) -> Vector {
    vreinterpretq_u8_u64(vdupq_n_u64(u64::from_le_bytes(*bytes)))
}

/// Writes a vector to where it is found again.
#[target_feature(enable = "neon")]
fn keep(vector: Vector, bytes: &mut [u8], at: usize) -> Option<()> {
    let to = bytes.get_mut(at..at + WIDTH)?;
    // SAFETY: writes the 16 bytes of `to`.
    unsafe { vst1q_u8(to.as_mut_ptr(), vector) };
    Some(())
}

/// Writes vectors one after the other; `to` has room for all.
#[target_feature(enable = "neon")]
fn store<const N: usize>(vectors: [Vector; N], to: &mut [MaybeUninit<u8>]) {
    for (vector, to) in vectors.into_iter().zip(to.as_chunks_mut::<WIDTH>().0) {
        // SAFETY: writes the 16 bytes of `to`.
        unsafe { vst1q_u8(to.as_mut_ptr().cast(), vector) };
    }
}
