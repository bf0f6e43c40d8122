//! Matrix products.

use super::einsum;
use super::operand::{Results, one, with_real, wrong_shape};
use crate::kernels::{self, Bias, Matrix, Window, map2, multiply_doubles, product};
use crate::{Arguments, Context, OperatorError, Tensor, broadcast_shapes};
use rayon::prelude::*;
use weightstream::Dtype;

pub(super) const OPERATORS: super::Family = &[
    ("aten.linear.default", linear),
    ("aten.mm.default", |c, a| {
        one(matmul(c, a.tensor("self")?, a.tensor("mat2")?)?)
    }),
    ("aten.bmm.default", |c, a| {
        one(matmul(c, a.tensor("self")?, a.tensor("mat2")?)?)
    }),
    ("aten.matmul.default", |c, a| {
        one(matmul(c, a.tensor("self")?, a.tensor("other")?)?)
    }),
    ("aten.mv.default", |c, a| {
        one(matmul(c, a.tensor("self")?, a.tensor("vec")?)?)
    }),
    ("aten.dot.default", |c, a| {
        one(matmul(c, a.tensor("self")?, a.tensor("tensor")?)?)
    }),
    ("aten.outer.default", outer),
    ("aten.addmm.default", |c, a| added(c, &a, "mat1", "mat2")),
    ("aten.addmv.default", |c, a| added(c, &a, "mat", "vec")),
    ("aten.baddbmm.default", |c, a| {
        added(c, &a, "batch1", "batch2")
    }),
    ("aten.vdot.default", |c, a| {
        one(matmul(c, a.tensor("self")?, a.tensor("other")?)?)
    }),
    ("aten.einsum.default", einsum::einsum),
    ("aten.bilinear.default", bilinear),
];

/// y = x Wᵀ + b, for x of shape (…, in), W of shape (out, in) or (in), b of shape (out).
fn linear(context: &Context, arguments: Arguments) -> Results {
    let (input, weight) = (arguments.tensor("input")?, arguments.tensor("weight")?);
    let bias = arguments.optional_tensor("bias")?;
    match weight.rank() {
        1 => {
            let result = matmul(context, input, weight)?;
            biased(context, result, bias)
        }
        2 => {
            let result = multiplied(
                context,
                input,
                &weight.transpose(0, 1)?,
                bias,
                input.dtype(),
            )?;
            one(if input.rank() == 1 {
                result.squeeze(0)?
            } else {
                result
            })
        }
        _ => Err(wrong_shape("a weight of one or two dimensions", weight)),
    }
}

/// y_o = x₁ᵀ W_o x₂ + b_o, for x₁ of shape (…, in₁), x₂ of shape (…, in₂), W of shape (out, in₁, in₂), b of shape (out).
fn bilinear(context: &Context, arguments: Arguments) -> Results {
    let (left, right) = (arguments.tensor("input1")?, arguments.tensor("input2")?);
    let weight = arguments.tensor("weight")?;
    if weight.rank() != 3 {
        return Err(wrong_shape("a weight of three dimensions", weight));
    }
    for input in [left, right] {
        if input.rank() == 0 {
            return Err(wrong_shape("at least one dimension", input));
        }
    }
    // A row for each of W's matrices, and then a column.
    let rows = left.unsqueeze(left.rank() - 1)?;
    let rows = rows.unsqueeze(rows.rank() - 2)?;
    let columns = right.unsqueeze(right.rank() - 1)?;
    let columns = columns.unsqueeze(columns.rank())?;
    let result = matmul(context, &matmul(context, &rows, weight)?, &columns)?;
    let result = result.squeeze(result.rank() - 1)?;
    let result = result.squeeze(result.rank() - 1)?;
    biased(context, result, arguments.optional_tensor("bias")?)
}

fn biased(context: &Context, result: Tensor, bias: Option<&Tensor>) -> Results {
    match bias {
        None => one(result),
        Some(bias) => one(map2::<f32, f32>(
            context,
            result.dtype(),
            result.shape(),
            [&result, bias],
            |a, b| a + b,
        )?),
    }
}

/// `self` · `other` as torch.matmul defines it: vectors are rows or columns, further dimensions are broadcast.
pub(super) fn matmul(
    context: &Context,
    left: &Tensor,
    right: &Tensor,
) -> Result<Tensor, OperatorError> {
    if left.is_complex() || right.is_complex() {
        return super::complex::product(context, left, right);
    }
    if left.rank() == 0 || right.rank() == 0 {
        return Err(wrong_shape(
            "at least one dimension",
            if left.rank() == 0 { left } else { right },
        ));
    }
    let (a, b) = (
        if left.rank() == 1 {
            left.unsqueeze(0)?
        } else {
            left.clone()
        },
        if right.rank() == 1 {
            right.unsqueeze(1)?
        } else {
            right.clone()
        },
    );
    let mut result = multiplied(context, &a, &b, None, left.dtype())?;
    if right.rank() == 1 {
        result = result.squeeze(result.rank() - 1)?;
    }
    if left.rank() == 1 {
        let row = if right.rank() == 1 {
            result.rank() - 1
        } else {
            result.rank() - 2
        };
        result = result.squeeze(row)?;
    }
    Ok(result)
}

