//! 32 values at a time. Exponents of a block wait in memory until their escapes are in place.

use std::arch::x86_64::*;
use std::mem::MaybeUninit;

use super::place::{Escapes, Exponents, ROW, place};
use super::{as_rows, prefetch_after};
use crate::Element;
use crate::decode::Tile;
use crate::encode::Encoder;
use crate::layout::{BLOCK, Format};
use crate::quantised::{self, Quantised};

/// Bytes of a vector.
const WIDTH: usize = 32;
type Vector = __m256i;

/// Whether this processor has what [`decode`] needs.
pub(crate) fn detected() -> bool {
    is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("popcnt")
        && is_x86_feature_detected!("bmi1")
}

/// See [`Kernel::encode`](crate::Kernel).
#[target_feature(enable = "avx2,popcnt,bmi1")]
pub(crate) fn encode(encoder: &mut Encoder, format: Format, values: &[u8]) {
    encoder.encode(format, values);
}

/// See [`Kernel::dequantise`](crate::Kernel).
#[target_feature(enable = "avx2,popcnt,bmi1")]
pub(crate) fn dequantise(kind: Quantised, blocks: &[u8], to: Element, out: &mut [u8]) {
    quantised::convert(kind, blocks, to, out);
}

/// See [`Kernel::decode`](crate::Kernel).
#[target_feature(enable = "avx2,popcnt,bmi1")]
pub(crate) fn decode<const STREAMING: bool>(
    tile: &Tile,
    values: &mut [MaybeUninit<u8>],
) -> Option<()> {
    let format = tile.format;
    let table = _mm256_set1_epi64x(i64::from_le_bytes(tile.exponents));
    let marker = _mm256_set1_epi8(tile.exponents[7] as i8);
    let escape_table = _mm256_broadcastsi128_si256(load_16(&tile.escape_exponents));

    let mut exponents = Exponents([[0; 2 * ROW]; 8]);
    let mut escapes: Escapes = [0; _];
    let blocks = tile.blocks.chunks_exact(format.block());
    let raw_blocks = values.chunks_exact_mut(format.raw_block());
    for (number, (block, raw)) in blocks.zip(raw_blocks).enumerate() {
        let (kept, codes) = block.split_at(format.kept());
        prefetch_after(block);
        let mut escaped = [0_u64; 8];
        for half in 0..2 {
            for (row, fields) in fields(codes, half)?.into_iter().enumerate() {
                let found = _mm256_shuffle_epi8(table, fields);
                let mask = _mm256_movemask_epi8(_mm256_cmpeq_epi8(found, marker)) as u32;
                escaped[row] |= u64::from(mask) << (half * WIDTH);
                keep(found, &mut exponents.0[row], half * WIDTH)?;
            }
        }
        let count = escaped.iter().map(|row| row.count_ones() as usize).sum();
        let nibbles = tile.nibbles(number, count)?.as_chunks::<16>().0;
        for (place, nibbles) in nibbles.iter().enumerate() {
            let looked_up = look_up_nibbles(nibbles, escape_table);
            keep(looked_up, &mut escapes, place * WIDTH)?;
        }
        place(&mut exponents, &escaped, &escapes);
        put_together::<STREAMING>(format, kept, &exponents, raw)?;
    }
    if STREAMING {
        _mm_sfence();
    }
    Some(())
}

/// The 8 rows of fields, of the lower or the upper 32 columns.
#[target_feature(enable = "avx2")]
fn fields(planes: &[u8], half: usize) -> Option<[Vector; 8]> {
    let planes = as_rows::<WIDTH, 6>(planes)?;
    let [a, b, c] = [0, 2, 4].map(|plane| &planes[plane + half % 2]);
    let (a, b, c) = (load(a), load(b), load(c));
    let in_bits = |vector, bits| _mm256_and_si256(vector, _mm256_set1_epi8(bits));
    let last = _mm256_or_si256(
        in_bits(_mm256_srli_epi16::<6>(a), 0b00_0011),
        _mm256_or_si256(
            in_bits(_mm256_srli_epi16::<4>(b), 0b00_1100),
            in_bits(_mm256_srli_epi16::<2>(c), 0b11_0000),
        ),
    );
    let upper = |vector| _mm256_srli_epi16::<3>(vector);
    let mut rows = [a, upper(a), b, upper(b), c, upper(c), last, upper(last)];
    for row in &mut rows {
        *row = in_bits(*row, 7);
    }
    Some(rows)
}

/// What 32 nibbles stand for.
#[target_feature(enable = "avx2")]
fn look_up_nibbles(nibbles: &[u8; 16], table: Vector) -> Vector {
    let pairs = _mm256_cvtepu8_epi16(load_16(nibbles));
    let apart = _mm256_or_si256(pairs, _mm256_slli_epi16::<4>(pairs));
    _mm256_shuffle_epi8(table, _mm256_and_si256(apart, _mm256_set1_epi8(15)))
}

