//! Results that are computed element by element, from any number of operands of any dtype and strides.

use super::reader::{Compute, Part, RUN, Reader, Writer};
use super::{WORTH_A_THREAD, vectorised};
use crate::{Context, OperatorError, Tensor, Walk};
use rayon::prelude::*;
use weightstream::Dtype;

/// A new tensor of `shape` and `dtype`, of which `compute` writes runs from the same runs of `operands`, broadcast.
///
/// # Errors
/// Shapes that don't broadcast, dtypes that can't be computed with, no memory.
pub fn map<const N: usize, C: Compute, R: Compute>(
    context: &Context,
    dtype: Dtype,
    shape: &[usize],
    operands: [&Tensor; N],
    compute: impl Fn([&[C]; N], &mut [R]) + Sync,
) -> Result<Tensor, OperatorError> {
    let result = context.empty(dtype, shape)?;
    let count = result.count();
    if count == 0 {
        return Ok(result);
    }
    let mut expanded = Vec::with_capacity(N);
    for operand in operands {
        expanded.push(operand.expand(shape)?);
    }
    let readers = expanded
        .iter()
        .map(Reader::new)
        .collect::<Result<Vec<_>, _>>()?;
    let walk = Walk::<N>::new(
        shape,
        std::array::from_fn(|index| expanded[index].strides()),
    );
    let mut writer = Writer::new(&result)?;
    let boolean = writer.boolean;
    let chunk = WORTH_A_THREAD.min(count);
    let fill = |(number, mut part): (usize, Part<'_>)| {
        let mut buffers = [[C::default(); RUN]; N];
        let start = number * chunk;
        let end = start + part.len();
        pieces(&walk, start, end, |at, length, offsets| {
            let mut buffers = buffers.iter_mut();
            let runs = std::array::from_fn(|index| match buffers.next() {
                Some(buffer) => C::read(
                    &readers[index],
                    offsets[index],
                    walk.steps[index],
                    &mut buffer[..length],
                ),
                None => &[],
            });
            R::write(&mut part, at - start, length, boolean, |to| {
                compute(runs, to);
            });
        });
    };
    let parts = writer.parts(chunk);
    if parts.len() == 1 || context.threads() == 1 {
        parts.into_iter().enumerate().for_each(fill);
    } else {
        parts.into_par_iter().enumerate().for_each(fill);
    }
    drop(writer);
    Ok(result)
}

/// Calls `visit` with the position, the length (at most [`RUN`]) and the operands' offsets of each piece of
/// `start..end`.
fn pieces<const N: usize>(
    walk: &Walk<N>,
    start: usize,
    end: usize,
    mut visit: impl FnMut(usize, usize, [usize; N]),
) {
    let first = start / walk.length;
    let mut run = first * walk.length;
    walk.for_each(first..end.div_ceil(walk.length), |offsets| {
        let mut at = run.max(start);
        let stop = (run + walk.length).min(end);
        while at < stop {
            let length = (stop - at).min(RUN);
            visit(
                at,
                length,
                std::array::from_fn(|index| offsets[index] + (at - run) * walk.steps[index]),
            );
            at += length;
        }
        run += walk.length;
    });
}

/// [`map`] of one operand, element by element.
///
/// # Errors
/// As [`map`].
pub fn map1<C: Compute, R: Compute>(
    context: &Context,
    dtype: Dtype,
    operand: &Tensor,
    compute: impl Fn(C) -> R + Sync,
) -> Result<Tensor, OperatorError> {
    let shape = operand.shape();
    map(
        context,
        dtype,
        shape,
        [operand],
        |[a]: [&[C]; 1], to: &mut [R]| {
            // Zipped, not indexed: a check of bounds in a loop keeps it from being vectorised.
            vectorised(
                #[inline(always)]
                || {
                    for (to, &a) in to.iter_mut().zip(a) {
                        *to = compute(a);
                    }
                },
            );
        },
    )
}

/// [`map`] of two operands, element by element.
///
/// # Errors
/// As [`map`].
pub fn map2<C: Compute, R: Compute>(
    context: &Context,
    dtype: Dtype,
    shape: &[usize],
    operands: [&Tensor; 2],
    compute: impl Fn(C, C) -> R + Sync,
) -> Result<Tensor, OperatorError> {
    map(
        context,
        dtype,
        shape,
        operands,
        |[a, b]: [&[C]; 2], to: &mut [R]| {
            vectorised(
                #[inline(always)]
                || {
                    for ((to, &a), &b) in to.iter_mut().zip(a).zip(b) {
                        *to = compute(a, b);
                    }
                },
            );
        },
    )
}

/// [`map`] of three operands, element by element.
///
/// # Errors
/// As [`map`].
pub fn map3<C: Compute, R: Compute>(
    context: &Context,
    dtype: Dtype,
    shape: &[usize],
    operands: [&Tensor; 3],
    compute: impl Fn(C, C, C) -> R + Sync,
) -> Result<Tensor, OperatorError> {
    map(
        context,
        dtype,
        shape,
        operands,
        |[a, b, c]: [&[C]; 3], to: &mut [R]| {
            vectorised(
                #[inline(always)]
                || {
                    for (((to, &a), &b), &c) in to.iter_mut().zip(a).zip(b).zip(c) {
                        *to = compute(a, b, c);
                    }
                },
            );
        },
    )
}