/// a · b + bias of shape (columns), for a of shape (…, m, k) and b of shape (…, k, n).
fn multiplied(
    context: &Context,
    a: &Tensor,
    b: &Tensor,
    bias: Option<&Tensor>,
    dtype: Dtype,
) -> Result<Tensor, OperatorError> {
    let a = if a.rank() == 1 {
        a.unsqueeze(0)?
    } else {
        a.clone()
    };
    if let Some(flat) = [&a, b].into_iter().find(|tensor| tensor.rank() < 2) {
        return Err(wrong_shape("at least two dimensions", flat));
    }
    let (left, right) = (a.rank() - 2, b.rank() - 2);
    let [rows, depth] = [a.shape()[left], a.shape()[left + 1]];
    let [inner, columns] = [b.shape()[right], b.shape()[right + 1]];
    if depth != inner {
        return Err(OperatorError::Shape {
            expected: format!("{depth} rows to multiply {:?} with", a.shape()),
            got: b.shape().to_vec(),
        });
    }
    if a.dtype() != b.dtype() {
        return Err(OperatorError::Dtype {
            expected: a.dtype().to_string(),
            got: b.dtype(),
        });
    }
    let batch = broadcast_shapes(&a.shape()[..left], &b.shape()[..right])?;
    let mut shape = batch.clone();
    shape.extend([rows, columns]);
    let result = context.empty(dtype, &shape)?;
    if result.count() == 0 {
        return Ok(result);
    }
    // One matrix on the right: the others are rows of one product.
    let (a, b, batch, rows) = if right == 0 && left > 0 {
        let folded = [a.count() / depth.max(1), depth];
        let folded = match a.view(&folded)? {
            Some(a) => a,
            None => context
                .contiguous(&a)?
                .view(&folded)?
                .ok_or_else(|| wrong_shape("contiguous rows", &a))?,
        };
        let rows = result.count() / columns;
        (folded, b.clone(), Vec::new(), rows)
    } else {
        let full = |tensor: &Tensor, rank: usize| {
            let mut shape = batch.clone();
            shape.extend(&tensor.shape()[rank..]);
            tensor.expand(&shape)
        };
        (full(&a, left)?, full(b, right)?, batch.clone(), rows)
    };
    let bias = bias
        .map(|bias| context.cast(bias, Dtype::F32))
        .transpose()?;
    let bias = bias.as_ref().map(Tensor::elements::<f32>).transpose()?;
    let bias = match &bias {
        Some(bias) if bias.len() == columns => Bias::Columns(bias),
        Some(bias) => {
            return Err(OperatorError::Shape {
                expected: format!("{columns} biases"),
                got: vec![bias.len()],
            });
        }
        None => Bias::None,
    };
    let walk = crate::Walk::new(
        &batch,
        [&a.strides()[..batch.len()], &b.strides()[..batch.len()]],
    );
    let mut starts = Vec::new();
    walk.for_each(0..walk.runs(), |offsets| {
        for index in 0..walk.length {
            starts.push([
                offsets[0] + index * walk.steps[0],
                offsets[1] + index * walk.steps[1],
            ]);
        }
    });
    let strides = |tensor: &Tensor| {
        [
            tensor.strides()[batch.len()],
            tensor.strides()[batch.len() + 1],
        ]
    };
    if kernels::compute_dtype(a.dtype()) == Dtype::I64 {
        let wide = [context.cast(&a, Dtype::I64)?, context.cast(&b, Dtype::I64)?];
        let products = integer_products(context, &wide[0], &wide[1])?;
        context.assign(&result, &products.view(&shape)?.unwrap_or(products))?;
        return Ok(result);
    }
    if a.dtype() == Dtype::F64 {
        let (left, right) = (a.strided::<f64>()?, b.strided::<f64>()?);
        let mut to = result.elements_mut::<f64>()?;
        for (to, [first, second]) in to.chunks_mut(rows * columns).zip(starts) {
            multiply_doubles(
                Matrix::new(&left[first..], [rows, depth], strides(&a))?,
                Matrix::new(&right[second..], [depth, columns], strides(&b))?,
                &mut Window::new(to, rows, columns, columns)?,
                false,
            );
        }
        drop(to);
        return Ok(result);
    }
    with_real!(a.dtype(), |T| {
        let (left, right) = (a.strided::<T>()?, b.strided::<T>()?);
        macro_rules! run {
            ($target:ty) => {{
                let mut to = result.elements_mut::<$target>()?;
                let threads = if starts.len() >= context.threads() {
                    1
                } else {
                    context.threads()
                };
                let compute = |(to, [first, second]): (&mut [$target], [usize; 2])| {
                    product(
                        Matrix::new(
                            left.get(first..).unwrap_or_default(),
                            [rows, depth],
                            strides(&a),
                        )?,
                        Matrix::new(
                            right.get(second..).unwrap_or_default(),
                            [depth, columns],
                            strides(&b),
                        )?,
                        bias,
                        Window::new(to, rows, columns, columns)?,
                        threads,
                    );
                    Ok(())
                };
                if threads == 1
                    && starts.len() > 1
                    && rows * columns * depth * starts.len() > 1 << 15
                {
                    to.par_chunks_mut(rows * columns)
                        .zip(starts)
                        .try_for_each(compute)
                } else {
                    to.chunks_mut(rows * columns)
                        .zip(starts)
                        .try_for_each(compute)
                }
            }};
        }
        if dtype == Dtype::F32 {
            run!(f32)
        } else {
            run!(T)
        }
    })?;
    Ok(result)
}

