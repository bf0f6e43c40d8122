//! Distances and angles between vectors.

use super::operand::{Results, floating, one, wrong_shape};
use super::{call, tensor_of};
use crate::{Arguments, Context, OperatorError, Tensor, broadcast_shapes};
use rayon::prelude::*;
use weightstream::Dtype;

pub(super) const OPERATORS: super::Family = &[
    ("aten.cdist.default", |c, a| {
        let power = a.float_or("p", 2.0)?;
        one(between_all(c, a.tensor("x1")?, a.tensor("x2")?, power)?)
    }),
    ("aten._euclidean_dist.default", |c, a| {
        one(between_all(c, a.tensor("x1")?, a.tensor("x2")?, 2.0)?)
    }),
    ("aten.pdist.default", pairs),
    ("aten.pairwise_distance.default", pairwise),
    ("aten.cosine_similarity.default", cosine),
    ("aten.dist.default", |c, a| {
        let (left, right) = (a.tensor("self")?, a.tensor("other")?);
        let difference = difference(c, left, right)?;
        let order = a.float_or("p", 2.0)?;
        let arguments = [("self", difference.into()), ("ord", order.into())];
        call(c, "aten.linalg_vector_norm.default", arguments)
    }),
];

fn difference(context: &Context, left: &Tensor, right: &Tensor) -> Result<Tensor, OperatorError> {
    let operands = [
        ("self", left.clone().into()),
        ("other", right.clone().into()),
    ];
    tensor_of(context, "aten.sub.Tensor", operands)
}

/// (Σ |a - b|^p)^(1/p), with the limits for 0 and infinity.
fn distance(left: &[f32], right: &[f32], power: f64) -> f32 {
    let distances = left
        .iter()
        .zip(right)
        .map(|(a, b)| f64::from((a - b).abs()));
    (if power == 0.0 {
        distances.filter(|distance| *distance != 0.0).count() as f64
    } else if power == 1.0 {
        distances.sum()
    } else if power == 2.0 {
        distances
            .map(|distance| distance * distance)
            .sum::<f64>()
            .sqrt()
    } else if power == f64::INFINITY {
        distances.fold(0.0, |a, b| if a > b || a.is_nan() { a } else { b })
    } else {
        distances
            .map(|distance| distance.powf(power))
            .sum::<f64>()
            .powf(1.0 / power)
    }) as f32
}

/// The distances of all rows of (…, P, M) from all rows of (…, R, M).
fn between_all(
    context: &Context,
    left: &Tensor,
    right: &Tensor,
    power: f64,
) -> Result<Tensor, OperatorError> {
    let ([first @ .., rows, size], [second @ .., columns, other]) = (left.shape(), right.shape())
    else {
        return Err(wrong_shape("(…, row, size)", left));
    };
    if size != other {
        return Err(wrong_shape(format!("rows of {size} numbers"), right));
    }
    let batch = broadcast_shapes(first, second)?;
    let full = |last: &[usize]| batch.iter().chain(last).copied().collect::<Vec<_>>();
    let wide =
        |tensor: &Tensor, shape: &[usize]| context.cast(&tensor.expand(&full(shape))?, Dtype::F32);
    let (a, b) = (
        wide(left, &[*rows, *size])?,
        wide(right, &[*columns, *size])?,
    );
    let result = context.empty(Dtype::F32, &full(&[*rows, *columns]))?;
    if result.count() > 0 {
        let (a, b) = (a.elements::<f32>()?, b.elements::<f32>()?);
        let mut to = result.elements_mut::<f32>()?;
        to.par_chunks_mut(*columns)
            .enumerate()
            .for_each(|(row, to)| {
                let left = &a[row * size..(row + 1) * size];
                let right = &b[row / rows * columns * size..];
                for (column, to) in to.iter_mut().enumerate() {
                    *to = distance(left, &right[column * size..(column + 1) * size], power);
                }
            });
    }
    context.cast(&result, floating(left.dtype()))
}

/// The distances of all pairs of rows, the upper triangle row by row.
fn pairs(context: &Context, arguments: Arguments) -> Results {
    let tensor = arguments.tensor("self")?;
    let [rows, _] = *tensor.shape() else {
        return Err(wrong_shape("(row, size)", tensor));
    };
    let all = between_all(context, tensor, tensor, arguments.float_or("p", 2.0)?)?;
    let wide = context.cast(&all, Dtype::F32)?;
    let values = wide.elements::<f32>()?;
    let upper: Vec<f32> = (0..rows)
        .flat_map(|row| (row + 1..rows).map(move |column| row * rows + column))
        .map(|place| values[place])
        .collect();
    one(context.cast(&context.tensor(&upper, &[upper.len()])?, all.dtype())?)
}

/// The distance of each row from the other tensor's, `eps` being added to differences.
fn pairwise(context: &Context, arguments: Arguments) -> Results {
    let (left, right) = (arguments.tensor("x1")?, arguments.tensor("x2")?);
    let shifted = [
        ("self", difference(context, left, right)?.into()),
        ("other", arguments.float_or("eps", 1e-6)?.into()),
    ];
    let shifted = tensor_of(context, "aten.add.Scalar", shifted)?;
    let named = [
        ("self", shifted.into()),
        ("ord", arguments.float_or("p", 2.0)?.into()),
        ("dim", vec![-1].into()),
        ("keepdim", arguments.bool_or("keepdim", false)?.into()),
    ];
    call(context, "aten.linalg_vector_norm.default", named)
}

/// The cosine of the angle between vectors along a dimension; a length counts as `eps` at least.
fn cosine(context: &Context, arguments: Arguments) -> Results {
    let (left, right) = (arguments.tensor("x1")?, arguments.tensor("x2")?);
    let dim = arguments.int_or("dim", 1)?;
    let eps = arguments.float_or("eps", 1e-8)?;
    let unit = |tensor: &Tensor| {
        let length = [
            ("self", tensor.clone().into()),
            ("ord", 2.into()),
            ("dim", vec![dim].into()),
            ("keepdim", true.into()),
        ];
        let length = tensor_of(context, "aten.linalg_vector_norm.default", length)?;
        let least = [("self", length.into()), ("min", eps.into())];
        let length = tensor_of(context, "aten.clamp_min.default", least)?;
        let parts = [("self", tensor.clone().into()), ("other", length.into())];
        tensor_of(context, "aten.div.Tensor", parts)
    };
    let factors = [("self", unit(left)?.into()), ("other", unit(right)?.into())];
    let product = tensor_of(context, "aten.mul.Tensor", factors)?;
    let sum = [("self", product.into()), ("dim", vec![dim].into())];
    call(context, "aten.sum.dim_IntList", sum)
}
