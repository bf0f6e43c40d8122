//! 64 values at a time: one table look-up per row, and escapes by expanding them under a mask.

use std::arch::x86_64::*;
use std::mem::MaybeUninit;

use super::{as_rows, prefetch_after};
use crate::Element;
use crate::decode::Tile;
use crate::encode::Encoder;
use crate::layout::{BLOCK, Format};
use crate::quantised::{self, Quantised};

/// Bytes of a vector.
const WIDTH: usize = 64;
type Vector = __m512i;

/// Whether this processor has what [`decode`] needs.
pub(crate) fn detected() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vbmi")
        && is_x86_feature_detected!("avx512vbmi2")
        && is_x86_feature_detected!("popcnt")
        && is_x86_feature_detected!("bmi1")
}

/// See [`Kernel::encode`](crate::Kernel).
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vbmi2,popcnt,bmi1")]
pub(crate) fn encode(encoder: &mut Encoder, format: Format, values: &[u8]) {
    encoder.encode(format, values);
}

/// See [`Kernel::dequantise`](crate::Kernel).
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vbmi2,popcnt,bmi1")]
pub(crate) fn dequantise(kind: Quantised, blocks: &[u8], to: Element, out: &mut [u8]) {
    quantised::convert(kind, blocks, to, out);
}

/// See [`Kernel::decode`](crate::Kernel).
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vbmi2,popcnt,bmi1")]
pub(crate) fn decode<const STREAMING: bool>(
    tile: &Tile,
    values: &mut [MaybeUninit<u8>],
) -> Option<()> {
    let format = tile.format;
    let table = _mm512_set1_epi64(i64::from_le_bytes(tile.exponents));
    let marker = _mm512_set1_epi8(tile.exponents[7] as i8);
    let escape_table = _mm512_broadcast_i32x4(load_16(&tile.escape_exponents));

    let blocks = tile.blocks.chunks_exact(format.block());
    let raw_blocks = values.chunks_exact_mut(format.raw_block());
    for (number, (block, raw)) in blocks.zip(raw_blocks).enumerate() {
        let (kept, codes) = block.split_at(format.kept());
        prefetch_after(block);
        let mut exponents = look_up(fields(codes)?, table);
        let mut escaped = [0; 8];
        for (mask, row) in escaped.iter_mut().zip(&exponents) {
            *mask = _mm512_cmpeq_epi8_mask(*row, marker);
        }
        let count = escaped.iter().map(|row| row.count_ones() as usize).sum();
        let nibbles = tile.nibbles(number, count)?;
        if let Some(nibbles) = nibbles.first_chunk() {
            if count <= WIDTH {
                let escapes = escapes(nibbles, escape_table);
                expand(&mut exponents, &escaped, escapes);
            } else {
                expand_many(
                    &mut exponents,
                    &escaped,
                    tile.nibbles(number, count)?,
                    escape_table,
                );
            }
        }
        put_together::<STREAMING>(format, kept, exponents, raw)?;
    }
    if STREAMING {
        _mm_sfence();
    }
    Some(())
}

/// The 8 rows of fields, each in the lower 3 bits of its byte; the bits above hold anything.
#[target_feature(enable = "avx512f,avx512bw")]
fn fields(planes: &[u8]) -> Option<[Vector; 8]> {
    let [a, b, c] = as_rows::<WIDTH, 3>(planes)?;
    let (a, b, c) = (load(a), load(b), load(c));
    let in_bits = |vector, bits| _mm512_and_si512(vector, _mm512_set1_epi8(bits));
    let last = _mm512_or_si512(
        in_bits(_mm512_srli_epi16::<6>(a), 0b00_0011),
        _mm512_or_si512(
            in_bits(_mm512_srli_epi16::<4>(b), 0b00_1100),
            in_bits(_mm512_srli_epi16::<2>(c), 0b11_0000),
        ),
    );
    let upper = |vector| _mm512_srli_epi16::<3>(vector);
    Some([a, upper(a), b, upper(b), c, upper(c), last, upper(last)])
}

