//! Order and counts.

use super::operand::{Results, computed, floating, one, operand, size, wrong_shape};
use crate::kernels::{self, Compute, Reader, compute_dtype};
use crate::memory::filled;
use crate::tensor::element_count;
use crate::{Arguments, Context, OperatorError, Tensor};
use std::cmp::Ordering;
use weightstream::Dtype;

pub(super) const OPERATORS: super::Family = &[
    ("aten.sort.default", |c, a| sort(c, &a, false)),
    ("aten.sort.stable", |c, a| sort(c, &a, false)),
    ("aten.argsort.default", |c, a| sort(c, &a, true)),
    ("aten.argsort.stable", |c, a| sort(c, &a, true)),
    ("aten.topk.default", topk),
    ("aten.msort.default", |c, a| {
        let [values, _] = ordered(c, a.tensor("self")?, 0, false)?;
        one(values)
    }),
    ("aten.diff.default", diff),
    ("aten.histc.default", histc),
    ("aten.bincount.default", bincount),
    ("aten.searchsorted.Tensor", |c, a| {
        search(c, &a, "sorted_sequence", "self")
    }),
    ("aten.searchsorted.Scalar", |c, a| {
        search(c, &a, "sorted_sequence", "self")
    }),
    ("aten.bucketize.Tensor", |c, a| {
        search(c, &a, "boundaries", "self")
    }),
    ("aten.bucketize.Scalar", |c, a| {
        search(c, &a, "boundaries", "self")
    }),
];

/// Each row along `dim`, computed to a row of `length` results; the results in the order of the tensor's dimensions.
pub(super) fn along<C: Compute, R: Compute>(
    context: &Context,
    tensor: &Tensor,
    dim: usize,
    length: usize,
    dtype: Dtype,
    mut compute: impl FnMut(&[C], &mut [R]),
) -> Result<Tensor, OperatorError> {
    let raised = if tensor.rank() == 0 {
        tensor.unsqueeze(0)?
    } else {
        tensor.clone()
    };
    let last = raised.rank() - 1;
    let rows = context.contiguous(&raised.transpose(dim, last)?)?;
    let entries = rows.shape()[last];
    let mut shape = rows.shape().to_vec();
    shape[last] = length;
    let mut results = filled(R::default(), element_count(&shape)?)?;
    if length > 0 {
        let reader = Reader::new(&rows)?;
        let mut buffer = filled(C::default(), entries)?;
        for (row, results) in results.chunks_mut(length).enumerate() {
            compute(C::read(&reader, row * entries, 1, &mut buffer), results);
        }
    }
    let result = context
        .cast(&context.tensor(&results, &shape)?, dtype)?
        .transpose(dim, last)?;
    context.contiguous(&if tensor.rank() == 0 {
        result.squeeze(0)?
    } else {
        result
    })
}

/// NaN is the highest, as in torch.
pub(super) fn compare<C: PartialOrd>(a: &C, b: &C) -> Ordering {
    a.partial_cmp(b).unwrap_or_else(|| {
        let is_nan = |value: &C| value.partial_cmp(value).is_none();
        is_nan(a).cmp(&is_nan(b))
    })
}

fn order<C: PartialOrd>(row: &[C], descending: bool) -> Vec<usize> {
    let mut order: Vec<usize> = (0..row.len()).collect();
    order.sort_by(|&a, &b| {
        if descending {
            compare(&row[b], &row[a])
        } else {
            compare(&row[a], &row[b])
        }
    });
    order
}

