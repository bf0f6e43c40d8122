//! Comparisons, logic, and choices that depend on them.

use super::operand::{Results, computed, one, operand};
use super::result_dtype;
use crate::kernels::{map1, map2, map3};
use crate::{Arguments, Context, OperatorError, broadcast_shapes};
use weightstream::Dtype;

macro_rules! compare {
    (|$a:ident, $b:ident| $holds:expr) => {
        |context, arguments| {
            let (left, right) = (operand(context, &arguments, "self")?, operand(context, &arguments, "other")?);
            let common = result_dtype([arguments.value("self")?, arguments.value("other")?]);
            let shape = broadcast_shapes(left.shape(), right.shape())?;
            one(computed!(common,
                floating C => map2::<C, i64>(context, Dtype::BOOL, &shape, [&left, &right], #[inline(always)] |$a, $b| i64::from($holds))?,
                integer => map2::<C, i64>(context, Dtype::BOOL, &shape, [&left, &right], #[inline(always)] |$a, $b| i64::from($holds))?))
        }
    };
}

/// Of truth values: whatever is not zero is true.
macro_rules! logical {
    (|$a:ident, $b:ident| $holds:expr) => {
        |context, arguments| {
            let (left, right) = (
                operand(context, &arguments, "self")?,
                operand(context, &arguments, "other")?,
            );
            let shape = broadcast_shapes(left.shape(), right.shape())?;
            one(map2::<f64, i64>(
                context,
                Dtype::BOOL,
                &shape,
                [&left, &right],
                #[inline(always)]
                |a, b| {
                    let ($a, $b) = (a != 0.0, b != 0.0);
                    i64::from($holds)
                },
            )?)
        }
    };
}

/// Of integers and booleans, bit by bit.
macro_rules! bitwise {
    (|$a:ident, $b:ident| $bits:expr) => {
        |context, arguments| {
            let (left, right) = (
                operand(context, &arguments, "self")?,
                operand(context, &arguments, "other")?,
            );
            let dtype = result_dtype([arguments.value("self")?, arguments.value("other")?]);
            let shape = broadcast_shapes(left.shape(), right.shape())?;
            one(map2::<i64, i64>(
                context,
                dtype,
                &shape,
                [&left, &right],
                #[inline(always)]
                |$a, $b| $bits,
            )?)
        }
    };
}

pub(super) const OPERATORS: super::Family = &[
    ("aten.eq.Tensor", compare!(|a, b| a == b)),
    ("aten.eq.Scalar", compare!(|a, b| a == b)),
    ("aten.ne.Tensor", compare!(|a, b| a != b)),
    ("aten.ne.Scalar", compare!(|a, b| a != b)),
    ("aten.lt.Tensor", compare!(|a, b| a < b)),
    ("aten.lt.Scalar", compare!(|a, b| a < b)),
    ("aten.le.Tensor", compare!(|a, b| a <= b)),
    ("aten.le.Scalar", compare!(|a, b| a <= b)),
    ("aten.gt.Tensor", compare!(|a, b| a > b)),
    ("aten.gt.Scalar", compare!(|a, b| a > b)),
    ("aten.ge.Tensor", compare!(|a, b| a >= b)),
    ("aten.ge.Scalar", compare!(|a, b| a >= b)),
    ("aten.logical_and.default", logical!(|a, b| a && b)),
    ("aten.logical_or.default", logical!(|a, b| a || b)),
    ("aten.logical_xor.default", logical!(|a, b| a != b)),
    ("aten.logical_not.default", |context, arguments| {
        let tensor = arguments.tensor("self")?;
        one(map1::<f64, i64>(
            context,
            Dtype::BOOL,
            tensor,
            #[inline(always)]
            |a| i64::from(a == 0.0),
        )?)
    }),
    ("aten.bitwise_and.Tensor", bitwise!(|a, b| a & b)),
    ("aten.bitwise_and.Scalar", bitwise!(|a, b| a & b)),
    ("aten.bitwise_or.Tensor", bitwise!(|a, b| a | b)),
    ("aten.bitwise_or.Scalar", bitwise!(|a, b| a | b)),
    ("aten.bitwise_xor.Tensor", bitwise!(|a, b| a ^ b)),
    ("aten.bitwise_xor.Scalar", bitwise!(|a, b| a ^ b)),
    (
        "aten.bitwise_left_shift.Tensor",
        bitwise!(|a, b| shifted_left(a, b)),
    ),
    (
        "aten.bitwise_left_shift.Tensor_Scalar",
        bitwise!(|a, b| shifted_left(a, b)),
    ),
    (
        "aten.bitwise_right_shift.Tensor",
        bitwise!(|a, b| shifted_right(a, b)),
    ),
    (
        "aten.bitwise_right_shift.Tensor_Scalar",
        bitwise!(|a, b| shifted_right(a, b)),
    ),
    (
        "aten.__lshift__.Scalar",
        bitwise!(|a, b| shifted_left(a, b)),
    ),
    (
        "aten.__rshift__.Scalar",
        bitwise!(|a, b| shifted_right(a, b)),
    ),
    ("aten.bitwise_not.default", |context, arguments| {
        let tensor = arguments.tensor("self")?;
        let boolean = tensor.dtype() == Dtype::BOOL;
        one(map1::<i64, i64>(
            context,
            tensor.dtype(),
            tensor,
            #[inline(always)]
            |a| {
                if boolean { i64::from(a == 0) } else { !a }
            },
        )?)
    }),
    ("aten.isclose.default", |c, a| {
        let (relative, absolute) = (a.float_or("rtol", 1e-5)?, a.float_or("atol", 1e-8)?);
        let nan = a.bool_or("equal_nan", false)?;
        let (left, right) = (a.tensor("self")?, a.tensor("other")?);
        let shape = broadcast_shapes(left.shape(), right.shape())?;
        one(map2::<f64, i64>(
            c,
            Dtype::BOOL,
            &shape,
            [left, right],
            |a, b| {
                let near = (a - b).abs() <= absolute + relative * b.abs() && a.is_finite();
                i64::from(a == b || near || (nan && a.is_nan() && b.is_nan()))
            },
        )?)
    }),
    ("aten.isnan.default", |context, arguments| {
        holds(context, &arguments, f64::is_nan)
    }),
    ("aten.isinf.default", |context, arguments| {
        holds(context, &arguments, f64::is_infinite)
    }),
    ("aten.isfinite.default", |context, arguments| {
        holds(context, &arguments, f64::is_finite)
    }),
    ("aten.isposinf.default", |context, arguments| {
        holds(context, &arguments, |a| a == f64::INFINITY)
    }),
    ("aten.isneginf.default", |context, arguments| {
        holds(context, &arguments, |a| a == f64::NEG_INFINITY)
    }),
    ("aten.where.self", choose),
    ("aten.where.ScalarOther", choose),
    ("aten.where.ScalarSelf", choose),
    ("aten.where.Scalar", choose),
    ("aten.masked_fill.Scalar", masked_fill),
    ("aten.masked_fill.Tensor", masked_fill),
];

fn shifted_left(value: i64, bits: i64) -> i64 {
    u32::try_from(bits)
        .ok()
        .and_then(|bits| value.checked_shl(bits))
        .unwrap_or(0)
}

fn shifted_right(value: i64, bits: i64) -> i64 {
    value >> bits.clamp(0, 63)
}

fn holds(context: &Context, arguments: &Arguments, holds: fn(f64) -> bool) -> Results {
    one(map1::<f64, i64>(
        context,
        Dtype::BOOL,
        arguments.tensor("self")?,
        #[inline(always)]
        |a| i64::from(holds(a)),
    )?)
}

fn choose(context: &Context, arguments: Arguments) -> Results {
    let (left, right) = (
        operand(context, &arguments, "self")?,
        operand(context, &arguments, "other")?,
    );
    let dtype = result_dtype([arguments.value("self")?, arguments.value("other")?]);
    chosen(
        context,
        dtype,
        [arguments.tensor("condition")?, &left, &right],
    )
}

fn masked_fill(context: &Context, arguments: Arguments) -> Results {
    let (tensor, mask) = (arguments.tensor("self")?, arguments.tensor("mask")?);
    let value = operand(context, &arguments, "value")?;
    chosen(context, tensor.dtype(), [mask, &value, tensor])
}

fn chosen(context: &Context, dtype: Dtype, operands: [&crate::Tensor; 3]) -> Results {
    let [condition, left, right] = operands;
    if !matches!(condition.dtype(), Dtype::BOOL | Dtype::U8) {
        return Err(OperatorError::Dtype {
            expected: "BOOL".into(),
            got: condition.dtype(),
        });
    }
    let shape = broadcast_shapes(
        condition.shape(),
        &broadcast_shapes(left.shape(), right.shape())?,
    )?;
    one(computed!(dtype,
        floating C => map3::<C, C>(context, dtype, &shape, operands, #[inline(always)] |c, a, b| if c != 0.0 { a } else { b })?,
        integer => map3::<C, C>(context, dtype, &shape, operands, #[inline(always)] |c, a, b| if c != 0 { a } else { b })?))
}