/// What the fields stand for; the table holds the same 8 bytes again and again, so that upper bits don't matter.
#[target_feature(enable = "avx512f,avx512vbmi")]
fn look_up(mut fields: [Vector; 8], table: Vector) -> [Vector; 8] {
    for row in &mut fields {
        *row = _mm512_permutexvar_epi8(*row, table);
    }
    fields
}

/// What 64 nibbles stand for.
#[target_feature(enable = "avx512f,avx512bw")]
fn escapes(nibbles: &[u8; 32], table: Vector) -> Vector {
    // SAFETY: reads 32 bytes, which need not be aligned.
    let nibbles = unsafe { _mm256_loadu_si256(nibbles.as_ptr().cast()) };
    let pairs = _mm512_cvtepu8_epi16(nibbles);
    let apart = _mm512_or_si512(pairs, _mm512_slli_epi16::<4>(pairs));
    _mm512_shuffle_epi8(table, _mm512_and_si512(apart, _mm512_set1_epi8(15)))
}

/// Gives at most 64 escapes to their places.
#[target_feature(enable = "avx512f,avx512vbmi,avx512vbmi2,popcnt")]
fn expand(exponents: &mut [Vector; 8], escaped: &[u64; 8], mut escapes: Vector) {
    /// From its n-th byte on: the numbers from n on.
    const NUMBERS: [u8; 128] = {
        let mut numbers = [0; 128];
        let mut number = 0;
        while number < 128 {
            numbers[number] = number as u8;
            number += 1;
        }
        numbers
    };
    for (row, mask) in exponents.iter_mut().zip(escaped) {
        *row = _mm512_mask_expand_epi8(*row, *mask, escapes);
        let used = mask.count_ones() as usize;
        // SAFETY: reads the bytes used..used + 64 of 128, as `used` is at most 64.
        let rest = unsafe { _mm512_loadu_si512(NUMBERS.as_ptr().add(used).cast()) };
        escapes = _mm512_permutexvar_epi8(rest, escapes);
    }
}

/// Gives any number of escapes to their places.
#[cold]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi2,popcnt")]
fn expand_many(exponents: &mut [Vector; 8], escaped: &[u64; 8], nibbles: &[u8], table: Vector) {
    let mut all = [0_u8; BLOCK + WIDTH];
    for (nibbles, all) in nibbles.chunks_exact(32).zip(all.chunks_exact_mut(WIDTH)) {
        if let Some(nibbles) = nibbles.first_chunk() {
            // SAFETY: writes the 64 bytes of `all`, which need not be aligned.
            unsafe { _mm512_storeu_si512(all.as_mut_ptr().cast(), escapes(nibbles, table)) };
        }
    }
    let mut used = 0;
    for (row, mask) in exponents.iter_mut().zip(escaped) {
        // SAFETY: reads the bytes used..used + 64, as at most 64 are used for each of the rows before.
        let next = unsafe { _mm512_loadu_si512(all.as_ptr().add(used).cast()) };
        *row = _mm512_mask_expand_epi8(*row, *mask, next);
        used += mask.count_ones() as usize;
    }
}

