//! Complex numbers: what makes and takes them apart, and the forms that other operators have for them.

use super::operand::{Results, as_tensor, dimensions, one, operand};
use super::{Operator, tensor_of};
use crate::{Arguments, Context, OperatorError, Tensor, Value, broadcast_shapes};
use num_complex::Complex32;
use rayon::prelude::*;
use weightstream::Dtype;

pub(super) const OPERATORS: super::Family = &[
    ("aten.view_as_real.default", |_, a| {
        one(a.tensor("self")?.as_real()?)
    }),
    ("aten.view_as_complex.default", |c, a| {
        let pairs = a.tensor("self")?;
        one(match pairs.as_complex() {
            Ok(complex) => complex,
            Err(_) => c.copied(pairs)?.as_complex()?,
        })
    }),
    ("aten.real.default", |_, a| {
        let tensor = a.tensor("self")?;
        one(if tensor.is_complex() {
            tensor.part(0)?
        } else {
            tensor.clone()
        })
    }),
    ("aten.imag.default", |_, a| {
        one(a.tensor("self")?.part(1)?)
    }),
    ("aten.complex.default", |c, a| {
        let (real, imaginary) = (a.tensor("real")?, a.tensor("imag")?);
        one(of_parts(c, real, imaginary, |real, imaginary| {
            [real, imaginary]
        })?)
    }),
    ("aten.polar.default", |c, a| {
        let (length, angle) = (a.tensor("abs")?, a.tensor("angle")?);
        one(of_parts(c, length, angle, |length, angle| {
            [length * angle.cos(), length * angle.sin()]
        })?)
    }),
    ("aten.angle.default", |c, a| {
        let tensor = a.tensor("self")?;
        let dtype = super::operand::floating(tensor.dtype());
        one(crate::kernels::map1::<f32, f32>(c, dtype, tensor, |a| {
            if a.is_nan() {
                a
            } else if a < 0.0 {
                std::f32::consts::PI
            } else {
                0.0
            }
        })?)
    }),
    ("aten.conj.default", unchanged),
    ("aten._conj.default", unchanged),
    ("aten._conj_physical.default", unchanged),
    ("aten.conj_physical.default", unchanged),
    ("aten.isreal.default", |c, a| {
        let tensor = a.tensor("self")?;
        if tensor.is_complex() {
            return real_of(c, tensor, Dtype::BOOL, |value| {
                f32::from(u8::from(value.im == 0.0))
            });
        }
        super::call(
            c,
            "aten.ones_like.default",
            [
                ("self", tensor.clone().into()),
                ("dtype", Value::Dtype(Dtype::BOOL)),
            ],
        )
    }),
];

