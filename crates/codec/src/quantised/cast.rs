//! float32 to the dtype of a model, rounded to nearest, ties to even.

use half::f16;

#[inline(always)]
pub(super) fn to_bf16(values: &[f32], out: &mut [u8]) {
    for (value, out) in values.iter().zip(out.as_chunks_mut::<2>().0) {
        let bits = value.to_bits();
        let rounded = bits.wrapping_add(0x7FFF + (bits >> 16 & 1));
        // Rounding would turn some NaN into infinity.
        let rounded = if value.is_nan() {
            bits | 0x40_0000
        } else {
            rounded
        };
        *out = ((rounded >> 16) as u16).to_le_bytes();
    }
}

#[inline(always)]
pub(super) fn to_f16(values: &[f32], out: &mut [u8]) {
    for (value, out) in values.iter().zip(out.as_chunks_mut::<2>().0) {
        *out = f16::from_f32(*value).to_le_bytes();
    }
}

#[inline(always)]
pub(super) fn to_f32(values: &[f32], out: &mut [u8]) {
    for (value, out) in values.iter().zip(out.as_chunks_mut::<4>().0) {
        *out = value.to_le_bytes();
    }
}
