//! Products of matrices of float32, bfloat16 and float16, accumulated in float32 and rounded once.

use super::bfloat16;
use super::convert::Real;
use super::rows::{TOGETHER, dots};
use super::scratch::Scratch;
use super::vectorised;
use super::window::{Matrix, Window, multiply};
use crate::OperatorError;
use rayon::prelude::*;
use std::ops::Range;

/// Rows of a left matrix that are widened to float32 at once.
const ROWS: usize = 256;
/// The same where the right one is a layer's weights, which may come from the disk: each time they are read has to be
/// worth that.
const ROWS_FOR_WEIGHTS: usize = 1024;
/// How much of each row, and of each column of the right matrix, is widened at once.
const LENGTH: usize = 256;
/// Columns of a product that are summed in float32 before they are rounded.
const COLUMNS: usize = 128;
/// Elements of the left matrix, and of the right one, that are multiplied with each other before the next ones are
/// read: together they stay in the second level cache.
const CACHED: usize = 1 << 16;
/// Rows that a layer's weights are multiplied with as they lie in memory; more are worth packing.
const FEW: usize = 64;
/// Multiplications that are worth a second thread.
const WORTH_A_THREAD: usize = 1 << 17;

/// What is added to a product.
#[derive(Clone, Copy)]
pub enum Bias<'a> {
    /// Nothing.
    None,
    /// One number for each column.
    Columns(&'a [f32]),
    /// One number for each row.
    Rows(&'a [f32]),
}

impl Bias<'_> {
    /// What belongs to some of the product's rows and columns.
    fn part(self, rows: Range<usize>, columns: Range<usize>) -> Self {
        match self {
            Bias::None => Bias::None,
            Bias::Columns(bias) => Bias::Columns(&bias[columns]),
            Bias::Rows(bias) => Bias::Rows(&bias[rows]),
        }
    }
}

/// `to` = `a` · `b` + `bias`, by several threads. How the work is divided depends on the shapes and on `threads` only.
pub fn product<A: Real, B: Real, T: Real>(
    a: Matrix<'_, A>,
    b: Matrix<'_, B>,
    bias: Bias<'_>,
    to: Window<'_, T>,
    threads: usize,
) {
    let (m, n, k) = (to.rows, to.columns, a.columns);
    // A layer's weights are like this: for few rows it isn't worth while to copy parts of them into another order.
    let weights = b.row_stride == 1;
    if weights
        && k >= TOGETHER
        && (m <= FEW || (bfloat16::takes::<A, B>() && a.contiguous().is_some()))
    {
        return rows_with_rows(a, b, bias, to, threads);
    }
    let pieces = if m * n * k < WORTH_A_THREAD {
        1
    } else {
        threads
    };
    let (rows, columns) = if n >= m {
        (m, n.div_ceil(pieces).next_multiple_of(64))
    } else {
        (m.div_ceil(pieces).next_multiple_of(16), n)
    };
    let rows = match A::matrix(a) {
        Some(_) => rows,
        None if weights => rows.min(ROWS_FOR_WEIGHTS),
        None => rows.min(ROWS),
    };
    let compute = |(row, column, mut to): (usize, usize, Window<'_, T>)| {
        let a = a.part(row..row + to.rows, 0..k);
        let b = b.part(0..k, column..column + to.columns);
        let bias = bias.part(row..row + to.rows, column..column + to.columns);
        block(a, b, bias, &mut to);
    };
    let parts = to.parts(rows, columns);
    if parts.len() == 1 || threads == 1 {
        parts.into_iter().for_each(compute);
    } else {
        parts.into_par_iter().for_each(compute);
    }
}

