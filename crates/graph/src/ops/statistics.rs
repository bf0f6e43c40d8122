//! Medians, quantiles and what else asks for an element's rank.

use super::operand::{Results, computed, one, size, wrong_shape};
use super::sorting::{along, compare};
use crate::{Arguments, Context, OperatorError, Tensor};
use std::cmp::Ordering;
use weightstream::Dtype;

pub(super) const OPERATORS: super::Family = &[
    ("aten.median.default", |c, a| {
        let flat = flat(c, a.tensor("self")?)?;
        Ok(ranked(c, &flat, 0, false, Rank::Median)?
            .into_iter()
            .take(1)
            .map(Into::into)
            .collect())
    }),
    ("aten.nanmedian.default", |c, a| {
        let flat = flat(c, a.tensor("self")?)?;
        Ok(ranked(c, &flat, 0, false, Rank::MedianOfNumbers)?
            .into_iter()
            .take(1)
            .map(Into::into)
            .collect())
    }),
    ("aten.median.dim", |c, a| of_dim(c, &a, Rank::Median)),
    ("aten.nanmedian.dim", |c, a| {
        of_dim(c, &a, Rank::MedianOfNumbers)
    }),
    ("aten.kthvalue.default", |c, a| {
        let place = size("k", a.int("k")?)?;
        of_dim(c, &a, Rank::Place(place))
    }),
    ("aten.mode.default", |c, a| of_dim(c, &a, Rank::Mode)),
    ("aten.quantile.default", |c, a| quantile(c, &a, false)),
    ("aten.quantile.scalar", |c, a| quantile(c, &a, false)),
    ("aten.nanquantile.default", |c, a| quantile(c, &a, true)),
    ("aten.nanquantile.scalar", |c, a| quantile(c, &a, true)),
];

/// Which element of a row is wanted.
#[derive(Clone, Copy, PartialEq)]
enum Rank {
    /// The lower one of two in the middle; NaN where there is one.
    Median,
    /// Without what is NaN.
    MedianOfNumbers,
    /// The lowest is 1.
    Place(usize),
    /// The lowest of the most frequent ones.
    Mode,
}

fn flat(context: &Context, tensor: &Tensor) -> Result<Tensor, OperatorError> {
    let tensor = context.contiguous(tensor)?;
    Ok(tensor.view(&[tensor.count()])?.unwrap_or(tensor))
}

fn of_dim(context: &Context, arguments: &Arguments, rank: Rank) -> Results {
    let tensor = arguments.tensor("self")?;
    let dim = tensor.dimension(arguments.int_or("dim", -1)?)?;
    let keep = arguments.bool_or("keepdim", false)?;
    let results = ranked(context, tensor, dim, keep, rank)?;
    Ok(results.into_iter().map(Into::into).collect())
}

/// The values and their indices.
fn ranked(
    context: &Context,
    tensor: &Tensor,
    dim: usize,
    keep: bool,
    rank: Rank,
) -> Result<[Tensor; 2], OperatorError> {
    let entries = tensor.shape().get(dim).copied().unwrap_or(1);
    if entries == 0 || matches!(rank, Rank::Place(place) if place == 0 || place > entries) {
        return Err(wrong_shape("entries to choose from", tensor));
    }
    let dtype = tensor.dtype();
    let places = computed!(dtype,
        floating C => along::<C, i64>(context, tensor, dim, 1, Dtype::I64, |row, to| to[0] = chosen(row, rank) as i64),
        integer => along::<C, i64>(context, tensor, dim, 1, Dtype::I64, |row, to| to[0] = chosen(row, rank) as i64))?;
    let values = super::tensor_of(
        context,
        "aten.gather.default",
        [
            ("self", tensor.clone().into()),
            ("dim", (dim as i64).into()),
            ("index", places.clone().into()),
        ],
    )?;
    if keep || tensor.rank() == 0 {
        return Ok([values, places]);
    }
    Ok([values.squeeze(dim)?, places.squeeze(dim)?])
}