/// What computes an operator of the table where an argument is complex.
const FORMS: super::Family = &[
    ("aten.add.Tensor", |c, a| scaled(c, &a, |a, b| a + b)),
    ("aten.add.Scalar", |c, a| scaled(c, &a, |a, b| a + b)),
    ("aten.sub.Tensor", |c, a| scaled(c, &a, |a, b| a - b)),
    ("aten.sub.Scalar", |c, a| scaled(c, &a, |a, b| a - b)),
    ("aten.rsub.Scalar", |c, a| scaled(c, &a, |a, b| b - a)),
    ("aten.mul.Tensor", |c, a| of_pair(c, &a, |a, b| a * b)),
    ("aten.mul.Scalar", |c, a| of_pair(c, &a, |a, b| a * b)),
    ("aten.div.Tensor", |c, a| of_pair(c, &a, |a, b| a / b)),
    ("aten.div.Scalar", |c, a| of_pair(c, &a, |a, b| a / b)),
    ("aten.pow.Tensor_Scalar", power),
    ("aten.pow.Tensor_Tensor", power),
    ("aten.neg.default", |c, a| of_each(c, &a, |a| -a)),
    ("aten.square.default", |c, a| of_each(c, &a, |a| a * a)),
    ("aten.reciprocal.default", |c, a| {
        of_each(c, &a, |a| a.inv())
    }),
    ("aten.exp.default", |c, a| of_each(c, &a, Complex32::exp)),
    ("aten.log.default", |c, a| of_each(c, &a, Complex32::ln)),
    ("aten.sqrt.default", |c, a| of_each(c, &a, Complex32::sqrt)),
    ("aten.sin.default", |c, a| of_each(c, &a, Complex32::sin)),
    ("aten.cos.default", |c, a| of_each(c, &a, Complex32::cos)),
    ("aten.tanh.default", |c, a| of_each(c, &a, Complex32::tanh)),
    ("aten.sigmoid.default", |c, a| {
        of_each(c, &a, |a| ((-a).exp() + 1.0).inv())
    }),
    ("aten.sgn.default", |c, a| {
        of_each(c, &a, |a| {
            if a == Complex32::ZERO {
                a
            } else {
                a / a.norm()
            }
        })
    }),
    ("aten.conj.default", |c, a| of_each(c, &a, |a| a.conj())),
    ("aten._conj.default", |c, a| of_each(c, &a, |a| a.conj())),
    ("aten._conj_physical.default", |c, a| {
        of_each(c, &a, |a| a.conj())
    }),
    ("aten.conj_physical.default", |c, a| {
        of_each(c, &a, |a| a.conj())
    }),
    ("aten.mH.default", |c, a| {
        let tensor = a.tensor("self")?;
        let (rows, columns) = (tensor.rank().wrapping_sub(2), tensor.rank().wrapping_sub(1));
        mapped(c, &tensor.transpose(rows, columns)?, |a| a.conj())
    }),
    ("aten.abs.default", |c, a| {
        real_of(c, a.tensor("self")?, Dtype::F32, |a| a.norm())
    }),
    ("aten.angle.default", |c, a| {
        real_of(c, a.tensor("self")?, Dtype::F32, |a| a.arg())
    }),
    ("aten.isnan.default", |c, a| {
        real_of(c, a.tensor("self")?, Dtype::BOOL, |a| {
            f32::from(u8::from(a.is_nan()))
        })
    }),
    ("aten.isfinite.default", |c, a| {
        real_of(c, a.tensor("self")?, Dtype::BOOL, |a| {
            f32::from(u8::from(a.is_finite()))
        })
    }),
    ("aten.eq.Tensor", |c, a| compared(c, &a, true)),
    ("aten.eq.Scalar", |c, a| compared(c, &a, true)),
    ("aten.ne.Tensor", |c, a| compared(c, &a, false)),
    ("aten.ne.Scalar", |c, a| compared(c, &a, false)),
    ("aten.sum.default", |c, a| {
        by_parts(c, &a, "aten.sum.dim_IntList")
    }),
    ("aten.sum.dim_IntList", |c, a| {
        by_parts(c, &a, "aten.sum.dim_IntList")
    }),
    ("aten.mean.default", |c, a| by_parts(c, &a, "aten.mean.dim")),
    ("aten.mean.dim", |c, a| by_parts(c, &a, "aten.mean.dim")),
    ("aten.where.self", chosen),
    ("aten.masked_fill.Scalar", filled),
    ("aten.masked_fill.Tensor", filled),
    ("aten.linalg_vector_norm.default", |c, a| {
        let mut named = vec![("self", magnitudes(c, a.tensor("self")?)?.into())];
        for name in ["ord", "dim", "keepdim", "dtype"] {
            if let Some(value) = a.get(name) {
                named.push((name, value.clone()));
            }
        }
        super::call(c, "aten.linalg_vector_norm.default", named)
    }),
];

