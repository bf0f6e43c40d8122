//! The non-linear functions of neural networks.

use super::operand::{Results, floating, one, operand, wrong_shape};
use crate::kernels::{self, WORTH_A_THREAD, erf, exp, map1, map2, sigmoid, tanh, vectorised};
use crate::{Arguments, Context, OperatorError, broadcast_shapes};
use rayon::prelude::*;
use weightstream::Dtype;

/// A function that is computed in float32, with numbers among the arguments.
macro_rules! function {
    (|$arguments:ident| $($number:ident = $default:literal),*; |$a:ident| $value:expr) => {
        |context, $arguments| {
            let tensor = $arguments.tensor("self")?;
            $(let $number = $arguments.float_or(stringify!($number), $default)? as f32;)*
            one(map1::<f32, f32>(context, floating(tensor.dtype()), tensor, #[inline(always)] |$a| $value)?)
        }
    };
    (|$a:ident| $value:expr) => {
        function!(|arguments| ; |$a| $value)
    };
}

// Not `clamp` and `min`, which treat NaN otherwise than torch does.
#[allow(clippy::manual_clamp)]
pub(super) const OPERATORS: super::Family = &[
    ("aten.relu.default", relu),
    (
        "aten.relu6.default",
        function!(|a| if a < 0.0 {
            0.0
        } else if a > 6.0 {
            6.0
        } else {
            a
        }),
    ),
    ("aten.gelu.default", gelu),
    ("aten.silu.default", function!(|a| a / (1.0 + exp(-a)))),
    (
        "aten.mish.default",
        function!(|a| {
            // tanh(ln(1 + e^a)) without a logarithm.
            let e = exp(a.min(30.0));
            let square = e * (e + 2.0);
            if a.is_nan() {
                a
            } else {
                a * (square / (square + 2.0))
            }
        }),
    ),
    (
        "aten.hardswish.default",
        function!(|a| a * ((a + 3.0).clamp(0.0, 6.0)) / 6.0),
    ),
    (
        "aten.hardsigmoid.default",
        function!(|a| (a + 3.0).clamp(0.0, 6.0) / 6.0),
    ),
    (
        "aten.hardtanh.default",
        function!(|arguments| min_val = -1.0, max_val = 1.0; |a| {
            let a = if a < min_val { min_val } else { a };
            if a > max_val { max_val } else { a }
        }),
    ),
    (
        "aten.leaky_relu.default",
        function!(|arguments| negative_slope = 0.01; |a| if a > 0.0 { a } else { a * negative_slope }),
    ),
    (
        "aten.elu.default",
        function!(|arguments| alpha = 1.0, scale = 1.0, input_scale = 1.0; |a| {
            if a > 0.0 { scale * a } else { scale * alpha * (input_scale * a).exp_m1() }
        }),
    ),
    (
        "aten.selu.default",
        function!(|a| {
            const SCALE: f32 = 1.050_701;
            const ALPHA: f32 = 1.673_263_2;
            if a > 0.0 {
                SCALE * a
            } else {
                SCALE * ALPHA * a.exp_m1()
            }
        }),
    ),
    (
        "aten.celu.default",
        function!(|arguments| alpha = 1.0; |a| if a > 0.0 { a } else { alpha * (a / alpha).exp_m1() }),
    ),
    (
        "aten.softplus.default",
        function!(|arguments| beta = 1.0, threshold = 20.0; |a| {
            if a * beta > threshold { a } else { exp(a * beta).ln_1p() / beta }
        }),
    ),
    ("aten.softsign.default", function!(|a| a / (1.0 + a.abs()))),
    (
        "aten.log_sigmoid.default",
        function!(|a| a.min(0.0) - exp(-a.abs()).ln_1p()),
    ),
    (
        "aten.threshold.default",
        function!(|arguments| threshold = 0.0, value = 0.0; |a| if a <= threshold { value } else { a }),
    ),
    ("aten.prelu.default", prelu),
    ("aten._prelu_kernel.default", prelu),
    ("aten.glu.default", glu),
    ("aten.softmax.int", |c, a| softmax(c, &a, Softmax::Plain)),
    ("aten._softmax.default", |c, a| {
        softmax(c, &a, Softmax::Plain)
    }),
    ("aten._safe_softmax.default", |c, a| {
        softmax(c, &a, Softmax::ZeroWithoutChoice)
    }),
    ("aten.log_softmax.int", |c, a| {
        softmax(c, &a, Softmax::Logarithm)
    }),
    ("aten._log_softmax.default", |c, a| {
        softmax(c, &a, Softmax::Logarithm)
    }),
    ("aten.dropout.default", unchanged),
    ("aten.alpha_dropout.default", unchanged),
    ("aten.feature_dropout.default", unchanged),
    ("aten.feature_alpha_dropout.default", unchanged),
    ("aten.native_dropout.default", unchanged_with_mask),
];

fn relu(context: &Context, arguments: Arguments) -> Results {
    let tensor = arguments.tensor("self")?;
    let dtype = tensor.dtype();
    one(match kernels::compute_dtype(dtype) {
        Dtype::I64 => map1::<i64, i64>(
            context,
            dtype,
            tensor,
            #[inline(always)]
            |a| a.max(0),
        )?,
        Dtype::F64 => map1::<f64, f64>(
            context,
            dtype,
            tensor,
            #[inline(always)]
            |a| if a < 0.0 { 0.0 } else { a },
        )?,
        _ => map1::<f32, f32>(
            context,
            dtype,
            tensor,
            #[inline(always)]
            |a| if a < 0.0 { 0.0 } else { a },
        )?,
    })
}

/// x · Φ(x), with the normal distribution's Φ or its approximation by tanh.
fn gelu(context: &Context, arguments: Arguments) -> Results {
    let tensor = arguments.tensor("self")?;
    let dtype = tensor.dtype();
    one(match arguments.text_or("approximate", "none")? {
        "tanh" => map1::<f32, f32>(
            context,
            dtype,
            tensor,
            #[inline(always)]
            |a| {
                const SCALE: f32 =
                    std::f32::consts::FRAC_2_SQRT_PI * std::f32::consts::SQRT_2 * 0.5;
                0.5 * a * (1.0 + tanh(SCALE * (a + 0.044_715 * a * a * a)))
            },
        )?,
        _ => map1::<f32, f32>(
            context,
            dtype,
            tensor,
            #[inline(always)]
            |a| a * 0.5 * (1.0 + erf(a * std::f32::consts::FRAC_1_SQRT_2)),
        )?,
    })
}

/// A slope for negative elements, one for all or one for each entry of dimension 1.
fn prelu(context: &Context, arguments: Arguments) -> Results {
    let (tensor, weight) = (
        arguments.tensor("self")?,
        operand(context, &arguments, "weight")?,
    );
    let weight = if weight.rank() == 1 && weight.count() != 1 && tensor.rank() > 1 {
        let mut shape = vec![1; tensor.rank()];
        shape[1] = weight.count();
        weight
            .view(&shape)?
            .ok_or_else(|| wrong_shape("a contiguous weight", &weight))?
    } else {
        weight
    };
    let shape = broadcast_shapes(tensor.shape(), weight.shape())?;
    if shape.len() > tensor.rank() && tensor.rank() == 0 {
        let result = map2::<f32, f32>(context, tensor.dtype(), &shape, [tensor, &weight], leaky)?;
        return one(result.squeeze(0)?);
    }
    one(map2::<f32, f32>(
        context,
        tensor.dtype(),
        &shape,
        [tensor, &weight],
        leaky,
    )?)
}

#[inline(always)]
fn leaky(a: f32, slope: f32) -> f32 {
    if a > 0.0 { a } else { a * slope }
}

/// The first half along a dimension, gated by the second one.
fn glu(context: &Context, arguments: Arguments) -> Results {
    let tensor = arguments.tensor("self")?;
    let dim = tensor.dimension(arguments.int_or("dim", -1)?)?;
    let size = tensor.shape().get(dim).copied().unwrap_or(0);
    if size % 2 != 0 || size == 0 {
        return Err(wrong_shape("an even size to halve", tensor));
    }
    let values = tensor.narrow(dim, 0, size / 2, 1)?;
    let gates = tensor.narrow(dim, size / 2, size, 1)?;
    one(map2::<f32, f32>(
        context,
        tensor.dtype(),
        values.shape(),
        [&values, &gates],
        #[inline(always)]
        |a, b| a * sigmoid(b),
    )?)
}

fn unchanged(_: &Context, arguments: Arguments) -> Results {
    if arguments.bool_or("train", false)? {
        return Err(OperatorError::Unsupported(
            "dropout in training is random: export the model after model.eval()".into(),
        ));
    }
    // In-place forms call it `self`.
    let name = if arguments.get("input").is_some() {
        "input"
    } else {
        "self"
    };
    one(arguments.tensor(name)?.clone())
}

fn unchanged_with_mask(context: &Context, arguments: Arguments) -> Results {
    if arguments.bool_or("train", false)? {
        return Err(OperatorError::Unsupported(
            "dropout in training is random: export the model after model.eval()".into(),
        ));
    }
    let input = arguments.tensor("input")?;
    let mask = context.empty(Dtype::BOOL, input.shape())?;
    mask.elements_mut::<u8>()?.fill(1);
    Ok(vec![input.clone().into(), mask.into()])
}

#[derive(Clone, Copy, PartialEq)]
enum Softmax {
    Plain,
    /// Zeros where all elements are minus infinity.
    ZeroWithoutChoice,
    Logarithm,
}

/// e^x over the sum of e^x along a dimension, or its logarithm. Computed in float32 and rounded once.
fn softmax(context: &Context, arguments: &Arguments, kind: Softmax) -> Results {
    let input = arguments.tensor("self")?;
    let dtype = arguments
        .optional_dtype("dtype")?
        .unwrap_or(floating(input.dtype()));
    if input.rank() == 0 {
        return one(map1::<f32, f32>(
            context,
            dtype,
            input,
            #[inline(always)]
            |a| {
                if a.is_nan() {
                    a
                } else if kind == Softmax::Logarithm {
                    0.0
                } else {
                    1.0
                }
            },
        )?);
    }
    let dim = input.dimension(arguments.int("dim")?)?;
    let last = input.rank() - 1;
    let rows = input.transpose(dim, last)?;
    let length = rows.shape()[last];
    // Always a copy: it is computed in place.
    let result = map1::<f32, f32>(
        context,
        Dtype::F32,
        &rows,
        #[inline(always)]
        |a| a,
    )?;
    if length > 0 {
        let mut elements = result.elements_mut::<f32>()?;
        let rows = WORTH_A_THREAD.div_ceil(4 * length) * length;
        elements.par_chunks_mut(rows).for_each(|rows| {
            rows.chunks_mut(length)
                .for_each(|row| softmax_row(row, kind));
        });
    }
    let result = if dtype == Dtype::F32 {
        result
    } else {
        context.cast(&result, dtype)?
    };
    one(context.contiguous(&result.transpose(dim, last)?)?)
}

fn softmax_row(row: &mut [f32], kind: Softmax) {
    vectorised(
        #[inline(always)]
        || {
            let highest = kernels::highest(row);
            if kind == Softmax::ZeroWithoutChoice && highest == f32::NEG_INFINITY {
                row.fill(0.0);
            } else if kind == Softmax::Logarithm {
                let total: f32 = kernels::sum_of(row, |a| exp(a - highest));
                let shift = highest + total.ln();
                row.iter_mut().for_each(|a| *a -= shift);
            } else {
                let factor = 1.0 / kernels::exponentials(row, highest);
                row.iter_mut().for_each(|a| *a *= factor);
            }
        },
    );
}
