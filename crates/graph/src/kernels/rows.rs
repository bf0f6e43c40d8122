//! Sums of products that stay in registers: rows with rows, and a line with the taps of a kernel.

use super::convert::Real;
use pulp::{Arch, Simd, WithSimd};

/// Rows of weights that are multiplied at once; each of them is read once for every four rows of the other side.
pub const TOGETHER: usize = 4;
/// Elements of the weights that are widened to float32 at once: they stay in the first level cache.
const WIDENED: usize = 512;

/// `sums[r]` = the products of row r of `rows`, rows of `length` elements, with each of the `weights`.
pub fn dots<T: Real>(
    rows: &[f32],
    length: usize,
    weights: [&[T]; TOGETHER],
    sums: &mut [[f32; TOGETHER]],
) {
    sums.fill([0.0; TOGETHER]);
    if let [Some(a), Some(b), Some(c), Some(d)] = weights.map(T::slice) {
        let weights = [a, b, c, d];
        return Arch::new().dispatch(Dots {
            rows,
            length,
            first: 0,
            weights,
            sums,
        });
    }
    let mut widened = [[0f32; WIDENED]; TOGETHER];
    for first in (0..length).step_by(WIDENED) {
        let width = WIDENED.min(length - first);
        for (to, from) in widened.iter_mut().zip(weights) {
            T::load(&from[first..first + width], &mut to[..width]);
        }
        let weights = [0, 1, 2, 3].map(|row: usize| &widened[row][..width]);
        Arch::new().dispatch(Dots {
            rows,
            length,
            first,
            weights,
            sums,
        });
    }
}

struct Dots<'a> {
    rows: &'a [f32],
    length: usize,
    /// The first element of each row that is multiplied with the weights.
    first: usize,
    weights: [&'a [f32]; TOGETHER],
    sums: &'a mut [[f32; TOGETHER]],
}

impl WithSimd for Dots<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let width = self.weights[0].len();
        let row = |number: usize| &self.rows[number * self.length + self.first..][..width];
        let mut sums = self.sums.chunks_exact_mut(4);
        let mut number = 0;
        for sums in sums.by_ref() {
            let rows = [
                row(number),
                row(number + 1),
                row(number + 2),
                row(number + 3),
            ];
            add(sums, tile(simd, rows, self.weights));
            number += 4;
        }
        for sums in sums.into_remainder().chunks_mut(1) {
            add(sums, tile(simd, [row(number)], self.weights));
            number += 1;
        }
    }
}

#[inline(always)]
fn add<const R: usize>(sums: &mut [[f32; TOGETHER]], more: [[f32; TOGETHER]; R]) {
    for (sums, more) in sums.iter_mut().zip(more) {
        for (sum, more) in sums.iter_mut().zip(more) {
            *sum += more;
        }
    }
}

#[inline(always)]
fn tile<S: Simd, const R: usize>(
    simd: S,
    rows: [&[f32]; R],
    weights: [&[f32]; TOGETHER],
) -> [[f32; TOGETHER]; R] {
    let (vectors, rest) = (
        rows.map(|row| S::as_simd_f32s(row).0),
        rows.map(|row| S::as_simd_f32s(row).1),
    );
    let (columns, column_rest) = (
        weights.map(|row| S::as_simd_f32s(row).0),
        weights.map(|row| S::as_simd_f32s(row).1),
    );
    let count = columns[0].len();
    let (vectors, columns) = (
        vectors.map(|row| &row[..count]),
        columns.map(|row| &row[..count]),
    );
    let mut sums = [[simd.splat_f32s(0.0); TOGETHER]; R];
    for index in 0..count {
        let column = columns.map(|column| column[index]);
        for (sums, row) in sums.iter_mut().zip(vectors) {
            for (sum, column) in sums.iter_mut().zip(column) {
                *sum = simd.mul_add_e_f32s(row[index], column, *sum);
            }
        }
    }
    let mut result = [[0f32; TOGETHER]; R];
    for (row, result) in result.iter_mut().enumerate() {
        for (column, result) in result.iter_mut().enumerate() {
            let tail: f32 = rest[row]
                .iter()
                .zip(column_rest[column])
                .map(|(a, b)| a * b)
                .sum();
            *result = simd.reduce_sum_f32s(sums[row][column]) + tail;
        }
    }
    result
}

/// `to[i]` = bias + Σ weight[t] · source[i + offset[t]], for as many outputs as `source` has inputs for; the length of
/// `to` is a multiple of 64.
pub fn correlate(source: &[f32], offsets: &[usize], weights: &[f32], bias: f32, to: &mut [f32]) {
    Arch::new().dispatch(Correlate {
        source,
        offsets,
        weights,
        bias,
        to,
    });
}

struct Correlate<'a> {
    source: &'a [f32],
    offsets: &'a [usize],
    weights: &'a [f32],
    bias: f32,
    to: &'a mut [f32],
}

impl WithSimd for Correlate<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (vectors, _) = S::as_mut_simd_f32s(self.to);
        for (number, to) in vectors.chunks_exact_mut(4).enumerate() {
            let mut sums = [simd.splat_f32s(self.bias); 4];
            for (&offset, &weight) in self.offsets.iter().zip(self.weights) {
                let first = number * 4 * S::F32_LANES + offset;
                let Some(source) = self.source.get(first..first + 4 * S::F32_LANES) else {
                    continue;
                };
                let (source, weight) = (S::as_simd_f32s(source).0, simd.splat_f32s(weight));
                for (sum, &source) in sums.iter_mut().zip(source) {
                    *sum = simd.mul_add_e_f32s(weight, source, *sum);
                }
            }
            to.copy_from_slice(&sums);
        }
    }
}
