//! Many elements become one: sums, means, extremes, norms.

use super::operand::{Results, computed, dimensions, floating, one, wrong_shape};
use crate::kernels::{self, Compute, Reader, vectorised};
use crate::memory::{filled, raise};
use crate::{Arguments, Context, OperatorError, Tensor};
use rayon::prelude::*;
use weightstream::Dtype;

pub(super) const OPERATORS: super::Family = &[
    ("aten.sum.default", sum),
    ("aten.sum.dim_IntList", sum),
    ("aten.mean.default", mean),
    ("aten.mean.dim", mean),
    ("aten.prod.default", product),
    ("aten.prod.dim_int", product),
    ("aten.amax.default", |c, a| extreme(c, &a, Extreme::Highest)),
    ("aten.amin.default", |c, a| extreme(c, &a, Extreme::Lowest)),
    ("aten.max.default", |c, a| extreme(c, &a, Extreme::Highest)),
    ("aten.min.default", |c, a| extreme(c, &a, Extreme::Lowest)),
    ("aten.max.dim", |c, a| {
        extreme_and_index(c, &a, Extreme::Highest)
    }),
    ("aten.min.dim", |c, a| {
        extreme_and_index(c, &a, Extreme::Lowest)
    }),
    ("aten.aminmax.default", |c, a| {
        let mut results = extreme(c, &a, Extreme::Lowest)?;
        results.extend(extreme(c, &a, Extreme::Highest)?);
        Ok(results)
    }),
    ("aten.argmax.default", |c, a| {
        index_of_extreme(c, &a, Extreme::Highest)
    }),
    ("aten.argmin.default", |c, a| {
        index_of_extreme(c, &a, Extreme::Lowest)
    }),
    ("aten.any.default", |c, a| {
        truth(c, &a, |row| row.iter().any(|&value| value != 0.0))
    }),
    ("aten.any.dim", |c, a| {
        truth(c, &a, |row| row.iter().any(|&value| value != 0.0))
    }),
    ("aten.any.dims", |c, a| {
        truth(c, &a, |row| row.iter().any(|&value| value != 0.0))
    }),
    ("aten.all.default", |c, a| {
        truth(c, &a, |row| row.iter().all(|&value| value != 0.0))
    }),
    ("aten.all.dim", |c, a| {
        truth(c, &a, |row| row.iter().all(|&value| value != 0.0))
    }),
    ("aten.all.dims", |c, a| {
        truth(c, &a, |row| row.iter().all(|&value| value != 0.0))
    }),
    ("aten._is_all_true.default", |c, a| {
        truth(c, &a, |row| row.iter().all(|&value| value != 0.0))
    }),
    ("aten._is_any_true.default", |c, a| {
        truth(c, &a, |row| row.iter().any(|&value| value != 0.0))
    }),
    ("aten.count_nonzero.default", count_nonzero),
    ("aten.count_nonzero.dim_IntList", count_nonzero),
    ("aten.var.default", |c, a| variance(c, &a, false, false)),
    ("aten.var.dim", |c, a| variance(c, &a, false, false)),
    ("aten.var.correction", |c, a| variance(c, &a, false, false)),
    ("aten.std.default", |c, a| variance(c, &a, true, false)),
    ("aten.std.dim", |c, a| variance(c, &a, true, false)),
    ("aten.std.correction", |c, a| variance(c, &a, true, false)),
    ("aten.var_mean.dim", |c, a| variance(c, &a, false, true)),
    ("aten.var_mean.correction", |c, a| {
        variance(c, &a, false, true)
    }),
    ("aten.std_mean.correction", |c, a| {
        variance(c, &a, true, true)
    }),
    ("aten.std_mean.default", |c, a| variance(c, &a, true, true)),
    ("aten.std_mean.dim", |c, a| variance(c, &a, true, true)),
    ("aten.var_mean.default", |c, a| variance(c, &a, false, true)),
    ("aten.nansum.default", |c, a| of_numbers(c, &a, false)),
    ("aten.nanmean.default", |c, a| of_numbers(c, &a, true)),
    ("aten.equal.default", |c, a| {
        let (left, right) = (a.tensor("self")?, a.tensor("other")?);
        if left.shape() != right.shape() {
            return Ok(vec![false.into()]);
        }
        let operands = [
            ("self", left.clone().into()),
            ("other", right.clone().into()),
        ];
        let same = super::call(c, "aten.eq.Tensor", operands)?;
        let all = Arguments::new(same.into_iter().map(|same| ("self", same)));
        let all = truth(c, &all, |row| row.iter().all(|&value| value != 0.0))?;
        match &all[..] {
            [crate::Value::Tensor(all)] => Ok(vec![(all.item()? != 0.0).into()]),
            _ => Ok(vec![false.into()]),
        }
    }),
    ("aten.logsumexp.default", log_sum_exp),
    ("aten.linalg_vector_norm.default", |c, a| norm(c, &a, "ord")),
    ("aten.norm.Scalar", |c, a| norm(c, &a, "p")),
    ("aten.norm.ScalarOpt_dim", |c, a| norm(c, &a, "p")),
    ("aten.norm.ScalarOpt_dim_dtype", |c, a| norm(c, &a, "p")),
];