/// `to` = `a` · b + `bias` on this thread. b is made as it is needed: `rows` writes those of its rows that it is asked for
/// into memory with room for `length` of them.
///
/// # Errors
/// Shapes that don't go together.
pub fn sum_of_products<A: Real, T: Real>(
    a: Matrix<'_, A>,
    length: usize,
    mut rows: impl FnMut(Range<usize>, &mut [f32]),
    bias: Bias<'_>,
    to: Window<'_, T>,
) -> Result<(), OperatorError> {
    let (m, n, k) = (to.rows, to.columns, a.columns);
    let height = m.div_ceil(m.div_ceil(2 * ROWS).max(1));
    let mut memory = Scratch::new(length * n);
    let mut left = Scratch::to_widen::<A>(height * length.min(LENGTH));
    let mut sums = Scratch::to_widen::<T>(height * n);
    let mut made = None;
    // Rows of `a` outermost: it may come from the disk, and making b again costs a tenth of multiplying with it.
    for (row, _, mut part) in to.parts(height, n) {
        // Once also where there is nothing to sum: that is zeros.
        for start in (0..k.max(1)).step_by(length.max(1)) {
            let range = start..k.min(start + length);
            let memory = &mut memory[..range.len() * n];
            if made != Some(start) {
                rows(range.clone(), memory);
                made = Some(start);
            }
            let b = Matrix::new(memory, [range.len(), n], [n, 1])?;
            let a = a.part(row..row + part.rows, range);
            let mut to = match part.as_singles() {
                Some(part) => part,
                None => Window::new(&mut sums, part.rows, n, n)?,
            };
            accumulate(a, b, [&mut left, &mut []], &mut to, start > 0);
        }
        for line in 0..part.rows {
            if let Some(mut part) = part.as_singles() {
                add_bias(bias, row + line, part.row(line));
            } else {
                let sums = &mut sums[line * n..(line + 1) * n];
                add_bias(bias, row + line, sums);
                T::store(sums, part.row(line));
            }
        }
    }
    Ok(())
}

/// A product on this thread.
fn block<A: Real, B: Real, T: Real>(
    a: Matrix<'_, A>,
    b: Matrix<'_, B>,
    bias: Bias<'_>,
    to: &mut Window<'_, T>,
) {
    let (m, n, length) = (to.rows, to.columns, b.rows.min(LENGTH));
    let mut left = Scratch::to_widen::<A>(m * length);
    if let Some(mut to) = to.as_singles() {
        let mut right = Scratch::to_widen::<B>(length * n);
        accumulate(a, b, [&mut left, &mut right], &mut to, false);
        return (0..m).for_each(|row| add_bias(bias, row, to.row(row)));
    }
    let mut right = Scratch::to_widen::<B>(length * n.min(COLUMNS));
    let mut sums = Scratch::new(m * n.min(COLUMNS));
    for column in (0..n).step_by(COLUMNS) {
        let width = COLUMNS.min(n - column);
        let sums = &mut sums[..m * width];
        accumulate(
            a,
            b.part(0..b.rows, column..column + width),
            [&mut left, &mut right],
            &mut Window::of_rows(sums, m, width),
            false,
        );
        let bias = bias.part(0..m, column..column + width);
        for (row, sums) in sums.chunks_mut(width).enumerate() {
            add_bias(bias, row, sums);
            T::store(sums, &mut to.row(row)[column..column + width]);
        }
    }
}

/// `to` = `a` · `b`, or that added to what is there. Panels are widened to float32 if they are something shorter.
fn accumulate<A: Real, B: Real>(
    a: Matrix<'_, A>,
    b: Matrix<'_, B>,
    [left, right]: [&mut [f32]; 2],
    to: &mut Window<'_, f32>,
    add: bool,
) {
    if let (Some(a), Some(b)) = (A::matrix(a), B::matrix(b)) {
        return multiply(a, b, to, add);
    }
    let k = b.rows;
    if k == 0 && !add {
        (0..to.rows).for_each(|row| to.row(row).fill(0.0));
    }
    for place in (0..k).step_by(LENGTH) {
        let places = place..k.min(place + LENGTH);
        let a = a.part(0..a.rows, places.clone());
        let b = b.part(places, 0..b.columns);
        multiply(singles(&a, left), singles(&b, right), to, add || place > 0);
    }
}

