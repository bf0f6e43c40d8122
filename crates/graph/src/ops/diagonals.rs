//! Matrices of diagonals, and of blocks along them.

use super::operand::{Results, one, wrong_shape};
use super::{call, result_dtype};
use crate::{Arguments, Context, OperatorError, Tensor, Value, dimension};

pub(super) const OPERATORS: super::Family = &[
    ("aten.diagonal.default", |_, a| {
        one(of_arguments(&a, a.tensor("self")?)?)
    }),
    ("aten.linalg_diagonal.default", |_, a| {
        let tensor = a.tensor("A")?;
        let (first, second) = (a.int_or("dim1", -2)?, a.int_or("dim2", -1)?);
        let dims = [tensor.dimension(first)?, tensor.dimension(second)?];
        one(diagonal(tensor, a.int_or("offset", 0)?, dims)?)
    }),
    ("aten.diagonal_scatter.default", |c, a| {
        let result = c.copied(a.tensor("self")?)?;
        c.assign(&of_arguments(&a, &result)?, a.tensor("src")?)?;
        one(result)
    }),
    ("aten.diag_embed.default", |c, a| {
        let (first, second) = (a.int_or("dim1", -2)?, a.int_or("dim2", -1)?);
        let offset = a.int_or("offset", 0)?;
        one(embedded(c, a.tensor("self")?, offset, first, second)?)
    }),
    ("aten.diag.default", |c, a| {
        let (tensor, offset) = (a.tensor("self")?, a.int_or("diagonal", 0)?);
        one(match tensor.rank() {
            1 => embedded(c, tensor, offset, -2, -1)?,
            2 => c.contiguous(&diagonal(tensor, offset, [0, 1])?)?,
            _ => return Err(wrong_shape("one or two dimensions", tensor)),
        })
    }),
    ("aten.diagflat.default", |c, a| {
        let tensor = c.contiguous(a.tensor("self")?)?;
        let flat = tensor.view(&[tensor.count()])?.unwrap_or(tensor);
        one(embedded(c, &flat, a.int_or("offset", 0)?, -2, -1)?)
    }),
    ("aten.trace.default", |c, a| {
        let diagonal = diagonal(a.tensor("self")?, 0, [0, 1])?;
        call(c, "aten.sum.default", [("self", diagonal.into())])
    }),
    ("aten.block_diag.default", blocks),
];

/// The diagonal that `offset`, `dim1` and `dim2` say, as the last dimension of a view.
fn of_arguments(arguments: &Arguments, tensor: &Tensor) -> Result<Tensor, OperatorError> {
    let first = tensor.dimension(arguments.int_or("dim1", 0)?)?;
    let second = tensor.dimension(arguments.int_or("dim2", 1)?)?;
    diagonal(tensor, arguments.int_or("offset", 0)?, [first, second])
}

fn diagonal(
    tensor: &Tensor,
    offset: i64,
    [first, second]: [usize; 2],
) -> Result<Tensor, OperatorError> {
    if first == second || tensor.rank() <= first.max(second) {
        return Err(wrong_shape("two dimensions with a diagonal", tensor));
    }
    let (mut shape, mut strides) = (tensor.shape().to_vec(), tensor.strides().to_vec());
    let [down, right] = [(-offset).max(0) as usize, offset.max(0) as usize];
    let length = shape[first]
        .saturating_sub(down)
        .min(shape[second].saturating_sub(right));
    let start = tensor.offset() + down * strides[first] + right * strides[second];
    let stride = strides[first] + strides[second];
    for dim in [first.max(second), first.min(second)] {
        shape.remove(dim);
        strides.remove(dim);
    }
    shape.push(length);
    strides.push(stride);
    tensor.as_strided(shape, strides, start)
}

fn zeros_like(
    context: &Context,
    tensor: &Tensor,
    shape: &[usize],
) -> Result<Tensor, OperatorError> {
    let result = context.empty(tensor.dtype(), shape)?;
    context.assign(&result, &context.scalar(0i64)?)?;
    Ok(result)
}

/// Zeros, but for the last dimension of `tensor` along a diagonal.
fn embedded(
    context: &Context,
    tensor: &Tensor,
    offset: i64,
    first: i64,
    second: i64,
) -> Result<Tensor, OperatorError> {
    let Some(&length) = tensor.shape().last() else {
        return Err(wrong_shape("at least one dimension", tensor));
    };
    let dims = [
        dimension(first, tensor.rank() + 1)?,
        dimension(second, tensor.rank() + 1)?,
    ];
    let side = length + offset.unsigned_abs() as usize;
    let mut shape = tensor.shape()[..tensor.rank() - 1].to_vec();
    for dim in [dims[0].min(dims[1]), dims[0].max(dims[1])] {
        shape.insert(dim.min(shape.len()), side);
    }
    let result = zeros_like(context, tensor, &shape)?;
    context.assign(&diagonal(&result, offset, dims)?, tensor)?;
    Ok(result)
}

/// Matrices along the diagonal of one; vectors are rows.
fn blocks(context: &Context, arguments: Arguments) -> Results {
    let mut matrices = Vec::new();
    for tensor in arguments.tensors("tensors")? {
        let mut matrix = tensor.clone();
        while matrix.rank() < 2 {
            matrix = matrix.unsqueeze(0)?;
        }
        matrices.push(matrix);
    }
    let values: Vec<Value> = matrices
        .iter()
        .map(|matrix| matrix.clone().into())
        .collect();
    let side = |dim: usize| matrices.iter().map(|matrix| matrix.shape()[dim]).sum();
    let result = context.empty(result_dtype(&values), &[side(0), side(1)])?;
    context.assign(&result, &context.scalar(0i64)?)?;
    let [mut row, mut column] = [0, 0];
    for matrix in &matrices {
        let [height, width] = [matrix.shape()[0], matrix.shape()[1]];
        let place = result
            .narrow(0, row, row + height, 1)?
            .narrow(1, column, column + width, 1)?;
        context.assign(&place, matrix)?;
        [row, column] = [row + height, column + width];
    }
    one(result)
}
