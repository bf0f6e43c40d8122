//! Running totals, extremes and the like along a dimension.

use super::operand::{Results, computed, floating, one};
use super::sorting::along;
use crate::kernels::compute_dtype;
use crate::{Arguments, Context};
use weightstream::Dtype;

pub(super) const OPERATORS: super::Family = &[
    ("aten.cumsum.default", |c, a| {
        running(c, &a, |a, b| a + b, i64::wrapping_add)
    }),
    ("aten.cumprod.default", |c, a| {
        running(c, &a, |a, b| a * b, i64::wrapping_mul)
    }),
    ("aten.logcumsumexp.default", logarithms),
    ("aten.cummax.default", |c, a| extremes(c, &a, true)),
    ("aten.cummin.default", |c, a| extremes(c, &a, false)),
];

fn running(
    context: &Context,
    arguments: &Arguments,
    floats: fn(f64, f64) -> f64,
    integers: fn(i64, i64) -> i64,
) -> Results {
    let tensor = arguments.tensor("self")?;
    let dim = tensor.dimension(arguments.int("dim")?)?;
    let length = tensor.shape().get(dim).copied().unwrap_or(1);
    let natural = if compute_dtype(tensor.dtype()) == Dtype::I64 {
        Dtype::I64
    } else {
        tensor.dtype()
    };
    let dtype = arguments.optional_dtype("dtype")?.unwrap_or(natural);
    one(if compute_dtype(dtype) == Dtype::I64 {
        along::<i64, i64>(context, tensor, dim, length, dtype, |row, to| {
            let mut total = None;
            for (to, &value) in to.iter_mut().zip(row) {
                *to = total.map_or(value, |total| integers(total, value));
                total = Some(*to);
            }
        })?
    } else {
        along::<f64, f64>(context, tensor, dim, length, dtype, |row, to| {
            let mut total = None;
            for (to, &value) in to.iter_mut().zip(row) {
                *to = total.map_or(value, |total| floats(total, value));
                total = Some(*to);
            }
        })?
    })
}

/// The logarithm of the running sum of e^x, without an overflow.
fn logarithms(context: &Context, arguments: Arguments) -> Results {
    let tensor = arguments.tensor("self")?;
    let dim = tensor.dimension(arguments.int("dim")?)?;
    let length = tensor.shape().get(dim).copied().unwrap_or(1);
    let dtype = floating(tensor.dtype());
    one(along::<f64, f64>(
        context,
        tensor,
        dim,
        length,
        dtype,
        |row, to| {
            let mut total = f64::NEG_INFINITY;
            for (to, &value) in to.iter_mut().zip(row) {
                let (low, high) = if value < total {
                    (value, total)
                } else {
                    (total, value)
                };
                total = if high == f64::NEG_INFINITY {
                    high
                } else {
                    high + (low - high).exp().ln_1p()
                };
                *to = total;
            }
        },
    )?)
}

/// The highest (or lowest) so far, and the last place at which it was.
fn extremes(context: &Context, arguments: &Arguments, highest: bool) -> Results {
    let tensor = arguments.tensor("self")?;
    let dim = tensor.dimension(arguments.int("dim")?)?;
    let length = tensor.shape().get(dim).copied().unwrap_or(1);
    let dtype = tensor.dtype();
    let places = computed!(dtype,
        floating C => along::<C, i64>(context, tensor, dim, length, Dtype::I64, |row, to| places(row, to, highest)),
        integer => along::<C, i64>(context, tensor, dim, length, Dtype::I64, |row, to| places(row, to, highest)))?;
    let values = super::tensor_of(
        context,
        "aten.gather.default",
        [
            ("self", tensor.clone().into()),
            ("dim", (dim as i64).into()),
            ("index", places.clone().into()),
        ],
    )?;
    Ok(vec![values.into(), places.into()])
}

/// NaN stays, once it is there.
fn places<C: PartialOrd>(row: &[C], to: &mut [i64], highest: bool) {
    let is_nan = |value: &C| value.partial_cmp(value).is_none();
    let mut best = 0;
    for (place, (to, value)) in to.iter_mut().zip(row).enumerate() {
        let better = if highest {
            *value >= row[best]
        } else {
            *value <= row[best]
        };
        if is_nan(value) || better && !is_nan(&row[best]) {
            best = place;
        }
        *to = best as i64;
    }
}