fn chosen<C: PartialOrd + Copy>(row: &[C], rank: Rank) -> usize {
    let is_nan = |place: usize| row[place].partial_cmp(&row[place]).is_none();
    let mut order: Vec<usize> = (0..row.len()).collect();
    order.sort_by(|&a, &b| compare(&row[a], &row[b]));
    let last = order.len() - 1;
    match rank {
        Rank::Place(place) => order[place - 1],
        Rank::Median if is_nan(order[last]) => {
            (0..row.len()).find(|&place| is_nan(place)).unwrap_or(0)
        }
        Rank::Median => order[last / 2],
        Rank::MedianOfNumbers => {
            let numbers = order.iter().filter(|&&place| !is_nan(place)).count();
            order[numbers.max(1).div_ceil(2) - 1]
        }
        Rank::Mode => {
            let mut best = (0, 0);
            let mut start = 0;
            while start <= last {
                let same = order[start..]
                    .iter()
                    .take_while(|&&place| {
                        compare(&row[place], &row[order[start]]) == Ordering::Equal
                    })
                    .count();
                if same > best.0 {
                    best = (same, start + same - 1);
                }
                start += same;
            }
            order[best.1]
        }
    }
}

/// What a share `q` of the elements lies below.
fn quantile(context: &Context, arguments: &Arguments, ignore_nan: bool) -> Results {
    let tensor = arguments.tensor("self")?;
    let shares = match arguments.value("q")? {
        crate::Value::Tensor(shares) => shares.clone(),
        _ => context.scalar(arguments.float_or("q", 0.5)?)?,
    };
    let wide = context.cast(&shares, Dtype::F64)?;
    let wanted = wide.elements::<f64>()?.to_vec();
    let method = arguments.text_or("interpolation", "linear")?;
    let keep = arguments.bool_or("keepdim", false)?;
    let (source, dim) = match arguments.optional_int("dim")? {
        Some(dim) => (tensor.clone(), tensor.dimension(dim)?),
        None => (flat(context, tensor)?, 0),
    };
    let known = ["linear", "lower", "higher", "midpoint", "nearest"];
    if !known.contains(&method) {
        return Err(OperatorError::Argument {
            argument: "interpolation",
            expected: "linear, lower, higher, midpoint or nearest",
            got: method.into(),
        });
    }
    if wanted.iter().any(|share| !(0.0..=1.0).contains(share)) || source.count() == 0 {
        return Err(wrong_shape("elements, and shares between 0 and 1", tensor));
    }
    let found = along::<f64, f64>(
        context,
        &source,
        dim,
        wanted.len(),
        tensor.dtype(),
        |row, to| {
            let mut row = row.to_vec();
            if ignore_nan {
                row.retain(|value| !value.is_nan());
            }
            row.sort_by(compare);
            let unknown = row.last().is_none_or(|last| last.is_nan());
            for (to, share) in to.iter_mut().zip(&wanted) {
                *to = if unknown {
                    f64::NAN
                } else {
                    at(&row, share * (row.len() - 1) as f64, method)
                };
            }
        },
    )?;
    // The shares come first in the result.
    let raised = found.rank().max(1);
    let found = if found.rank() == 0 {
        found.unsqueeze(0)?
    } else {
        found
    };
    let mut order: Vec<usize> = (0..raised).filter(|other| *other != dim).collect();
    order.insert(0, dim);
    let mut shape = if shares.rank() == 0 {
        vec![]
    } else {
        vec![wanted.len()]
    };
    let kept: Vec<usize> = if arguments.get("dim").is_some() {
        (0..tensor.rank())
            .filter(|other| keep || *other != dim)
            .map(|other| {
                if other == dim {
                    1
                } else {
                    tensor.shape()[other]
                }
            })
            .collect()
    } else {
        vec![1; if keep { tensor.rank() } else { 0 }]
    };
    shape.extend(kept);
    let result = context.contiguous(&found.permute(&order)?)?;
    one(result.view(&shape)?.unwrap_or(result))
}

/// The element at a place between two of them.
fn at(row: &[f64], place: f64, method: &str) -> f64 {
    let (low, high) = (row[place.floor() as usize], row[place.ceil() as usize]);
    match method {
        "lower" => low,
        "higher" => high,
        "midpoint" => low + (high - low) * 0.5,
        "nearest" => row[place.round_ties_even() as usize],
        _ => low + (high - low) * (place - place.floor()),
    }
}