/// The matrix in float32, in `memory` unless it is that already.
pub fn singles<'a, T: Real>(matrix: &Matrix<'a, T>, memory: &'a mut [f32]) -> Matrix<'a, f32> {
    if let Some(matrix) = T::matrix(*matrix) {
        return matrix;
    }
    let by_columns = matrix.row_stride == 1 && matrix.column_stride != 1;
    let rows = if by_columns {
        matrix.transposed()
    } else {
        *matrix
    };
    let memory = &mut memory[..rows.rows * rows.columns];
    widen(&rows, memory);
    let widened = Matrix::of_rows(memory, rows.rows, rows.columns);
    if by_columns {
        widened.transposed()
    } else {
        widened
    }
}

/// The rows of `matrix` in float32, one after the other.
pub fn widen<T: Real>(matrix: &Matrix<'_, T>, to: &mut [f32]) {
    for (row, to) in to.chunks_mut(matrix.columns.max(1)).enumerate() {
        match matrix.row(row) {
            Some(elements) => T::load(elements, to),
            None => {
                let elements: Vec<T> = matrix.row_elements(row).collect();
                T::load(&elements, to);
            }
        }
    }
}

/// A product with a matrix whose columns lie in memory one after the other. Each column is read once.
fn rows_with_rows<A: Real, B: Real, T: Real>(
    a: Matrix<'_, A>,
    b: Matrix<'_, B>,
    bias: Bias<'_>,
    to: Window<'_, T>,
    threads: usize,
) {
    let (k, m) = (a.columns, to.rows);
    let as_they_are = match a.contiguous() {
        Some(rows) if bfloat16::takes::<A, B>() => A::bfloat16(rows),
        _ => None,
    };
    let mut memory;
    let rows = match a.contiguous().and_then(A::slice) {
        Some(rows) => rows,
        None if as_they_are.is_some() => &[],
        None => {
            memory = Scratch::new(m * k);
            widen(&a, &mut memory);
            &memory[..]
        }
    };
    let together = (CACHED / k).clamp(4, 128).next_multiple_of(4);
    // As many columns as stay in the cache, but some for each thread.
    let columns = (2 * CACHED / k)
        .min(to.columns.div_ceil(2 * threads.max(1)))
        .max(WORTH_A_THREAD / (m * k).max(1))
        .max(1)
        .next_multiple_of(16);
    let compute = |(_, left, mut to): (usize, usize, Window<'_, T>)| {
        let weights = b.transposed().part(left..left + to.columns, 0..k);
        let bias = bias.part(0..m, left..left + to.columns);
        let mut sums = Scratch::new(m.min(together) * to.columns);
        let mut tile = vec![[0f32; TOGETHER]; m.min(together)];
        for first in (0..m).step_by(together) {
            let count = together.min(m - first);
            let part = first * k..(first + count) * k;
            for column in (0..to.columns).step_by(TOGETHER) {
                // The last rows are repeated where there are no more.
                let row = |index: usize| weights.row((column + index).min(to.columns - 1));
                let weights = [0, 1, 2, 3].map(|index| row(index).unwrap_or_default());
                assert!(weights.iter().all(|row| row.len() == k), "rows of weights");
                let tile = &mut tile[..count];
                match (as_they_are, weights.map(B::bfloat16)) {
                    (Some(rows), [Some(w0), Some(w1), Some(w2), Some(w3)]) => {
                        bfloat16::dots(&rows[part.clone()], k, [w0, w1, w2, w3], tile);
                    }
                    _ => dots(&rows[part.clone()], k, weights, tile),
                }
                let width = TOGETHER.min(to.columns - column);
                for (sums, tile) in sums.chunks_mut(to.columns).zip(tile) {
                    sums[column..column + width].copy_from_slice(&tile[..width]);
                }
            }
            for (row, sums) in sums.chunks_mut(to.columns).take(count).enumerate() {
                let row = first + row;
                add_bias(bias, row, sums);
                T::store(sums, to.row(row));
            }
        }
    };
    let parts = to.parts(m, columns);
    if parts.len() == 1 || threads == 1 {
        parts.into_iter().for_each(compute);
    } else {
        parts.into_par_iter().for_each(compute);
    }
}

