//! Sums, products, quotients and powers of tensors and numbers, broadcast.

use super::operand::{Results, computed, floating, one, operand};
use super::result_dtype;
use crate::kernels::{map2, map3};
use crate::{Arguments, Context, OperatorError, broadcast_shapes};
use weightstream::Dtype;

/// Two operands, broadcast, in the dtype of their promotion.
macro_rules! binary {
    ($context:expr, $arguments:expr, [$left:literal, $right:literal], |$a:ident, $b:ident| $floating:expr, $integer:expr) => {{
        let dtype = promoted($arguments, $left, $right)?;
        binary!($context, $arguments, [$left, $right], dtype, |$a, $b| $floating, $integer)
    }};
    ($context:expr, $arguments:expr, [$left:literal, $right:literal], $dtype:expr, |$a:ident, $b:ident| $floating:expr, $integer:expr) => {{
        let (left, right) = (operand($context, $arguments, $left)?, operand($context, $arguments, $right)?);
        let shape = broadcast_shapes(left.shape(), right.shape())?;
        one(computed!($dtype,
            floating C => map2::<C, C>($context, $dtype, &shape, [&left, &right], #[inline(always)] |$a, $b| $floating)?,
            integer => map2::<C, C>($context, $dtype, &shape, [&left, &right], #[inline(always)] |$a, $b| $integer)?))
    }};
}

pub(super) const OPERATORS: super::Family = &[
    ("aten.add.Tensor", add),
    ("aten.add.Scalar", add),
    ("aten.sub.Tensor", subtract),
    ("aten.sub.Scalar", subtract),
    ("aten.rsub.Scalar", subtract_from),
    ("aten.rsub.Tensor", subtract_from),
    ("aten.mul.Tensor", multiply),
    ("aten.mul.Scalar", multiply),
    ("aten.div.Tensor", divide),
    ("aten.div.Scalar", divide),
    ("aten.div.Tensor_mode", divide_mode),
    ("aten.div.Scalar_mode", divide_mode),
    ("aten.floor_divide.default", |c, a| {
        divide_rounded(c, &a, "floor")
    }),
    ("aten.floor_divide.Scalar", |c, a| {
        divide_rounded(c, &a, "floor")
    }),
    ("aten.remainder.Tensor", remainder),
    ("aten.remainder.Scalar", remainder),
    ("aten.fmod.Tensor", fmod),
    ("aten.fmod.Scalar", fmod),
    ("aten.pow.Tensor_Tensor", power),
    ("aten.pow.Tensor_Scalar", power),
    ("aten.pow.Scalar", power),
    ("aten.maximum.default", maximum),
    ("aten.max.other", maximum),
    ("aten.minimum.default", minimum),
    ("aten.min.other", minimum),
    ("aten.atan2.default", |c, a| {
        let dtype = floating(promoted(&a, "self", "other")?);
        binary!(c, &a, ["self", "other"], dtype, |x, y| x.atan2(y), x + y)
    }),
    ("aten.addcmul.default", |c, a| add_combined(c, &a, false)),
    ("aten.addcdiv.default", |c, a| add_combined(c, &a, true)),
    ("aten.hypot.default", |c, a| {
        binary!(c, &a, ["self", "other"], |x, y| x.hypot(y), x + y)
    }),
    ("aten.copysign.Tensor", copysign),
    ("aten.copysign.Scalar", copysign),
    ("aten.xlogy.Tensor", xlogy),
    ("aten.xlogy.Scalar_Other", xlogy),
    ("aten.xlogy.Scalar_Self", xlogy),
    ("aten.logaddexp.default", |c, a| {
        binary!(
            c,
            &a,
            ["self", "other"],
            |x, y| {
                let (low, high) = if x < y { (x, y) } else { (y, x) };
                if low == high && low.is_infinite() {
                    low
                } else {
                    high + (low - high).exp().ln_1p()
                }
            },
            x + y
        )
    }),
    ("aten.logaddexp2.default", |c, a| {
        binary!(
            c,
            &a,
            ["self", "other"],
            |x, y| {
                let (low, high) = if x < y { (x, y) } else { (y, x) };
                if low == high && low.is_infinite() {
                    low
                } else {
                    high + ((low - high).exp2() + 1.0).log2()
                }
            },
            x + y
        )
    }),
    ("aten.heaviside.default", |c, a| {
        binary!(
            c,
            &a,
            ["self", "values"],
            |x, y| if x == 0.0 {
                y
            } else if x > 0.0 {
                1.0
            } else {
                0.0
            },
            if x == 0 { y } else { i64::from(x > 0) }
        )
    }),
    ("aten.fmax.default", |c, a| {
        binary!(c, &a, ["self", "other"], |x, y| x.max(y), x.max(y))
    }),
    ("aten.fmin.default", |c, a| {
        binary!(c, &a, ["self", "other"], |x, y| x.min(y), x.min(y))
    }),
    ("aten.gcd.default", |c, a| {
        binary!(c, &a, ["self", "other"], |x, y| x + y, common_divisor(x, y))
    }),
    ("aten.ldexp.Tensor", |c, a| {
        let dtype = floating(promoted(&a, "self", "other")?);
        binary!(c, &a, ["self", "other"], dtype, |x, y| x * y.exp2(), x + y)
    }),
    ("aten.lerp.Scalar", lerp),
    ("aten.lerp.Tensor", lerp),
];

fn copysign(context: &Context, arguments: Arguments) -> Results {
    let dtype = floating(promoted(&arguments, "self", "other")?);
    binary!(
        context,
        &arguments,
        ["self", "other"],
        dtype,
        |a, b| a.copysign(b),
        a + b
    )
}

/// a · ln b, 0 where a is, even for b = 0.
fn xlogy(context: &Context, arguments: Arguments) -> Results {
    let dtype = floating(promoted(&arguments, "self", "other")?);
    binary!(
        context,
        &arguments,
        ["self", "other"],
        dtype,
        |a, b| if a == 0.0 && !b.is_nan() {
            0.0
        } else {
            a * b.ln()
        },
        a + b
    )
}

fn common_divisor(a: i64, b: i64) -> i64 {
    let (mut a, mut b) = (a.unsigned_abs(), b.unsigned_abs());
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a as i64
}

fn promoted(
    arguments: &Arguments,
    left: &'static str,
    right: &'static str,
) -> Result<Dtype, OperatorError> {
    Ok(result_dtype([
        arguments.value(left)?,
        arguments.value(right)?,
    ]))
}

/// Sums and differences round a number to the result's dtype first, as torch does (products don't).
fn rounded(context: &Context, mut arguments: Arguments) -> Result<Arguments, OperatorError> {
    let dtype = promoted(&arguments, "self", "other")?;
    if !matches!(dtype, Dtype::BF16 | Dtype::F16) {
        return Ok(arguments);
    }
    let [left, right] = [
        operand(context, &arguments, "self")?,
        operand(context, &arguments, "other")?,
    ];
    if left.rank() > 0 && right.rank() > 0 {
        return Ok(arguments);
    }
    let alpha = arguments
        .get("alpha")
        .cloned()
        .unwrap_or(crate::Value::None);
    arguments = Arguments::new([("alpha", alpha)]);
    for (name, tensor) in [("self", left), ("other", right)] {
        let tensor = if tensor.rank() == 0 {
            context.cast(&tensor, dtype)?
        } else {
            tensor
        };
        arguments.push(name, tensor.into());
    }
    Ok(arguments)
}

fn add(context: &Context, arguments: Arguments) -> Results {
    let arguments = rounded(context, arguments)?;
    let alpha = arguments.float_or("alpha", 1.0)?;
    if alpha == 1.0 {
        return binary!(
            context,
            &arguments,
            ["self", "other"],
            |a, b| a + b,
            a.wrapping_add(b)
        );
    }
    binary!(
        context,
        &arguments,
        ["self", "other"],
        |a, b| a + alpha as C * b,
        a.wrapping_add(b.wrapping_mul(alpha as i64))
    )
}

fn subtract(context: &Context, arguments: Arguments) -> Results {
    let arguments = rounded(context, arguments)?;
    let alpha = arguments.float_or("alpha", 1.0)?;
    binary!(
        context,
        &arguments,
        ["self", "other"],
        |a, b| a - alpha as C * b,
        a.wrapping_sub(b.wrapping_mul(alpha as i64))
    )
}

fn subtract_from(context: &Context, arguments: Arguments) -> Results {
    let arguments = rounded(context, arguments)?;
    let alpha = arguments.float_or("alpha", 1.0)?;
    binary!(
        context,
        &arguments,
        ["self", "other"],
        |a, b| b - alpha as C * a,
        b.wrapping_sub(a.wrapping_mul(alpha as i64))
    )
}

fn multiply(context: &Context, arguments: Arguments) -> Results {
    binary!(
        context,
        &arguments,
        ["self", "other"],
        |a, b| a * b,
        a.wrapping_mul(b)
    )
}

fn divide(context: &Context, arguments: Arguments) -> Results {
    let dtype = floating(promoted(&arguments, "self", "other")?);
    binary!(
        context,
        &arguments,
        ["self", "other"],
        dtype,
        |a, b| a / b,
        a.checked_div(b).unwrap_or(0)
    )
}

fn divide_mode(context: &Context, arguments: Arguments) -> Results {
    match arguments.text_or("rounding_mode", "")? {
        "" => divide(context, arguments),
        mode => divide_rounded(context, &arguments, mode),
    }
}

fn divide_rounded(context: &Context, arguments: &Arguments, mode: &str) -> Results {
    match mode {
        "floor" => binary!(
            context,
            arguments,
            ["self", "other"],
            |a, b| floor_quotient(a as f64, b as f64) as C,
            {
                let quotient = a.checked_div(b).unwrap_or(0);
                quotient
                    - i64::from(
                        a.checked_rem(b).is_some_and(|rest| rest != 0) && (a < 0) != (b < 0),
                    )
            }
        ),
        "trunc" => binary!(
            context,
            arguments,
            ["self", "other"],
            |a, b| (a / b).trunc(),
            a.checked_div(b).unwrap_or(0)
        ),
        other => Err(OperatorError::Argument {
            argument: "rounding_mode",
            expected: "floor or trunc",
            got: other.into(),
        }),
    }
}

/// Python's `a // b`, which torch computes from the remainder.
fn floor_quotient(a: f64, b: f64) -> f64 {
    if b == 0.0 {
        return a / b;
    }
    let rest = a % b;
    let mut quotient = (a - rest) / b;
    if rest != 0.0 && (b < 0.0) != (rest < 0.0) {
        quotient -= 1.0;
    }
    if quotient == 0.0 {
        return 0_f64.copysign(a / b);
    }
    let floor = quotient.floor();
    if quotient - floor > 0.5 {
        floor + 1.0
    } else {
        floor
    }
}

fn remainder(context: &Context, arguments: Arguments) -> Results {
    binary!(
        context,
        &arguments,
        ["self", "other"],
        |a, b| {
            let rest = a % b;
            if rest != 0.0 && (rest < 0.0) != (b < 0.0) {
                rest + b
            } else {
                rest
            }
        },
        {
            let rest = a.checked_rem(b).unwrap_or(0);
            if rest != 0 && (rest < 0) != (b < 0) {
                rest + b
            } else {
                rest
            }
        }
    )
}

fn fmod(context: &Context, arguments: Arguments) -> Results {
    binary!(
        context,
        &arguments,
        ["self", "other"],
        |a, b| a % b,
        a.checked_rem(b).unwrap_or(0)
    )
}

fn power(context: &Context, arguments: Arguments) -> Results {
    if arguments.tensor("exponent").is_err() {
        let exponent = arguments.float_or("exponent", 1.0)?;
        let dtype = promoted(&arguments, "self", "exponent")?;
        // The exponents that models use, without a general power.
        if dtype == arguments.tensor("self")?.dtype() && super::operand::is_floating(dtype) {
            let base = arguments.tensor("self")?;
            macro_rules! powers {
                ($($value:literal => |$a:ident| $power:expr),*) => {
                    $(if exponent == $value {
                        return one(computed!(dtype,
                            floating C => crate::kernels::map1::<C, C>(context, dtype, base, #[inline(always)] |$a| $power)?,
                            integer => base.clone()));
                    })*
                };
            }
            powers!(2.0 => |a| a * a, 3.0 => |a| a * a * a, 0.5 => |a| a.sqrt(), -0.5 => |a| 1.0 / a.sqrt(),
                -1.0 => |a| 1.0 / a, -2.0 => |a| 1.0 / (a * a));
        }
    }
    binary!(
        context,
        &arguments,
        ["self", "exponent"],
        |a, b| a.powf(b),
        integer_power(a, b)
    )
}

fn integer_power(base: i64, exponent: i64) -> i64 {
    match u32::try_from(exponent) {
        Ok(exponent) => base.wrapping_pow(exponent),
        Err(_) => match base {
            1 => 1,
            -1 if exponent % 2 == 0 => 1,
            -1 => -1,
            _ => 0,
        },
    }
}

fn maximum(context: &Context, arguments: Arguments) -> Results {
    binary!(
        context,
        &arguments,
        ["self", "other"],
        |a, b| if a > b || a.is_nan() { a } else { b },
        a.max(b)
    )
}

fn minimum(context: &Context, arguments: Arguments) -> Results {
    binary!(
        context,
        &arguments,
        ["self", "other"],
        |a, b| if a < b || a.is_nan() { a } else { b },
        a.min(b)
    )
}

/// self + value · tensor1 · tensor2, or with a quotient.
fn add_combined(context: &Context, arguments: &Arguments, divided: bool) -> Results {
    let operands = [
        arguments.tensor("self")?,
        arguments.tensor("tensor1")?,
        arguments.tensor("tensor2")?,
    ];
    let value = arguments.float_or("value", 1.0)?;
    let dtype = result_dtype([
        arguments.value("self")?,
        arguments.value("tensor1")?,
        arguments.value("tensor2")?,
    ]);
    let shape = broadcast_shapes(
        operands[0].shape(),
        &broadcast_shapes(operands[1].shape(), operands[2].shape())?,
    )?;
    one(computed!(dtype,
        floating C => map3::<C, C>(context, dtype, &shape, operands, #[inline(always)] |a, b, c| {
            if divided { a + value as C * b / c } else { a + value as C * b * c }
        })?,
        integer => map3::<C, C>(context, dtype, &shape, operands, #[inline(always)] |a, b, c| {
            a.wrapping_add((value as i64).wrapping_mul(b).wrapping_mul(c))
        })?))
}

/// start + weight · (end - start), computed from the nearer end.
fn lerp(context: &Context, arguments: Arguments) -> Results {
    let (start, end) = (arguments.tensor("self")?, arguments.tensor("end")?);
    let weight = operand(context, &arguments, "weight")?;
    let dtype = start.dtype();
    let shape = broadcast_shapes(
        start.shape(),
        &broadcast_shapes(end.shape(), weight.shape())?,
    )?;
    one(computed!(dtype,
        floating C => map3::<C, C>(context, dtype, &shape, [start, end, &weight], #[inline(always)] |a, b, w| {
            if w.abs() < 0.5 { a + w * (b - a) } else { b - (b - a) * (1.0 - w) }
        })?,
        integer => start.clone()))
}