/// `compute` of all elements along `dims`, for each index of the other dimensions.
fn reduce<C: Compute, R: Compute>(
    context: &Context,
    tensor: &Tensor,
    dims: &[usize],
    keep: bool,
    dtype: Dtype,
    compute: impl Fn(&[C]) -> R + Sync,
) -> Result<Tensor, OperatorError> {
    let kept: Vec<usize> = (0..tensor.rank())
        .filter(|dim| !dims.contains(dim))
        .collect();
    let order: Vec<usize> = kept.iter().chain(dims).copied().collect();
    let rows = context.contiguous(&tensor.permute(&order)?)?;
    let length: usize = dims.iter().map(|&dim| tensor.shape()[dim]).product();
    let shape: Vec<usize> = (0..tensor.rank())
        .filter(|dim| keep || !dims.contains(dim))
        .map(|dim| {
            if dims.contains(&dim) {
                1
            } else {
                tensor.shape()[dim]
            }
        })
        .collect();
    let reader = Reader::new(&rows)?;
    let count: usize = kept.iter().map(|&dim| tensor.shape()[dim]).product();
    let mut results = filled(R::default(), count)?;
    let per_thread = (kernels::WORTH_A_THREAD / length.max(1)).max(1);
    results
        .par_chunks_mut(per_thread)
        .enumerate()
        .for_each(|(chunk, results)| {
            let mut buffer = filled(C::default(), length).unwrap_or_else(raise);
            for (index, result) in results.iter_mut().enumerate() {
                let row = C::read(
                    &reader,
                    (chunk * per_thread + index) * length,
                    1,
                    &mut buffer,
                );
                *result = compute(row);
            }
        });
    drop(reader);
    let result = context.tensor(&results, &shape)?;
    context.cast(&result, dtype)
}

/// The sum over `dims`.
pub(super) fn sum_over(
    context: &Context,
    tensor: &Tensor,
    dims: &[usize],
    keep: bool,
    dtype: Dtype,
) -> Result<Tensor, OperatorError> {
    match kernels::compute_dtype(dtype) {
        Dtype::F64 => {
            reduce::<f64, f64>(context, tensor, dims, keep, dtype, |row| row.iter().sum())
        }
        Dtype::I64 => reduce::<i64, i64>(context, tensor, dims, keep, dtype, |row| {
            row.iter().fold(0, |a, b| a.wrapping_add(*b))
        }),
        _ => reduce::<f32, f32>(context, tensor, dims, keep, dtype, total),
    }
}

fn total(row: &[f32]) -> f32 {
    vectorised(
        #[inline(always)]
        || kernels::sum_of(row, |a| a),
    )
}

fn sum(context: &Context, arguments: Arguments) -> Results {
    let tensor = arguments.tensor("self")?;
    let dims = dimensions(&arguments, "dim", tensor)?;
    let natural = if super::operand::is_floating(tensor.dtype()) {
        tensor.dtype()
    } else {
        Dtype::I64
    };
    let dtype = arguments.optional_dtype("dtype")?.unwrap_or(natural);
    one(sum_over(
        context,
        tensor,
        &dims,
        arguments.bool_or("keepdim", false)?,
        dtype,
    )?)
}

fn mean(context: &Context, arguments: Arguments) -> Results {
    let tensor = arguments.tensor("self")?;
    let dims = dimensions(&arguments, "dim", tensor)?;
    let dtype = arguments.optional_dtype("dtype")?.unwrap_or(tensor.dtype());
    let keep = arguments.bool_or("keepdim", false)?;
    one(if dtype == Dtype::F64 {
        reduce::<f64, f64>(context, tensor, &dims, keep, dtype, |row| {
            row.iter().sum::<f64>() / row.len() as f64
        })?
    } else {
        reduce::<f32, f32>(context, tensor, &dims, keep, dtype, |row| {
            total(row) / row.len() as f32
        })?
    })
}

