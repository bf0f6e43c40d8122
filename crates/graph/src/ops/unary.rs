//! Functions of each element of one tensor.

use super::operand::{Results, computed, floating, is_floating, one, operand};
use super::result_dtype;
use crate::kernels::{self, map1, map3};
use crate::{Arguments, Context, Value, broadcast_shapes};
use std::f64::consts::PI;
use weightstream::Dtype;

/// A function of real numbers: integers become float32.
macro_rules! real {
    (|$a:ident| $single:expr, $double:expr) => {
        |context, arguments| {
            let tensor = arguments.tensor("self")?;
            let dtype = floating(tensor.dtype());
            one(if dtype == Dtype::F64 {
                map1::<f64, f64>(
                    context,
                    dtype,
                    tensor,
                    #[inline(always)]
                    |$a| $double,
                )?
            } else {
                map1::<f32, f32>(
                    context,
                    dtype,
                    tensor,
                    #[inline(always)]
                    |$a| $single,
                )?
            })
        }
    };
    (|$a:ident| $both:expr) => {
        real!(|$a| $both, $both)
    };
}

/// A function that integers have too.
macro_rules! number {
    (|$a:ident| $floating:expr, $integer:expr) => {
        |context, arguments| {
            let tensor = arguments.tensor("self")?;
            let dtype = tensor.dtype();
            one(computed!(dtype,
                floating C => map1::<C, C>(context, dtype, tensor, #[inline(always)] |$a| $floating)?,
                integer => map1::<C, C>(context, dtype, tensor, #[inline(always)] |$a| $integer)?))
        }
    };
}

pub(super) const OPERATORS: super::Family = &[
    ("aten.neg.default", number!(|a| -a, a.wrapping_neg())),
    ("aten.abs.default", number!(|a| a.abs(), a.wrapping_abs())),
    (
        "aten.sign.default",
        number!(
            |a| if a > 0.0 {
                1.0
            } else if a < 0.0 {
                -1.0
            } else {
                0.0
            },
            a.signum()
        ),
    ),
    ("aten.square.default", number!(|a| a * a, a.wrapping_mul(a))),
    ("aten.floor.default", number!(|a| a.floor(), a)),
    ("aten.ceil.default", number!(|a| a.ceil(), a)),
    ("aten.trunc.default", number!(|a| a.trunc(), a)),
    ("aten.round.default", number!(|a| a.round_ties_even(), a)),
    ("aten.frac.default", real!(|a| a - a.trunc())),
    ("aten.exp.default", real!(|a| kernels::exp(a), a.exp())),
    ("aten.exp2.default", real!(|a| a.exp2())),
    ("aten.expm1.default", real!(|a| a.exp_m1())),
    ("aten.log.default", real!(|a| a.ln())),
    ("aten.log2.default", real!(|a| a.log2())),
    ("aten.log10.default", real!(|a| a.log10())),
    ("aten.log1p.default", real!(|a| a.ln_1p())),
    ("aten.sqrt.default", real!(|a| a.sqrt())),
    ("aten.rsqrt.default", real!(|a| 1.0 / a.sqrt())),
    ("aten.reciprocal.default", real!(|a| 1.0 / a)),
    ("aten.sin.default", real!(|a| a.sin())),
    ("aten.cos.default", real!(|a| a.cos())),
    ("aten.tan.default", real!(|a| a.tan())),
    ("aten.asin.default", real!(|a| a.asin())),
    ("aten.acos.default", real!(|a| a.acos())),
    ("aten.atan.default", real!(|a| a.atan())),
    ("aten.sinh.default", real!(|a| a.sinh())),
    ("aten.cosh.default", real!(|a| a.cosh())),
    ("aten.asinh.default", real!(|a| a.asinh())),
    ("aten.acosh.default", real!(|a| a.acosh())),
    ("aten.atanh.default", real!(|a| a.atanh())),
    ("aten.tanh.default", real!(|a| kernels::tanh(a), a.tanh())),
    ("aten.erf.default", real!(|a| kernels::erf(a), libm::erf(a))),
    (
        "aten.sigmoid.default",
        real!(|a| kernels::sigmoid(a), 1.0 / (1.0 + (-a).exp())),
    ),
    (
        "aten.erfc.default",
        real!(|a| libm::erfcf(a), libm::erfc(a)),
    ),
    (
        "aten.lgamma.default",
        real!(|a| libm::lgammaf(a), libm::lgamma(a)),
    ),
    (
        "aten.erfinv.default",
        real!(|a| inverse_erf(f64::from(a)) as f32, inverse_erf(a)),
    ),
    (
        "aten.sinc.default",
        real!(
            |a| if a == 0.0 {
                1.0
            } else {
                (a * PI as f32).sin() / (a * PI as f32)
            },
            if a == 0.0 {
                1.0
            } else {
                (a * PI).sin() / (a * PI)
            }
        ),
    ),
    (
        "aten.deg2rad.default",
        real!(|a| a * (PI / 180.0) as f32, a * (PI / 180.0)),
    ),
    (
        "aten.rad2deg.default",
        real!(|a| a * (180.0 / PI) as f32, a * (180.0 / PI)),
    ),
    (
        "aten.special_entr.default",
        real!(
            |a| if a > 0.0 {
                -a * a.ln()
            } else if a == 0.0 {
                0.0
            } else if a.is_nan() {
                a
            } else {
                f32::NEG_INFINITY
            },
            if a > 0.0 {
                -a * a.ln()
            } else if a == 0.0 {
                0.0
            } else if a.is_nan() {
                a
            } else {
                f64::NEG_INFINITY
            }
        ),
    ),
    (
        "aten.sgn.default",
        number!(
            |a| if a > 0.0 {
                1.0
            } else if a < 0.0 {
                -1.0
            } else {
                0.0
            },
            a.signum()
        ),
    ),
    ("aten.signbit.default", |context, arguments| {
        let tensor = arguments.tensor("self")?;
        one(map1::<f64, i64>(context, Dtype::BOOL, tensor, |a| {
            i64::from(a.is_sign_negative())
        })?)
    }),
    ("aten.round.decimals", |context, arguments| {
        let tensor = arguments.tensor("self")?;
        let scale = 10f64.powi(arguments.int_or("decimals", 0)? as i32);
        one(map1::<f64, f64>(context, tensor.dtype(), tensor, |a| {
            (a * scale).round_ties_even() / scale
        })?)
    }),
    ("aten.logit.default", |context, arguments| {
        let tensor = arguments.tensor("self")?;
        let eps = arguments.float_or("eps", -1.0)?;
        let inside = |a: f64| {
            if eps < 0.0 {
                a
            } else {
                a.clamp(eps, 1.0 - eps)
            }
        };
        one(map1::<f64, f64>(
            context,
            floating(tensor.dtype()),
            tensor,
            |a| {
                let a = if a.is_nan() { a } else { inside(a) };
                (a / (1.0 - a)).ln()
            },
        )?)
    }),
    ("aten.clamp.default", clamp),
    ("aten.clamp.Tensor", clamp),
    ("aten.clamp_min.default", clamp),
    ("aten.clamp_min.Tensor", clamp),
    ("aten.clamp_max.default", clamp),
    ("aten.clamp_max.Tensor", clamp),
    ("aten.nan_to_num.default", nan_to_num),
];

/// What the error function gives `a` for: a rational approximation, then two of Newton's steps.
fn inverse_erf(a: f64) -> f64 {
    if a.abs() >= 1.0 {
        return if a.abs() == 1.0 {
            a * f64::INFINITY
        } else {
            f64::NAN
        };
    }
    let logarithm = (-a * a).ln_1p();
    let mean = 2.0 / (PI * 0.147) + logarithm / 2.0;
    let mut guess = ((mean * mean - logarithm / 0.147).sqrt() - mean)
        .sqrt()
        .copysign(a);
    for _ in 0..3 {
        guess -=
            (libm::erf(guess) - a) / (std::f64::consts::FRAC_2_SQRT_PI * (-guess * guess).exp());
    }
    guess
}

fn clamp(context: &Context, arguments: Arguments) -> Results {
    let tensor = arguments.tensor("self")?;
    let bound = |name, value: f64| match arguments.get(name) {
        Some(_) => operand(context, &arguments, name),
        None if is_floating(tensor.dtype()) => context.scalar(value),
        None => context.scalar(if value < 0.0 { i64::MIN } else { i64::MAX }),
    };
    let (low, high) = (
        bound("min", f64::NEG_INFINITY)?,
        bound("max", f64::INFINITY)?,
    );
    let values: Vec<&Value> = [
        Some(arguments.value("self")?),
        arguments.get("min"),
        arguments.get("max"),
    ]
    .into_iter()
    .flatten()
    .collect();
    let dtype = result_dtype(values);
    let shape = broadcast_shapes(
        tensor.shape(),
        &broadcast_shapes(low.shape(), high.shape())?,
    )?;
    one(computed!(dtype,
        floating C => map3::<C, C>(context, dtype, &shape, [tensor, &low, &high], #[inline(always)] |a, low, high| {
            let a = if a < low { low } else { a };
            if a > high { high } else { a }
        })?,
        integer => map3::<C, C>(context, dtype, &shape, [tensor, &low, &high], #[inline(always)] |a, low, high| a.max(low).min(high))?))
}

fn nan_to_num(context: &Context, arguments: Arguments) -> Results {
    let tensor = arguments.tensor("self")?;
    let dtype = tensor.dtype();
    let (highest, lowest) = match dtype {
        Dtype::F64 => (f64::MAX, f64::MIN),
        Dtype::F32 => (f64::from(f32::MAX), f64::from(f32::MIN)),
        Dtype::BF16 => (half::bf16::MAX.to_f64(), half::bf16::MIN.to_f64()),
        Dtype::F16 => (half::f16::MAX.to_f64(), half::f16::MIN.to_f64()),
        _ => return one(context.copied(tensor)?),
    };
    let nan = arguments.float_or("nan", 0.0)?;
    let high = arguments.float_or("posinf", highest)?;
    let low = arguments.float_or("neginf", lowest)?;
    let replace = |a: f64| {
        if a.is_nan() {
            nan
        } else if a == f64::INFINITY {
            high
        } else if a == f64::NEG_INFINITY {
            low
        } else {
            a
        }
    };
    one(map1::<f64, f64>(context, dtype, tensor, replace)?)
}