/// Operators that move or make elements and don't look at them, or are made of others that have forms: complex numbers
/// are elements like all others there.
const ALIKE: &[&str] = &[
    "_fft_c2c",
    "_fft_c2r",
    "_local_scalar_dense",
    "_reshape_alias",
    "_to_copy",
    "_unsafe_index",
    "_unsafe_view",
    "alias",
    "as_strided",
    "atleast_1d",
    "atleast_2d",
    "atleast_3d",
    "bmm",
    "broadcast_tensors",
    "broadcast_to",
    "cat",
    "channel_shuffle",
    "chunk",
    "clone",
    "constant_pad_nd",
    "contiguous",
    "copy",
    "copy_",
    "detach",
    "diag_embed",
    "diagonal",
    "einsum",
    "embedding",
    "empty_like",
    "expand",
    "expand_as",
    "fft_fft",
    "fft_fft2",
    "fft_fftn",
    "fft_fftshift",
    "fft_ifft",
    "fft_ifft2",
    "fft_ifftn",
    "fft_ifftshift",
    "fft_irfft",
    "fft_irfft2",
    "fft_irfftn",
    "fill",
    "flatten",
    "flip",
    "fliplr",
    "flipud",
    "full",
    "full_like",
    "gather",
    "hsplit",
    "hstack",
    "imag",
    "index",
    "index_copy",
    "index_copy_",
    "index_put",
    "index_put_",
    "index_select",
    "isreal",
    "lift_fresh",
    "lift_fresh_copy",
    "linalg_diagonal",
    "mT",
    "masked_select",
    "matmul",
    "mm",
    "movedim",
    "mv",
    "narrow",
    "new_empty",
    "new_full",
    "new_ones",
    "new_zeros",
    "numpy_T",
    "ones_like",
    "pad",
    "permute",
    "pixel_shuffle",
    "pixel_unshuffle",
    "positive",
    "ravel",
    "real",
    "reflection_pad1d",
    "reflection_pad2d",
    "repeat",
    "repeat_interleave",
    "replication_pad1d",
    "replication_pad2d",
    "reshape",
    "reshape_as",
    "roll",
    "rot90",
    "scalar_tensor",
    "scatter",
    "select",
    "select_scatter",
    "slice",
    "slice_scatter",
    "split",
    "split_with_sizes",
    "squeeze",
    "stack",
    "sym_numel",
    "sym_size",
    "sym_stride",
    "t",
    "take_along_dim",
    "tensor_split",
    "tile",
    "to",
    "transpose",
    "tril",
    "triu",
    "type_as",
    "unbind",
    "unflatten",
    "unfold",
    "unsqueeze",
    "view",
    "view_as",
    "view_as_real",
    "vsplit",
    "vstack",
    "zero",
    "zeros_like",
];

/// The form of an operator for complex arguments: one of its own, or the only one; None where there is none.
pub(super) fn form(name: &str, only: Operator) -> Option<Operator> {
    let own = FORMS.iter().find(|(other, _)| *other == name);
    own.map(|(_, operator)| *operator).or_else(|| {
        let operator = name.strip_prefix("aten.")?.split('.').next()?;
        ALIKE.binary_search(&operator).ok().map(|_| only)
    })
}

/// Whether one of the arguments is complex.
pub(super) fn is_among(arguments: &Arguments) -> bool {
    arguments.iter().any(|(_, value)| match value {
        Value::Complex(_) => true,
        Value::Tensor(tensor) => tensor.is_complex(),
        _ => false,
    })
}

fn number([real, imaginary]: [f32; 2]) -> Complex32 {
    Complex32::new(real, imaginary)
}

fn unchanged(_: &Context, arguments: Arguments) -> Results {
    one(arguments.tensor("self")?.clone())
}

