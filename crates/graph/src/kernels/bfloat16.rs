//! Sums of products of bfloat16, by the instructions that processors have for them.

use super::convert::Real;
use super::rows::TOGETHER;
use half::bf16;
use weightstream::Dtype;

/// Whether this processor has them.
pub fn is_fast() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        is_x86_feature_detected!("avx512bf16") && is_x86_feature_detected!("avx512bw")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

/// Whether it has them for products of an `A` with a `B`.
pub fn takes<A: Real, B: Real>() -> bool {
    A::DTYPE == Dtype::BF16 && B::DTYPE == Dtype::BF16 && is_fast()
}

/// `sums[r]` = the products of row r of `rows`, rows of `length` elements, with each of the `weights`, accumulated in
/// float32.
///
/// # Panics
/// The lengths don't go together, or the processor is not one where it [`is_fast`].
pub fn dots(
    rows: &[bf16],
    length: usize,
    weights: [&[bf16]; TOGETHER],
    sums: &mut [[f32; TOGETHER]],
) {
    let fits = rows.len() == length * sums.len() && weights.iter().all(|row| row.len() == length);
    assert!(
        length > 0 && fits && is_fast(),
        "rows of {length} elements, on a processor with bfloat16"
    );
    #[cfg(target_arch = "x86_64")]
    {
        let mut groups = rows.chunks_exact(4 * length);
        let mut group_sums = sums.chunks_exact_mut(4);
        for (rows, sums) in groups.by_ref().zip(group_sums.by_ref()) {
            let row = |number: usize| &rows[number * length..(number + 1) * length];
            // SAFETY: the processor has the instructions, and all rows are of one length.
            let tile = unsafe { x86::tile([row(0), row(1), row(2), row(3)], weights, length) };
            sums.copy_from_slice(&tile);
        }
        let rest = groups.remainder().chunks_exact(length);
        for (row, sums) in rest.zip(group_sums.into_remainder()) {
            // SAFETY: as above.
            [*sums] = unsafe { x86::tile([row], weights, length) };
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{TOGETHER, bf16};
    use std::arch::x86_64::{
        __m512bh, _mm512_dpbf16_ps, _mm512_maskz_loadu_epi16, _mm512_reduce_add_ps,
        _mm512_setzero_ps,
    };

    /// Elements of a vector.
    const LANES: usize = 32;

    /// The products of each row with each of the weights.
    ///
    /// # Safety
    /// All slices have `length` elements, and the processor has the named features.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    pub unsafe fn tile<const R: usize>(
        rows: [&[bf16]; R],
        weights: [&[bf16]; TOGETHER],
        length: usize,
    ) -> [[f32; TOGETHER]; R] {
        let mut sums = [[_mm512_setzero_ps(); TOGETHER]; R];
        for first in (0..length).step_by(LANES) {
            let mask = match length - first {
                LANES.. => u32::MAX,
                rest => (1 << rest) - 1,
            };
            // SAFETY: elements of the mask lie within the slice, no others are read; both types are 512 bits.
            let load = |row: &[bf16]| unsafe {
                let vector = _mm512_maskz_loadu_epi16(mask, row.as_ptr().add(first).cast());
                std::mem::transmute::<_, __m512bh>(vector)
            };
            let columns = weights.map(load);
            for (sums, row) in sums.iter_mut().zip(rows) {
                let row = load(row);
                for (sum, column) in sums.iter_mut().zip(columns) {
                    *sum = _mm512_dpbf16_ps(*sum, row, column);
                }
            }
        }
        sums.map(|sums| sums.map(|sum| _mm512_reduce_add_ps(sum)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_float32() {
        if !is_fast() {
            return;
        }
        for (count, length) in [(1, 1), (5, 31), (8, 32), (7, 100), (4, 577)] {
            let value = |index: usize| bf16::from_f32(((index * 37 % 101) as f32 - 50.0) / 64.0);
            let rows: Vec<bf16> = (0..count * length).map(value).collect();
            let weights: Vec<bf16> = (0..TOGETHER * length)
                .map(|index| value(index + 13))
                .collect();
            let weight = |number: usize| &weights[number * length..(number + 1) * length];
            let mut sums = vec![[0f32; TOGETHER]; count];
            dots(&rows, length, [0, 1, 2, 3].map(weight), &mut sums);
            for (row, sums) in rows.chunks(length).zip(sums) {
                for (number, sum) in sums.into_iter().enumerate() {
                    let pairs = row.iter().zip(weight(number));
                    let expected: f64 = pairs.map(|(a, b)| a.to_f64() * b.to_f64()).sum();
                    assert!((f64::from(sum) - expected).abs() < 1e-4, "{sum} {expected}");
                }
            }
        }
    }
}
