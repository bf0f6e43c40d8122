//! What a block of each kind stands for.
//!
//! The layouts are those of ggml's `block_*` structures; the order of operations is that of `gguf.quants`, whose bits
//! are matched. `d` is a block's scale, `m` what is added or subtracted, `q` the small integers.

use half::f16;

/// The fp16 at a place of the block.
#[inline(always)]
fn float(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// The lower nibbles of 16 bytes, then the upper ones.
#[inline(always)]
fn nibbles(bytes: &[u8]) -> [u8; 32] {
    let mut q = [0; 32];
    for place in 0..16 {
        q[place] = bytes[place] & 15;
        q[16 + place] = bytes[place] >> 4;
    }
    q
}

/// The nibbles, and the bits of a `u32` as a fifth bit above them.
#[inline(always)]
fn nibbles_and_bits(bits: &[u8], bytes: &[u8]) -> [u8; 32] {
    let mut q = nibbles(bytes);
    for place in 0..32 {
        q[place] |= (bits[place / 8] >> (place % 8) & 1) << 4;
    }
    q
}

#[inline(always)]
pub(super) fn q4_0(block: &[u8; 18], out: &mut [f32; 32]) {
    let d = float(block, 0);
    let q = nibbles(&block[2..]);
    for (out, q) in out.iter_mut().zip(q) {
        *out = d * f32::from(q as i8 - 8);
    }
}

#[inline(always)]
pub(super) fn q4_1(block: &[u8; 20], out: &mut [f32; 32]) {
    let (d, m) = (float(block, 0), float(block, 2));
    let q = nibbles(&block[4..]);
    for (out, q) in out.iter_mut().zip(q) {
        *out = d * f32::from(q) + m;
    }
}

#[inline(always)]
pub(super) fn q5_0(block: &[u8; 22], out: &mut [f32; 32]) {
    let d = float(block, 0);
    let q = nibbles_and_bits(&block[2..6], &block[6..]);
    for (out, q) in out.iter_mut().zip(q) {
        *out = d * f32::from(q as i8 - 16);
    }
}

#[inline(always)]
pub(super) fn q5_1(block: &[u8; 24], out: &mut [f32; 32]) {
    let (d, m) = (float(block, 0), float(block, 2));
    let q = nibbles_and_bits(&block[4..8], &block[8..]);
    for (out, q) in out.iter_mut().zip(q) {
        *out = d * f32::from(q) + m;
    }
}

#[inline(always)]
pub(super) fn q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    let d = float(block, 0);
    for (out, q) in out.iter_mut().zip(&block[2..]) {
        *out = f32::from(*q as i8) * d;
    }
}

#[inline(always)]
pub(super) fn q2_k(block: &[u8; 84], out: &mut [f32; 256]) {
    let (scales, qs) = (&block[..16], &block[16..80]);
    let (d, m) = (float(block, 80), float(block, 82));
    for (part, out) in out.chunks_exact_mut(16).enumerate() {
        let scale = scales[part];
        let (d, m) = (d * f32::from(scale & 15), m * f32::from(scale >> 4));
        let qs = &qs[part / 8 * 32 + part % 2 * 16..][..16];
        let shift = part % 8 / 2 * 2;
        for (out, q) in out.iter_mut().zip(qs) {
            *out = d * f32::from(q >> shift & 3) - m;
        }
    }
}

#[inline(always)]
pub(super) fn q3_k(block: &[u8; 110], out: &mut [f32; 256]) {
    let (masks, qs, scales) = (&block[..32], &block[32..96], &block[96..108]);
    let d = float(block, 108);
    for (part, out) in out.chunks_exact_mut(16).enumerate() {
        let lower = scales[part % 8] >> (part / 8 * 4) & 15;
        let upper = scales[8 + part % 4] >> (part / 4 * 2) & 3;
        let d = d * f32::from((lower | upper << 4) as i8 - 32);
        let (column, bit, shift) = (part % 2 * 16, part / 2, part % 8 / 2 * 2);
        let qs = &qs[part / 8 * 32 + column..][..16];
        for ((out, q), mask) in out.iter_mut().zip(qs).zip(&masks[column..]) {
            let missing = (mask >> bit & 1 ^ 1) << 2;
            *out = d * f32::from((q >> shift & 3) as i8 - missing as i8);
        }
    }
}

/// The scale and the minimum of one of the 8 parts: 6 bits each, in 12 bytes.
#[inline(always)]
fn scale_and_minimum(scales: &[u8], part: usize) -> (f32, f32) {
    let (scale, minimum) = if part < 4 {
        (scales[part] & 63, scales[4 + part] & 63)
    } else {
        let both = scales[4 + part];
        (
            both & 15 | scales[part - 4] >> 2 & 48,
            both >> 4 | scales[part] >> 2 & 48,
        )
    };
    (f32::from(scale), f32::from(minimum))
}

#[inline(always)]
pub(super) fn q4_k(block: &[u8; 144], out: &mut [f32; 256]) {
    let (d, m) = (float(block, 0), float(block, 2));
    let (scales, qs) = (&block[4..16], &block[16..]);
    for (part, out) in out.chunks_exact_mut(32).enumerate() {
        let (scale, minimum) = scale_and_minimum(scales, part);
        let (d, m) = (d * scale, m * minimum);
        let shift = part % 2 * 4;
        for (out, q) in out.iter_mut().zip(&qs[part / 2 * 32..]) {
            *out = d * f32::from(q >> shift & 15) - m;
        }
    }
}

#[inline(always)]
pub(super) fn q5_k(block: &[u8; 176], out: &mut [f32; 256]) {
    let (d, m) = (float(block, 0), float(block, 2));
    let (scales, bits, qs) = (&block[4..16], &block[16..48], &block[48..]);
    for (part, out) in out.chunks_exact_mut(32).enumerate() {
        let (scale, minimum) = scale_and_minimum(scales, part);
        let (d, m) = (d * scale, m * minimum);
        let shift = part % 2 * 4;
        for ((out, q), bits) in out.iter_mut().zip(&qs[part / 2 * 32..]).zip(bits) {
            *out = d * f32::from(q >> shift & 15 | (bits >> part & 1) << 4) - m;
        }
    }
}

#[inline(always)]
pub(super) fn q6_k(block: &[u8; 210], out: &mut [f32; 256]) {
    let (lower, upper, scales) = (&block[..128], &block[128..192], &block[192..208]);
    let d = float(block, 208);
    for (part, out) in out.chunks_exact_mut(16).enumerate() {
        let d = d * f32::from(scales[part] as i8);
        let (half, place) = (part / 8, part % 8 * 16);
        let lower = &lower[half * 64 + place % 64..][..16];
        let upper = &upper[half * 32 + place % 32..][..16];
        let (nibble, pair) = (place / 64 * 4, place / 32 * 2);
        for ((out, lower), upper) in out.iter_mut().zip(lower).zip(upper) {
            let q = lower >> nibble & 15 | (upper >> pair & 3) << 4;
            *out = d * f32::from(q as i8 - 32);
        }
    }
}