fn product(context: &Context, arguments: Arguments) -> Results {
    let tensor = arguments.tensor("self")?;
    let dims = dimensions(&arguments, "dim", tensor)?;
    let natural = if super::operand::is_floating(tensor.dtype()) {
        tensor.dtype()
    } else {
        Dtype::I64
    };
    let dtype = arguments.optional_dtype("dtype")?.unwrap_or(natural);
    let keep = arguments.bool_or("keepdim", false)?;
    one(match kernels::compute_dtype(dtype) {
        Dtype::I64 => reduce::<i64, i64>(context, tensor, &dims, keep, dtype, |row| {
            row.iter().fold(1, |a, b| a.wrapping_mul(*b))
        })?,
        _ => reduce::<f64, f64>(context, tensor, &dims, keep, dtype, |row| {
            row.iter().product()
        })?,
    })
}

#[derive(Clone, Copy)]
enum Extreme {
    Highest,
    Lowest,
}

/// The index of the first extreme element; of the first NaN where there is one.
fn extreme_index<C: Compute>(row: &[C], extreme: Extreme) -> usize {
    let mut best = 0;
    for (index, value) in row.iter().enumerate() {
        let is_nan = |value: &C| value.partial_cmp(value).is_none();
        let better = match extreme {
            Extreme::Highest => *value > row[best],
            Extreme::Lowest => *value < row[best],
        };
        if (better || is_nan(value)) && !is_nan(&row[best]) {
            best = index;
        }
    }
    best
}

fn not_empty(tensor: &Tensor, dims: &[usize]) -> Result<(), OperatorError> {
    if dims.iter().any(|&dim| tensor.shape()[dim] == 0)
        || tensor.shape().contains(&0) && dims.is_empty()
    {
        return Err(wrong_shape("at least one element to choose from", tensor));
    }
    Ok(())
}

fn extreme(context: &Context, arguments: &Arguments, extreme: Extreme) -> Results {
    let tensor = arguments.tensor("self")?;
    let dims = dimensions(arguments, "dim", tensor)?;
    not_empty(tensor, &dims)?;
    one(values(
        context,
        tensor,
        &dims,
        arguments.bool_or("keepdim", false)?,
        extreme,
    )?)
}

fn values(
    context: &Context,
    tensor: &Tensor,
    dims: &[usize],
    keep: bool,
    extreme: Extreme,
) -> Result<Tensor, OperatorError> {
    let dtype = tensor.dtype();
    computed!(dtype,
        floating C => reduce::<C, C>(context, tensor, dims, keep, dtype, |row| row[extreme_index(row, extreme)]),
        integer => reduce::<C, C>(context, tensor, dims, keep, dtype, |row| row[extreme_index(row, extreme)]))
}

fn indices(
    context: &Context,
    tensor: &Tensor,
    dims: &[usize],
    keep: bool,
    extreme: Extreme,
) -> Result<Tensor, OperatorError> {
    let dtype = tensor.dtype();
    computed!(dtype,
        floating C => reduce::<C, i64>(context, tensor, dims, keep, Dtype::I64, |row| extreme_index(row, extreme) as i64),
        integer => reduce::<C, i64>(context, tensor, dims, keep, Dtype::I64, |row| extreme_index(row, extreme) as i64))
}

fn extreme_and_index(context: &Context, arguments: &Arguments, extreme: Extreme) -> Results {
    let tensor = arguments.tensor("self")?;
    let dims = dimensions(arguments, "dim", tensor)?;
    not_empty(tensor, &dims)?;
    let keep = arguments.bool_or("keepdim", false)?;
    Ok(vec![
        values(context, tensor, &dims, keep, extreme)?.into(),
        indices(context, tensor, &dims, keep, extreme)?.into(),
    ])
}

fn index_of_extreme(context: &Context, arguments: &Arguments, extreme: Extreme) -> Results {
    let tensor = arguments.tensor("self")?;
    let dims = dimensions(arguments, "dim", tensor)?;
    not_empty(tensor, &dims)?;
    one(indices(
        context,
        tensor,
        &dims,
        arguments.bool_or("keepdim", false)?,
        extreme,
    )?)
}

fn truth(context: &Context, arguments: &Arguments, holds: fn(&[f64]) -> bool) -> Results {
    let tensor = arguments.tensor("self")?;
    let dims = dimensions(arguments, "dim", tensor)?;
    let dtype = if tensor.dtype() == Dtype::U8 {
        Dtype::U8
    } else {
        Dtype::BOOL
    };
    one(reduce::<f64, i64>(
        context,
        tensor,
        &dims,
        arguments.bool_or("keepdim", false)?,
        dtype,
        |row| i64::from(holds(row)),
    )?)
}