/// Complex numbers made of pairs of real ones.
fn of_parts(
    context: &Context,
    first: &Tensor,
    second: &Tensor,
    make: impl Fn(f32, f32) -> [f32; 2] + Sync,
) -> Result<Tensor, OperatorError> {
    let shape = broadcast_shapes(first.shape(), second.shape())?;
    let wide = |tensor: &Tensor| context.cast(&tensor.expand(&shape)?, Dtype::F32);
    let (first, second) = (wide(first)?, wide(second)?);
    let result = context.empty(Dtype::C64, &shape)?;
    let (a, b) = (first.elements::<f32>()?, second.elements::<f32>()?);
    let mut to = result.elements_mut::<[f32; 2]>()?;
    to.par_iter_mut()
        .zip(a.par_iter().zip(b.par_iter()))
        .with_min_len(4096)
        .for_each(|(to, (&a, &b))| *to = make(a, b));
    drop(to);
    Ok(result)
}

/// A function of each number.
pub(super) fn mapped(
    context: &Context,
    tensor: &Tensor,
    compute: impl Fn(Complex32) -> Complex32 + Sync,
) -> Results {
    let source = context.cast(tensor, Dtype::C64)?;
    let result = context.empty(Dtype::C64, source.shape())?;
    let from = source.elements::<[f32; 2]>()?;
    let mut to = result.elements_mut::<[f32; 2]>()?;
    to.par_iter_mut()
        .zip(from.par_iter())
        .with_min_len(4096)
        .for_each(|(to, &from)| {
            let value = compute(number(from));
            *to = [value.re, value.im];
        });
    drop(to);
    one(result)
}

fn of_each(
    context: &Context,
    arguments: &Arguments,
    compute: fn(Complex32) -> Complex32,
) -> Results {
    mapped(context, arguments.tensor("self")?, compute)
}

/// A real function of each number.
fn real_of(
    context: &Context,
    tensor: &Tensor,
    dtype: Dtype,
    compute: impl Fn(Complex32) -> f32,
) -> Results {
    let source = context.contiguous(tensor)?;
    let values: Vec<f32> = source
        .elements::<[f32; 2]>()?
        .iter()
        .map(|&value| compute(number(value)))
        .collect();
    one(context.cast(&context.tensor(&values, tensor.shape())?, dtype)?)
}

fn magnitudes(context: &Context, tensor: &Tensor) -> Result<Tensor, OperatorError> {
    tensor_of(
        context,
        "aten.abs.default",
        [("self", tensor.clone().into())],
    )
}