fn add_bias(bias: Bias<'_>, row: usize, sums: &mut [f32]) {
    vectorised(
        #[inline(always)]
        || match bias {
            Bias::None => {}
            Bias::Columns(bias) => sums
                .iter_mut()
                .zip(bias)
                .for_each(|(sum, bias)| *sum += bias),
            Bias::Rows(bias) => {
                let bias = bias[row];
                sums.iter_mut().for_each(|sum| *sum += bias);
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::bf16;

    /// Integers, so that every order of sums gives the same number.
    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        (0..count)
            .map(|place| ((place * 7 + seed) % 5) as f32 - 2.0)
            .collect()
    }

    fn bfloat16s(numbers: &[f32]) -> Vec<bf16> {
        numbers
            .iter()
            .map(|&number| bf16::from_f32(number))
            .collect()
    }

    /// `a` · `b`, by the definition.
    fn expected(a: &[f32], b: &[f32], [m, n, k]: [usize; 3]) -> Vec<f32> {
        (0..m * n)
            .map(|place| {
                (0..k)
                    .map(|i| a[place / n * k + i] * b[place % n * k + i])
                    .sum()
            })
            .collect()
    }

    fn computed<A: Real, B: Real, T: Real>(
        a: &[A],
        b: &[B],
        [m, n, k]: [usize; 3],
        mut to: Vec<T>,
    ) -> Vec<T> {
        product(
            Matrix::new(a, [m, k], [k, 1]).unwrap(),
            Matrix::new(b, [k, n], [1, k]).unwrap(),
            Bias::None,
            Window::new(&mut to, m, n, n).unwrap(),
            2,
        );
        to
    }

    fn summed<A: Real, T: Real>(
        a: &[A],
        b: &[f32],
        [m, n, k]: [usize; 3],
        length: usize,
        mut to: Vec<T>,
    ) -> Vec<T> {
        let rows = |range: Range<usize>, memory: &mut [f32]| {
            for (row, line) in range.zip(memory.chunks_mut(n)) {
                let column = line.iter_mut().enumerate();
                column.for_each(|(column, number)| *number = b[column * k + row]);
            }
        };
        let (a, window) = (
            Matrix::new(a, [m, k], [k, 1]).unwrap(),
            Window::new(&mut to, m, n, n).unwrap(),
        );
        sum_of_products(a, length, rows, Bias::None, window).unwrap();
        to
    }

    #[test]
    fn a_product_is_the_sum_of_its_parts() {
        for [m, n, k] in [[3, 5, 7], [2 * ROWS + 9, 21, 615], [3, 5, 0]] {
            let (a, b) = (numbers(m * k, 1), numbers(n * k, 3));
            let expected = expected(&a, &b, [m, n, k]);
            // What was there before is nobody's.
            let (before, short_before) = (vec![9f32; m * n], vec![bf16::ONE; m * n]);
            let short_a = bfloat16s(&a);
            for length in [1, 7, 600, 615] {
                let size = [m, n, k];
                assert_eq!(summed(&a, &b, size, length, before.clone()), expected);
                assert_eq!(summed(&short_a, &b, size, length, before.clone()), expected);
                let rounded = summed(&short_a, &b, size, length, short_before.clone());
                assert_eq!(rounded, bfloat16s(&expected));
            }
        }
    }

    /// Sizes below and above those of all panels, and none of their multiples.
    #[test]
    fn products_of_every_size_are_whole() {
        for [m, n, k] in [
            [3, 5, 7],
            [FEW + 1, 131, 600],
            [ROWS_FOR_WEIGHTS + 9, 21, 515],
            [70, 300, 1],
        ] {
            let (a, b) = (numbers(m * k, 1), numbers(n * k, 3));
            let expected = expected(&a, &b, [m, n, k]);
            let zeros = vec![0f32; m * n];
            let (short_a, short_b) = (bfloat16s(&a), bfloat16s(&b));
            assert_eq!(computed(&a, &b, [m, n, k], zeros.clone()), expected);
            assert_eq!(computed(&a, &short_b, [m, n, k], zeros.clone()), expected);
            assert_eq!(computed(&short_a, &short_b, [m, n, k], zeros), expected);
            let rounded = computed(&short_a, &short_b, [m, n, k], vec![bf16::ZERO; m * n]);
            assert_eq!(rounded, bfloat16s(&expected));
        }
    }
}