/// The sum or the mean of what is not NaN.
fn of_numbers(context: &Context, arguments: &Arguments, mean: bool) -> Results {
    let tensor = arguments.tensor("self")?;
    let dims = dimensions(arguments, "dim", tensor)?;
    let dtype = arguments.optional_dtype("dtype")?.unwrap_or(tensor.dtype());
    let keep = arguments.bool_or("keepdim", false)?;
    one(reduce::<f64, f64>(
        context,
        tensor,
        &dims,
        keep,
        dtype,
        |row| {
            let numbers = || row.iter().filter(|value| !value.is_nan());
            let sum: f64 = numbers().sum();
            if mean {
                sum / numbers().count() as f64
            } else {
                sum
            }
        },
    )?)
}

fn count_nonzero(context: &Context, arguments: Arguments) -> Results {
    let tensor = arguments.tensor("self")?;
    let dims = dimensions(&arguments, "dim", tensor)?;
    one(reduce::<f64, i64>(
        context,
        tensor,
        &dims,
        false,
        Dtype::I64,
        |row| row.iter().filter(|value| **value != 0.0).count() as i64,
    )?)
}

/// The mean squared distance from the mean, over the number of elements less `correction`.
fn variance(context: &Context, arguments: &Arguments, root: bool, with_mean: bool) -> Results {
    let tensor = arguments.tensor("self")?;
    let dims = dimensions(arguments, "dim", tensor)?;
    let keep = arguments.bool_or("keepdim", false)?;
    let unbiased = f64::from(u8::from(arguments.bool_or("unbiased", true)?));
    let correction = arguments.float_or("correction", unbiased)?;
    let dtype = tensor.dtype();
    let variance = reduce::<f64, f64>(context, tensor, &dims, keep, dtype, |row| {
        let mean = row.iter().sum::<f64>() / row.len() as f64;
        let squares: f64 = row
            .iter()
            .map(|value| (value - mean) * (value - mean))
            .sum();
        let variance = squares / (row.len() as f64 - correction).max(0.0);
        if root { variance.sqrt() } else { variance }
    })?;
    let mut results = vec![variance.into()];
    if with_mean {
        let mean = reduce::<f64, f64>(context, tensor, &dims, keep, dtype, |row| {
            row.iter().sum::<f64>() / row.len() as f64
        })?;
        results.push(mean.into());
    }
    Ok(results)
}

fn log_sum_exp(context: &Context, arguments: Arguments) -> Results {
    let tensor = arguments.tensor("self")?;
    let dims = dimensions(&arguments, "dim", tensor)?;
    let dtype = floating(tensor.dtype());
    one(reduce::<f64, f64>(
        context,
        tensor,
        &dims,
        arguments.bool_or("keepdim", false)?,
        dtype,
        |row| {
            let highest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let shift = if highest.is_finite() { highest } else { 0.0 };
            row.iter()
                .map(|value| (value - shift).exp())
                .sum::<f64>()
                .ln()
                + shift
        },
    )?)
}

/// (Σ |x|^p)^(1/p), with the limits for 0 and the infinities.
fn norm(context: &Context, arguments: &Arguments, order: &'static str) -> Results {
    let tensor = arguments.tensor("self")?;
    let dims = dimensions(arguments, "dim", tensor)?;
    let dtype = arguments
        .optional_dtype("dtype")?
        .unwrap_or(floating(tensor.dtype()));
    let order = arguments.float_or(order, 2.0)?;
    one(reduce::<f64, f64>(
        context,
        tensor,
        &dims,
        arguments.bool_or("keepdim", false)?,
        dtype,
        |row| {
            let magnitudes = row.iter().map(|value| value.abs());
            if order == f64::INFINITY {
                magnitudes.fold(0.0, |a, b| if a > b || a.is_nan() { a } else { b })
            } else if order == f64::NEG_INFINITY {
                magnitudes.fold(
                    f64::INFINITY,
                    |a, b| if a < b || a.is_nan() { a } else { b },
                )
            } else if order == 0.0 {
                magnitudes.filter(|value| *value != 0.0).count() as f64
            } else if order == 1.0 {
                magnitudes.sum()
            } else if order == 2.0 {
                magnitudes.map(|value| value * value).sum::<f64>().sqrt()
            } else {
                magnitudes
                    .map(|value| value.powf(order))
                    .sum::<f64>()
                    .powf(1.0 / order)
            }
        },
    )?)
}