/// Two operands of one shape, as complex numbers.
fn pair(
    context: &Context,
    arguments: &Arguments,
    names: [&'static str; 2],
) -> Result<[Tensor; 2], OperatorError> {
    let left = operand(context, arguments, names[0])?;
    let right = operand(context, arguments, names[1])?;
    let shape = broadcast_shapes(left.shape(), right.shape())?;
    Ok([
        context.cast(&left.expand(&shape)?, Dtype::C64)?,
        context.cast(&right.expand(&shape)?, Dtype::C64)?,
    ])
}

fn combined(
    context: &Context,
    [left, right]: [Tensor; 2],
    compute: impl Fn(Complex32, Complex32) -> Complex32 + Sync,
) -> Results {
    let result = context.empty(Dtype::C64, left.shape())?;
    let (a, b) = (left.elements::<[f32; 2]>()?, right.elements::<[f32; 2]>()?);
    let mut to = result.elements_mut::<[f32; 2]>()?;
    to.par_iter_mut()
        .zip(a.par_iter().zip(b.par_iter()))
        .with_min_len(4096)
        .for_each(|(to, (&a, &b))| {
            let value = compute(number(a), number(b));
            *to = [value.re, value.im];
        });
    drop(to);
    one(result)
}

fn of_pair(
    context: &Context,
    arguments: &Arguments,
    compute: fn(Complex32, Complex32) -> Complex32,
) -> Results {
    combined(
        context,
        pair(context, arguments, ["self", "other"])?,
        compute,
    )
}

/// Sums and differences, whose second operand (the first one of `rsub`) is scaled.
fn scaled(
    context: &Context,
    arguments: &Arguments,
    compute: fn(Complex32, Complex32) -> Complex32,
) -> Results {
    let alpha = arguments.float_or("alpha", 1.0)? as f32;
    let operands = pair(context, arguments, ["self", "other"])?;
    combined(context, operands, |a, b| compute(a, b * alpha))
}

fn power(context: &Context, arguments: Arguments) -> Results {
    if let Some(Value::Int(exponent)) = arguments.get("exponent")
        && let Ok(exponent) = i32::try_from(*exponent)
    {
        return mapped(context, arguments.tensor("self")?, |a| a.powi(exponent));
    }
    let operands = pair(context, &arguments, ["self", "exponent"])?;
    combined(context, operands, |a, b| {
        if b == Complex32::ZERO {
            Complex32::ONE
        } else {
            a.powc(b)
        }
    })
}

fn compared(context: &Context, arguments: &Arguments, equal: bool) -> Results {
    let [left, right] = pair(context, arguments, ["self", "other"])?;
    let holds: Vec<u8> = left
        .elements::<[f32; 2]>()?
        .iter()
        .zip(right.elements::<[f32; 2]>()?.iter())
        .map(|(a, b)| u8::from((a == b) == equal))
        .collect();
    one(context.cast(&context.tensor(&holds, left.shape())?, Dtype::BOOL)?)
}

/// An operator that treats both parts alike, on the parts.
fn by_parts(context: &Context, arguments: &Arguments, name: &'static str) -> Results {
    let tensor = arguments.tensor("self")?;
    let dims: Vec<i64> = dimensions(arguments, "dim", tensor)?
        .into_iter()
        .map(|dim| dim as i64)
        .collect();
    if dims.is_empty() {
        return one(tensor.clone());
    }
    let named = [
        ("self", tensor.as_real()?.into()),
        ("dim", dims.into()),
        ("keepdim", arguments.bool_or("keepdim", false)?.into()),
    ];
    one(tensor_of(context, name, named)?.as_complex()?)
}

fn selected(context: &Context, condition: &Tensor, left: &Tensor, right: &Tensor) -> Results {
    let shape = broadcast_shapes(
        condition.shape(),
        &broadcast_shapes(left.shape(), right.shape())?,
    )?;
    let real = |tensor: &Tensor| context.cast(&tensor.expand(&shape)?, Dtype::C64)?.as_real();
    let condition = condition.expand(&shape)?.unsqueeze(shape.len())?;
    let named = [
        ("condition", condition.into()),
        ("self", real(left)?.into()),
        ("other", real(right)?.into()),
    ];
    one(tensor_of(context, "aten.where.self", named)?.as_complex()?)
}

fn chosen(context: &Context, arguments: Arguments) -> Results {
    let condition = arguments.tensor("condition")?;
    selected(
        context,
        condition,
        arguments.tensor("self")?,
        arguments.tensor("other")?,
    )
}

fn filled(context: &Context, arguments: Arguments) -> Results {
    let value = as_tensor(context, "value", arguments.value("value")?)?;
    selected(
        context,
        arguments.tensor("mask")?,
        &value,
        arguments.tensor("self")?,
    )
}

/// The product of matrices, as four of their parts.
pub(super) fn product(
    context: &Context,
    left: &Tensor,
    right: &Tensor,
) -> Result<Tensor, OperatorError> {
    let (left, right) = (
        context.cast(left, Dtype::C64)?,
        context.cast(right, Dtype::C64)?,
    );
    let times =
        |a: usize, b: usize| super::matrix::matmul(context, &left.part(a)?, &right.part(b)?);
    let combined = |name, first: Tensor, second: Tensor| {
        let operands = [("self", first.into()), ("other", second.into())];
        tensor_of(context, name, operands)
    };
    let real = combined("aten.sub.Tensor", times(0, 0)?, times(1, 1)?)?;
    let imaginary = combined("aten.add.Tensor", times(0, 1)?, times(1, 0)?)?;
    of_parts(context, &real, &imaginary, |real, imaginary| {
        [real, imaginary]
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn operators_that_are_alike_are_found() {
        assert!(super::ALIKE.is_sorted());
    }
}