/// Writes a block of values.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vbmi2")]
fn put_together<const STREAMING: bool>(
    format: Format,
    kept: &[u8],
    exponents: [Vector; 8],
    raw: &mut [MaybeUninit<u8>],
) -> Option<()> {
    match format {
        Format::Bf16 => {
            let kept = as_rows::<WIDTH, 8>(kept)?;
            let raw = raw.as_chunks_mut::<{ 2 * WIDTH }>().0;
            for ((kept, exponents), raw) in kept.iter().zip(exponents).zip(raw) {
                let [low, high] = turned(load(kept), exponents);
                store::<STREAMING, 2>([low, high], raw);
            }
        }
        Format::F16 => {
            let (lower, planes) = kept.split_at(BLOCK);
            let signs = [0, 1, 2, 3, 0x80, 0x81, 0x82, 0x83];
            let signs = look_up(
                fields(planes)?,
                _mm512_set1_epi64(i64::from_le_bytes(signs)),
            );
            let parts = as_rows::<WIDTH, 8>(lower)?.iter().zip(signs).zip(exponents);
            let raw = raw.as_chunks_mut::<{ 2 * WIDTH }>().0;
            for (((lower, sign), exponents), raw) in parts.zip(raw) {
                let upper = _mm512_or_si512(sign, exponents);
                store::<STREAMING, 2>(interleave(load(lower), upper), raw);
            }
        }
        Format::F32 => {
            let (lower, upper) = kept.split_at(2 * BLOCK);
            let lower = lower.as_chunks::<{ 2 * WIDTH }>().0.iter();
            let parts = lower.zip(as_rows::<WIDTH, 8>(upper)?).zip(exponents);
            let raw = raw.as_chunks_mut::<{ 4 * WIDTH }>().0;
            for (((lower, upper), exponents), raw) in parts.zip(raw) {
                let [low, high] = turned(load(upper), exponents);
                let [lower, other] = as_rows::<WIDTH, 2>(lower)?;
                let [a, b] = interleave_16(load(lower), low);
                let [c, d] = interleave_16(load(other), high);
                store::<STREAMING, 4>([a, b, c, d], raw);
            }
        }
    }
    Some(())
}

/// The upper halves of 64 values from what is kept of them and their exponents.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vbmi2")]
fn turned(kept: Vector, exponents: Vector) -> [Vector; 2] {
    let [low, high] = interleave(kept, exponents);
    [
        _mm512_shrdi_epi16::<1>(low, low),
        _mm512_shrdi_epi16::<1>(high, high),
    ]
}

/// The bytes of both in turn.
#[target_feature(enable = "avx512f,avx512vbmi")]
fn interleave(first: Vector, second: Vector) -> [Vector; 2] {
    const PLACES: [[u8; WIDTH]; 2] = {
        let mut places = [[0; WIDTH]; 2];
        let mut place = 0;
        while place < 2 * WIDTH {
            places[place / WIDTH][place % WIDTH] = (place / 2 + place % 2 * WIDTH) as u8;
            place += 1;
        }
        places
    };
    let [low, high] = &PLACES;
    [
        _mm512_permutex2var_epi8(first, load(low), second),
        _mm512_permutex2var_epi8(first, load(high), second),
    ]
}

/// The 16-bit numbers of both in turn.
#[target_feature(enable = "avx512f,avx512bw")]
fn interleave_16(first: Vector, second: Vector) -> [Vector; 2] {
    const PLACES: [[u8; WIDTH]; 2] = {
        let mut places = [[0; WIDTH]; 2];
        let mut place = 0;
        while place < WIDTH {
            places[2 * place / WIDTH][2 * place % WIDTH] =
                (place / 2 + place % 2 * WIDTH / 2) as u8;
            place += 1;
        }
        places
    };
    let [low, high] = &PLACES;
    [
        _mm512_permutex2var_epi16(first, load(low), second),
        _mm512_permutex2var_epi16(first, load(high), second),
    ]
}

#[target_feature(enable = "avx512f")]
fn load(bytes: &[u8; WIDTH]) -> Vector {
    // SAFETY: reads 64 bytes, which need not be aligned.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

#[target_feature(enable = "avx512f")]
fn load_16(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: reads 16 bytes, which need not be aligned.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

/// Writes vectors one after the other; `to` has room for all, and is aligned where `STREAMING`.
#[target_feature(enable = "avx512f")]
fn store<const STREAMING: bool, const N: usize>(vectors: [Vector; N], to: &mut [MaybeUninit<u8>]) {
    for (vector, to) in vectors.into_iter().zip(to.as_chunks_mut::<WIDTH>().0) {
        let to = to.as_mut_ptr().cast();
        if STREAMING {
            // SAFETY: writes the 64 bytes of `to`; `Kernel::decode` has seen that they are aligned.
            unsafe { _mm512_stream_si512(to, vector) };
        } else {
            // SAFETY: writes the 64 bytes of `to`, which need not be aligned.
            unsafe { _mm512_storeu_si512(to, vector) };
        }
    }
}