/// Writes a block of values.
#[target_feature(enable = "avx2")]
fn put_together<const STREAMING: bool>(
    format: Format,
    kept: &[u8],
    exponents: &Exponents,
    raw: &mut [MaybeUninit<u8>],
) -> Option<()> {
    let exponents = exponents
        .0
        .iter()
        .flat_map(|row| &row.as_chunks::<WIDTH>().0[..2]);
    match format {
        Format::Bf16 => {
            let kept = as_rows::<WIDTH, 16>(kept)?;
            let raw = raw.as_chunks_mut::<{ 2 * WIDTH }>().0;
            for ((kept, exponents), raw) in kept.iter().zip(exponents).zip(raw) {
                store::<STREAMING, 2>(turned(load(kept), load(exponents)), raw);
            }
        }
        Format::F16 => {
            let (lower, planes) = kept.split_at(BLOCK);
            let lower = as_rows::<WIDTH, 16>(lower)?;
            let signs =
                _mm256_set1_epi64x(i64::from_le_bytes([0, 1, 2, 3, 0x80, 0x81, 0x82, 0x83]));
            let fields = [fields(planes, 0)?, fields(planes, 1)?];
            let raw = raw.as_chunks_mut::<{ 2 * WIDTH }>().0;
            for (number, ((lower, exponents), raw)) in
                lower.iter().zip(exponents).zip(raw).enumerate()
            {
                let sign = _mm256_shuffle_epi8(signs, fields[number % 2][number / 2]);
                let upper = _mm256_or_si256(sign, load(exponents));
                store::<STREAMING, 2>(interleave(load(lower), upper), raw);
            }
        }
        Format::F32 => {
            let (lower, upper) = kept.split_at(2 * BLOCK);
            let lower = lower.as_chunks::<{ 2 * WIDTH }>().0.iter();
            let parts = lower.zip(as_rows::<WIDTH, 16>(upper)?).zip(exponents);
            let raw = raw.as_chunks_mut::<{ 4 * WIDTH }>().0;
            for (((lower, upper), exponents), raw) in parts.zip(raw) {
                let [low, high] = turned(load(upper), load(exponents));
                let [lower, other] = as_rows::<WIDTH, 2>(lower)?;
                let [a, b] = interleave_16(load(lower), low);
                let [c, d] = interleave_16(load(other), high);
                store::<STREAMING, 4>([a, b, c, d], raw);
            }
        }
    }
    Some(())
}

/// The upper halves of 32 values from what is kept of them and their exponents.
#[target_feature(enable = "avx2")]
fn turned(kept: Vector, exponents: Vector) -> [Vector; 2] {
    let [low, high] = interleave(kept, exponents);
    [turn(low), turn(high)]
}

/// Turns each 16-bit number right by one bit.
#[target_feature(enable = "avx2")]
fn turn(pairs: Vector) -> Vector {
    _mm256_or_si256(
        _mm256_srli_epi16::<1>(pairs),
        _mm256_slli_epi16::<15>(pairs),
    )
}

/// The bytes of both in turn.
#[target_feature(enable = "avx2")]
fn interleave(first: Vector, second: Vector) -> [Vector; 2] {
    let (first, second) = (quarters(first), quarters(second));
    [
        _mm256_unpacklo_epi8(first, second),
        _mm256_unpackhi_epi8(first, second),
    ]
}

/// The 16-bit numbers of both in turn.
#[target_feature(enable = "avx2")]
fn interleave_16(first: Vector, second: Vector) -> [Vector; 2] {
    let (first, second) = (quarters(first), quarters(second));
    [
        _mm256_unpacklo_epi16(first, second),
        _mm256_unpackhi_epi16(first, second),
    ]
}

/// Unpacking works on halves of vectors: brings the quarters into an order in which its results are whole.
#[target_feature(enable = "avx2")]
fn quarters(vector: Vector) -> Vector {
    _mm256_permute4x64_epi64::<0b11_01_10_00>(vector)
}

#[target_feature(enable = "avx2")]
fn load(bytes: &[u8; WIDTH]) -> Vector {
    // SAFETY: reads 32 bytes, which need not be aligned.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
fn load_16(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: reads 16 bytes, which need not be aligned.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

/// Writes a vector to where it is found again.
#[target_feature(enable = "avx2")]
fn keep(vector: Vector, bytes: &mut [u8], at: usize) -> Option<()> {
    let to = bytes.get_mut(at..at + WIDTH)?;
    // SAFETY: writes the 32 bytes of `to`, which need not be aligned.
    unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), vector) };
    Some(())
}

/// Writes vectors one after the other; `to` has room for all, and is aligned where `STREAMING`.
#[target_feature(enable = "avx2")]
fn store<const STREAMING: bool, const N: usize>(vectors: [Vector; N], to: &mut [MaybeUninit<u8>]) {
    for (vector, to) in vectors.into_iter().zip(to.as_chunks_mut::<WIDTH>().0) {
        let to = to.as_mut_ptr().cast();
        if STREAMING {
            // SAFETY: writes the 32 bytes of `to`; `Kernel::decode` has seen that they are aligned.
            unsafe { _mm256_stream_si256(to, vector) };
        } else {
            // SAFETY: writes the 32 bytes of `to`, which need not be aligned.
            unsafe { _mm256_storeu_si256(to, vector) };
        }
    }
}