/// The products of contiguous matrices of 64-bit integers, of shapes (…, m, k) and (…, k, n) with the same batch.
fn integer_products(context: &Context, a: &Tensor, b: &Tensor) -> Result<Tensor, OperatorError> {
    let (depth, columns) = (a.shape()[a.rank() - 1], b.shape()[b.rank() - 1]);
    let rows = a.shape()[a.rank() - 2];
    let mut shape = a.shape().to_vec();
    shape[a.rank() - 1] = columns;
    let result = context.empty(Dtype::I64, &shape)?;
    let (left, right) = (a.elements::<i64>()?, b.elements::<i64>()?);
    let mut to = result.elements_mut::<i64>()?;
    to.fill(0);
    for (number, to) in to.chunks_mut(columns).enumerate() {
        let right = &right[number / rows * depth * columns..];
        for (index, right) in right.chunks(columns).take(depth).enumerate() {
            let factor = left[number * depth + index];
            for (to, &value) in to.iter_mut().zip(right) {
                *to = to.wrapping_add(factor.wrapping_mul(value));
            }
        }
    }
    drop(to);
    Ok(result)
}

fn outer(context: &Context, arguments: Arguments) -> Results {
    let (left, right) = (
        arguments.tensor("self")?.unsqueeze(1)?,
        arguments.tensor("vec2")?.unsqueeze(0)?,
    );
    let dtype = super::result_dtype([&left.clone().into(), &right.clone().into()]);
    let shape = [left.count(), right.count()];
    one(super::operand::computed!(dtype,
        floating C => map2::<C, C>(context, dtype, &shape, [&left, &right], |a, b| a * b)?,
        integer => map2::<C, C>(context, dtype, &shape, [&left, &right], |a, b| a.wrapping_mul(b))?))
}

/// beta · self + alpha · left · right.
fn added(
    context: &Context,
    arguments: &Arguments,
    left: &'static str,
    right: &'static str,
) -> Results {
    let (addend, left, right) = (
        arguments.tensor("self")?,
        arguments.tensor(left)?,
        arguments.tensor(right)?,
    );
    let (beta, alpha) = (
        arguments.float_or("beta", 1.0)?,
        arguments.float_or("alpha", 1.0)?,
    );
    if addend.rank() == 1
        && left.rank() == 2
        && right.rank() == 2
        && beta == 1.0
        && alpha == 1.0
        && left.dtype() != Dtype::F64
        && addend.count() == right.shape()[1]
    {
        return one(multiplied(
            context,
            left,
            right,
            Some(addend),
            left.dtype(),
        )?);
    }
    let dtype = left.dtype();
    if dtype == Dtype::F64 {
        let product = matmul(context, left, right)?;
        return one(map2::<f64, f64>(
            context,
            dtype,
            product.shape(),
            [addend, &product],
            |a, b| beta * a + alpha * b,
        )?);
    }
    let wide = if right.rank() == 1 {
        multiplied(context, left, &right.unsqueeze(1)?, None, Dtype::F32)?.squeeze(1)?
    } else {
        multiplied(context, left, right, None, Dtype::F32)?
    };
    let (beta, alpha) = (beta as f32, alpha as f32);
    one(map2::<f32, f32>(
        context,
        dtype,
        wide.shape(),
        [addend, &wide],
        |a, b| {
            if beta == 0.0 {
                alpha * b
            } else {
                beta * a + alpha * b
            }
        },
    )?)
}
