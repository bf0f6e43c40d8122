//! Floating-point tensors in another dtype, rounded to the nearest even as PyTorch does.

use half::{bf16, f16};
use weightstream::Dtype;

/// What can be converted from and to.
pub fn is_convertible(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F16 | Dtype::BF16 | Dtype::F32 | Dtype::F64)
}

/// Converts the elements of `from`, of dtype `source`, to those of `to`, of dtype `target`. Both are
/// [convertible](is_convertible) and of as many elements.
pub fn convert(source: Dtype, target: Dtype, from: &[u8], to: &mut [u8]) {
    match source {
        Dtype::F16 => write(target, from.as_chunks().0, to, |bytes| {
            f16::from_le_bytes(bytes).into()
        }),
        Dtype::BF16 => write(target, from.as_chunks().0, to, |bytes| {
            bf16::from_le_bytes(bytes).into()
        }),
        Dtype::F32 => write(target, from.as_chunks().0, to, |bytes| {
            f32::from_le_bytes(bytes).into()
        }),
        _ => write(target, from.as_chunks().0, to, f64::from_le_bytes),
    }
}

/// Through float64, which holds every value of the other three; to 16 bits by way of float32, as PyTorch goes.
fn write<const N: usize>(
    target: Dtype,
    from: &[[u8; N]],
    to: &mut [u8],
    value: impl Fn([u8; N]) -> f64,
) {
    let values = from.iter().map(|&bytes| value(bytes));
    match target {
        Dtype::F16 => fill(
            to,
            values.map(|value| f16::from_f32(value as f32).to_le_bytes()),
        ),
        Dtype::BF16 => fill(
            to,
            values.map(|value| bf16::from_f32(value as f32).to_le_bytes()),
        ),
        Dtype::F32 => fill(to, values.map(|value| (value as f32).to_le_bytes())),
        _ => fill(to, values.map(f64::to_le_bytes)),
    }
}

fn fill<const N: usize>(to: &mut [u8], values: impl Iterator<Item = [u8; N]>) {
    for (place, value) in to.as_chunks_mut().0.iter_mut().zip(values) {
        *place = value;
    }
}