/// The elements in order, and their indices.
fn ordered(
    context: &Context,
    tensor: &Tensor,
    dim: usize,
    descending: bool,
) -> Result<[Tensor; 2], OperatorError> {
    let dtype = tensor.dtype();
    let length = tensor.shape().get(dim).copied().unwrap_or(1);
    computed!(dtype,
    floating C => Ok([
        along::<C, C>(context, tensor, dim, length, dtype, |row, to| {
            for (to, place) in to.iter_mut().zip(order(row, descending)) { *to = row[place]; }
        })?,
        along::<C, i64>(context, tensor, dim, length, Dtype::I64, |row, to| {
            for (to, place) in to.iter_mut().zip(order(row, descending)) { *to = place as i64; }
        })?,
    ]),
    integer => Ok([
        along::<C, C>(context, tensor, dim, length, dtype, |row, to| {
            for (to, place) in to.iter_mut().zip(order(row, descending)) { *to = row[place]; }
        })?,
        along::<C, i64>(context, tensor, dim, length, Dtype::I64, |row, to| {
            for (to, place) in to.iter_mut().zip(order(row, descending)) { *to = place as i64; }
        })?,
    ]))
}

fn sort(context: &Context, arguments: &Arguments, indices_only: bool) -> Results {
    let tensor = arguments.tensor("self")?;
    let dim = tensor.dimension(arguments.int_or("dim", -1)?)?;
    let descending = arguments.bool_or("descending", false)?;
    let [values, indices] = ordered(context, tensor, dim, descending)?;
    Ok(if indices_only {
        vec![indices.into()]
    } else {
        vec![values.into(), indices.into()]
    })
}

fn topk(context: &Context, arguments: Arguments) -> Results {
    let tensor = arguments.tensor("self")?;
    let dim = tensor.dimension(arguments.int_or("dim", -1)?)?;
    let wanted = size("k", arguments.int("k")?)?;
    if wanted > tensor.shape().get(dim).copied().unwrap_or(1) {
        return Err(wrong_shape(format!("at least {wanted} entries"), tensor));
    }
    let largest = arguments.bool_or("largest", true)?;
    let sorted = arguments.bool_or("sorted", true)?;
    let dtype = tensor.dtype();
    let places = computed!(dtype,
        floating C => along::<C, i64>(context, tensor, dim, wanted, Dtype::I64, |row, to| highest(row, to, largest, sorted)),
        integer => along::<C, i64>(context, tensor, dim, wanted, Dtype::I64, |row, to| highest(row, to, largest, sorted)))?;
    let values = super::tensor_of(
        context,
        "aten.take_along_dim.default",
        [
            ("self", tensor.clone().into()),
            ("indices", places.clone().into()),
            ("dim", (dim as i64).into()),
        ],
    )?;
    Ok(vec![values.into(), places.into()])
}

/// The places of the highest (or lowest) elements of a row.
fn highest<C: PartialOrd + Copy>(row: &[C], to: &mut [i64], largest: bool, sorted: bool) {
    let mut items: Vec<(C, i64)> = row.iter().copied().zip(0..).collect();
    kernels::first(&mut items, to.len(), sorted, |a, b| {
        let order = compare(&a.0, &b.0);
        order
            == if largest {
                Ordering::Greater
            } else {
                Ordering::Less
            }
    });
    for (to, (_, place)) in to.iter_mut().zip(items) {
        *to = place;
    }
}

