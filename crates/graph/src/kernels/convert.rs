//! Conversion of elements, as torch converts: towards zero, wrapping, through float32 for halves.

use super::vectorised;
use super::window::Matrix;
use crate::Element;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

/// Slices of one element type written as another one.
pub trait Convert<T>: Element {
    /// `to[i]` = `from[i]`; both have the same length.
    fn convert(from: &[Self], to: &mut [T]);
}

/// Floating-point elements that are computed in float32.
pub trait Real: Convert<f32> {
    /// `to[i]` = `from[i]`.
    fn load(from: &[Self], to: &mut [f32]) {
        Self::convert(from, to);
    }

    /// `to[i]` = `from[i]`, rounded to nearest even.
    fn store(from: &[f32], to: &mut [Self]);

    /// The same elements, if they are float32.
    fn slice(_: &[Self]) -> Option<&[f32]> {
        None
    }

    /// The same elements, if they are bfloat16.
    fn bfloat16(_: &[Self]) -> Option<&[bf16]> {
        None
    }

    /// The same matrix, if it is of float32.
    fn matrix(_: Matrix<'_, Self>) -> Option<Matrix<'_, f32>> {
        None
    }
}

#[inline(always)]
fn loops<S: Copy, T>(from: &[S], to: &mut [T], one: impl Fn(S) -> T) {
    vectorised(
        #[inline(always)]
        || {
            for (to, &from) in to.iter_mut().zip(from) {
                *to = one(from);
            }
        },
    );
}

macro_rules! as_numbers {
    ($($from:ty => [$($to:ty),*]);*) => {
        $($(impl Convert<$to> for $from {
            fn convert(from: &[Self], to: &mut [$to]) {
                loops(from, to, |value| value as $to);
            }
        })*)*
    };
}
as_numbers! {
    f64 => [f32, i64, i32, i16, i8];
    f32 => [f64, i64, i32, i16, i8];
    i64 => [f64, f32, i32, i16, i8, u8];
    i32 => [f64, f32, i64];
    i16 => [f64, f32, i64];
    i8 => [f64, f32, i64];
    u8 => [f64, f32, i64]
}

macro_rules! same {
    ($($number:ty),*) => {
        $(impl Convert<$number> for $number {
            fn convert(from: &[Self], to: &mut [$number]) {
                to.copy_from_slice(from);
            }
        })*
    };
}
same!(f64, f32, i64);

macro_rules! wrapping_bytes {
    ($($number:ty),*) => {
        $(impl Convert<u8> for $number {
            fn convert(from: &[Self], to: &mut [u8]) {
                loops(from, to, |value| value as i64 as u8);
            }
        })*
    };
}
wrapping_bytes!(f64, f32);

impl Convert<f32> for bf16 {
    fn convert(from: &[Self], to: &mut [f32]) {
        loops(from, to, widen);
    }
}

impl Convert<bf16> for f32 {
    fn convert(from: &[Self], to: &mut [bf16]) {
        loops(from, to, narrow);
    }
}

impl Convert<f32> for f16 {
    fn convert(from: &[Self], to: &mut [f32]) {
        from.convert_to_f32_slice(to);
    }
}

impl Convert<f16> for f32 {
    fn convert(from: &[Self], to: &mut [f16]) {
        to.convert_from_f32_slice(from);
    }
}

macro_rules! through_float32 {
    ($half:ty: [$($number:ty),*]) => {
        $(
            impl Convert<$number> for $half {
                fn convert(from: &[Self], to: &mut [$number]) {
                    let mut buffer = [0f32; 256];
                    for (from, to) in from.chunks(256).zip(to.chunks_mut(256)) {
                        let buffer = &mut buffer[..from.len()];
                        Convert::<f32>::convert(from, buffer);
                        Convert::<$number>::convert(buffer, to);
                    }
                }
            }
            impl Convert<$half> for $number {
                fn convert(from: &[Self], to: &mut [$half]) {
                    let mut buffer = [0f32; 256];
                    for (from, to) in from.chunks(256).zip(to.chunks_mut(256)) {
                        let buffer = &mut buffer[..from.len()];
                        Convert::<f32>::convert(from, buffer);
                        Convert::<$half>::convert(buffer, to);
                    }
                }
            }
        )*
    };
}
through_float32!(bf16: [f64, i64]);
through_float32!(f16: [f64, i64]);

impl Real for f32 {
    fn store(from: &[f32], to: &mut [Self]) {
        to.copy_from_slice(from);
    }

    fn slice(elements: &[Self]) -> Option<&[f32]> {
        Some(elements)
    }

    fn matrix(matrix: Matrix<'_, Self>) -> Option<Matrix<'_, f32>> {
        Some(matrix)
    }
}

impl Real for bf16 {
    fn store(from: &[f32], to: &mut [Self]) {
        Convert::<Self>::convert(from, to);
    }

    fn bfloat16(elements: &[Self]) -> Option<&[Self]> {
        Some(elements)
    }
}

impl Real for f16 {
    fn store(from: &[f32], to: &mut [Self]) {
        Convert::<Self>::convert(from, to);
    }
}

/// A bfloat16 is the upper half of a float32.
#[inline(always)]
pub fn widen(value: bf16) -> f32 {
    f32::from_bits(u32::from(value.to_bits()) << 16)
}

/// To nearest, ties to even.
#[inline(always)]
pub fn narrow(value: f32) -> bf16 {
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    let nan = (bits >> 16) | 0x40;
    bf16::from_bits(if value.is_nan() { nan } else { rounded } as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bfloat16_is_rounded_as_the_half_crate_rounds() {
        for step in 0..1_000_000_u32 {
            let value = f32::from_bits(step.wrapping_mul(4_294_967));
            assert_eq!(
                narrow(value).to_bits(),
                bf16::from_f32(value).to_bits(),
                "{value}"
            );
            assert_eq!(
                widen(narrow(value)).to_bits(),
                narrow(value).to_f32().to_bits()
            );
        }
    }
}
