//! Scaled dot product attention in blocks, so that no matrix of all scores is ever in memory.

use super::convert::Real;
use super::matrix::{singles, widen};
use super::reduce::{exponentials, highest};
use super::scratch::Scratch;
use super::window::{Matrix, Window, multiply};
use super::{exp, vectorised};
use crate::OperatorError;
use rayon::prelude::*;
use weightstream::Dtype;

/// Queries and keys of one block.
const QUERIES: usize = 64;
const KEYS: usize = 512;

/// Elements of shape (batch, heads, length, size) with any strides.
#[derive(Clone, Copy)]
#[allow(missing_docs)]
pub struct Heads<'a, T> {
    pub elements: &'a [T],
    pub shape: [usize; 4],
    pub strides: [usize; 4],
}

impl<'a, T: Copy> Heads<'a, T> {
    /// The (length, size) matrix of one head.
    fn head(&self, batch: usize, head: usize) -> Result<Matrix<'a, T>, OperatorError> {
        let first = batch * self.strides[0] + head * self.strides[1];
        let [_, _, length, size] = self.shape;
        Matrix::new(
            self.elements.get(first..).unwrap_or_default(),
            [length, size],
            [self.strides[2], self.strides[3]],
        )
    }
}

/// Adds to the scores of one query, (batch, head, query, first key), what its mask says.
pub type Mask<'a> = &'a (dyn Fn([usize; 4], &mut [f32]) + Sync);

/// What attention is computed with.
#[derive(Clone, Copy)]
#[allow(missing_docs)]
pub struct Attention<'a> {
    pub scale: f32,
    /// Whether a query sees no keys after its own position.
    pub causal: bool,
    pub mask: Option<Mask<'a>>,
}

/// softmax(`scale` · q kᵀ + mask) v, in memory of shape (batch, length, heads, size). Several query heads may share a
/// head of keys and values.
///
/// # Errors
/// Shapes that don't go together.
pub fn attention<T: Real>(
    query: Heads<'_, T>,
    key: Heads<'_, T>,
    value: Heads<'_, T>,
    options: Attention<'_>,
    to: &mut [T],
) -> Result<(), OperatorError> {
    let [_, heads, length, _] = query.shape;
    let (shared, size) = (key.shape[1], value.shape[3]);
    if to.is_empty() {
        return Ok(());
    }
    let group = heads / shared.max(1);
    let mut tasks = Vec::new();
    for (batch, to) in to.chunks_mut(length * heads * size).enumerate() {
        let window = Window::new(to, length, heads * size, heads * size)?;
        let queries = (QUERIES / group).max(1);
        for (first, column, part) in window.parts(queries, group * size) {
            tasks.push((batch, column / (group * size).max(1), first, part));
        }
    }
    tasks
        .into_par_iter()
        .try_for_each(|(batch, shared, first, to)| {
            Block {
                query,
                keys: key.head(batch, shared)?,
                values: value.head(batch, shared)?,
                options,
                batch,
                heads: shared * group..(shared + 1) * group,
                first,
            }
            .compute(to)
        })
}

/// Some queries of the heads that share one head of keys.
struct Block<'a, T> {
    query: Heads<'a, T>,
    keys: Matrix<'a, T>,
    values: Matrix<'a, T>,
    options: Attention<'a>,
    batch: usize,
    heads: std::ops::Range<usize>,
    first: usize,
}

impl<T: Real> Block<'_, T> {
    fn compute(self, mut to: Window<'_, T>) -> Result<(), OperatorError> {
        let (group, queries) = (self.heads.len(), to.rows);
        let (depth, size) = (self.keys.columns, self.values.columns);
        // Row r is query r / group of head r % group: what is written together is together.
        let rows = queries * group;
        let mut scaled = Scratch::new(rows * depth);
        for (index, head) in self.heads.clone().enumerate() {
            let matrix = self.query.head(self.batch, head)?;
            for row in 0..queries {
                let at = (row * group + index) * depth;
                let one = matrix.part(self.first + row..self.first + row + 1, 0..depth);
                widen(&one, &mut scaled[at..at + depth]);
            }
        }
        vectorised(|| scaled.iter_mut().for_each(|q| *q *= self.options.scale));
        let scaled = Matrix::new(&scaled, [rows, depth], [depth, 1])?;

        let all = self.keys.rows;
        let seen = if self.options.causal {
            all.min(self.first + queries)
        } else {
            all
        };
        let width = KEYS.min(seen.max(1));
        let mut scores = Scratch::new(rows * width);
        let mut sums = vec![0f32; rows];
        let mut peaks = vec![f32::NEG_INFINITY; rows];
        let mut result = Scratch::zeros(rows * size);
        let mut memory = Scratch::to_widen::<T>(width * depth.max(size));
        for start in (0..seen).step_by(KEYS) {
            let end = seen.min(start + KEYS);
            let width = end - start;
            let scores = &mut scores[..rows * width];
            let keys = self.keys.part(start..end, 0..depth);
            let keys = singles(&keys, &mut memory);
            multiply(
                scaled,
                keys.transposed(),
                &mut Window::new(scores, rows, width, width)?,
                false,
            );
            for (row, scores) in scores.chunks_mut(width).enumerate() {
                self.mask(row, start, scores);
                let sum = rescale(
                    scores,
                    &mut peaks[row],
                    &mut result[row * size..(row + 1) * size],
                );
                sums[row] = sums[row] * sum.0 + sum.1;
                if T::DTYPE == Dtype::BF16 {
                    // As torch rounds them before they are multiplied with the values.
                    vectorised(|| scores.iter_mut().for_each(|score| *score = rounded(*score)));
                }
            }
            let values = self.values.part(start..end, 0..size);
            let values = singles(&values, &mut memory);
            multiply(
                Matrix::new(scores, [rows, width], [width, 1])?,
                values,
                &mut Window::new(&mut result, rows, size, size)?,
                true,
            );
        }
        for (row, result) in result.chunks_mut(size.max(1)).enumerate() {
            // A query that sees no key at all gives zeros.
            let factor = if sums[row] == 0.0 {
                0.0
            } else {
                1.0 / sums[row]
            };
            result.iter_mut().for_each(|value| *value *= factor);
            let at = row % group * size;
            T::store(result, &mut to.row(row / group)[at..at + size]);
        }
        Ok(())
    }

    fn mask(&self, row: usize, start: usize, scores: &mut [f32]) {
        let group = self.heads.len();
        let query = self.first + row / group;
        if let Some(mask) = self.options.mask {
            mask(
                [self.batch, self.heads.start + row % group, query, start],
                scores,
            );
        }
        if self.options.causal && query + 1 < start + scores.len() {
            scores[(query + 1).saturating_sub(start)..].fill(f32::NEG_INFINITY);
        }
    }
}

/// Makes scores probabilities relative to the highest one so far. What was summed before has to be multiplied by the
/// first result (`before` is already); the second one is the sum of the new ones.
fn rescale(scores: &mut [f32], peak: &mut f32, before: &mut [f32]) -> (f32, f32) {
    vectorised(
        #[inline(always)]
        || {
            let new = highest(scores);
            let new = if *peak > new { *peak } else { new };
            if new == f32::NEG_INFINITY {
                scores.fill(0.0);
                return (1.0, 0.0);
            }
            let factor = exp(*peak - new);
            *peak = new;
            let sum = exponentials(scores, new);
            if factor != 1.0 {
                before.iter_mut().for_each(|value| *value *= factor);
            }
            (factor, sum)
        },
    )
}

#[inline(always)]
fn rounded(value: f32) -> f32 {
    super::convert::widen(super::convert::narrow(value))
}