/// The differences of neighbours, `n` times.
fn diff(context: &Context, arguments: Arguments) -> Results {
    let tensor = arguments.tensor("self")?;
    let dim = tensor.dimension(arguments.int_or("dim", -1)?)?;
    let mut parts = vec![tensor];
    if let Some(prepend) = arguments.optional_tensor("prepend")? {
        parts.insert(0, prepend);
    }
    if let Some(append) = arguments.optional_tensor("append")? {
        parts.push(append);
    }
    let mut result = super::shape::joined(context, &parts, dim)?;
    let dtype = result.dtype();
    for _ in 0..arguments.int_or("n", 1)? {
        let entries = result.shape()[dim];
        let (left, right) = (
            result.narrow(dim, 0, entries.max(1) - 1, 1)?,
            result.narrow(dim, entries.min(1), entries, 1)?,
        );
        result = if dtype == Dtype::BOOL {
            crate::kernels::map2::<i64, i64>(
                context,
                dtype,
                left.shape(),
                [&right, &left],
                #[inline(always)]
                |a, b| a ^ b,
            )?
        } else {
            computed!(dtype,
                floating C => crate::kernels::map2::<C, C>(context, dtype, left.shape(), [&right, &left], #[inline(always)] |a, b| a - b)?,
                integer => crate::kernels::map2::<C, C>(context, dtype, left.shape(), [&right, &left], #[inline(always)] |a, b| a.wrapping_sub(b))?)
        };
    }
    one(result)
}

fn singles(context: &Context, tensor: &Tensor) -> Result<Vec<f64>, OperatorError> {
    Ok(context
        .cast(tensor, Dtype::F64)?
        .elements::<f64>()?
        .to_vec())
}

/// How many elements fall into each of `bins` equal parts of min..max.
fn histc(context: &Context, arguments: Arguments) -> Results {
    let tensor = arguments.tensor("self")?;
    let bins = size("bins", arguments.int_or("bins", 100)?)?.max(1);
    let (mut low, mut high) = (
        arguments.float_or("min", 0.0)?,
        arguments.float_or("max", 0.0)?,
    );
    let values = singles(context, tensor)?;
    if low == high {
        low = values.iter().copied().fold(f64::INFINITY, f64::min);
        high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    }
    if low == high {
        (low, high) = (low - 1.0, high + 1.0);
    }
    let mut counts = filled(0f64, bins)?;
    for value in values
        .into_iter()
        .filter(|value| (low..=high).contains(value))
    {
        let place = ((value - low) / (high - low) * bins as f64) as usize;
        counts[place.min(bins - 1)] += 1.0;
    }
    one(context.cast(
        &context.tensor(&counts, &[bins])?,
        floating_or_same(tensor.dtype()),
    )?)
}

fn floating_or_same(dtype: Dtype) -> Dtype {
    if compute_dtype(dtype) == Dtype::I64 {
        dtype
    } else {
        floating(dtype)
    }
}

fn bincount(context: &Context, arguments: Arguments) -> Results {
    let values = context.cast(arguments.tensor("self")?, Dtype::I64)?;
    let least = size("minlength", arguments.int_or("minlength", 0)?)?;
    let values = values.elements::<i64>()?;
    let bins = values
        .iter()
        .max()
        .map_or(0, |highest| highest.saturating_add(1));
    let mut counts = filled(0i64, size("self", bins)?.max(least))?;
    for &value in values.iter() {
        counts[super::shape::index(value, bins as usize)?] += 1;
    }
    one(context.tensor(&counts, &[counts.len()])?)
}

/// Where each value would be inserted into a sorted row.
fn search(
    context: &Context,
    arguments: &Arguments,
    sorted: &'static str,
    values: &'static str,
) -> Results {
    let sorted = arguments.tensor(sorted)?;
    let right = arguments.bool_or("right", false)? || arguments.text_or("side", "left")? == "right";
    let values = operand(context, arguments, values)?;
    let dtype = if arguments.bool_or("out_int32", false)? {
        Dtype::I32
    } else {
        Dtype::I64
    };
    let length = sorted.shape().last().copied().unwrap_or(0);
    let outer = &sorted.shape()[..sorted.rank().saturating_sub(1)];
    if sorted.rank() != 1 && values.shape()[..values.rank().saturating_sub(1)] != *outer {
        return Err(wrong_shape("a sorted row for each row of values", sorted));
    }
    let (edges, given) = (singles(context, sorted)?, singles(context, &values)?);
    // One sorted row serves all values; else each row of values has its own.
    let row = if sorted.rank() == 1 {
        given.len()
    } else {
        values.shape().last().copied().unwrap_or(1)
    };
    let places: Vec<i64> = given
        .iter()
        .enumerate()
        .map(|(place, &value)| {
            let edges = &edges[place / row.max(1) * length..][..length];
            edges.partition_point(|&edge| if right { edge <= value } else { edge < value }) as i64
        })
        .collect();
    one(context.cast(&context.tensor(&places, values.shape())?, dtype)?)
}
