//! Arithmetic of sizes: what a graph with dynamic shapes computes beside its tensors.

use crate::{Arguments, Context, OperatorError, Value};

pub(super) const OPERATORS: super::Family = &[
    ("_operator.add", |_, arguments| {
        arithmetic(&arguments, i64::checked_add, |a, b| a + b)
    }),
    ("_operator.sub", |_, arguments| {
        arithmetic(&arguments, i64::checked_sub, |a, b| a - b)
    }),
    ("_operator.mul", |_, arguments| {
        arithmetic(&arguments, i64::checked_mul, |a, b| a * b)
    }),
    ("_operator.floordiv", |_, arguments| {
        arithmetic(&arguments, floor_divide, |a, b| (a / b).floor())
    }),
    ("_operator.mod", |_, arguments| {
        arithmetic(&arguments, floor_remainder, |a, b| a - b * (a / b).floor())
    }),
    ("_operator.truediv", |_, arguments| {
        let (a, b) = numbers(&arguments)?;
        Ok(vec![(a / b).into()])
    }),
    ("_operator.pow", |_, arguments| {
        arithmetic(&arguments, power, f64::powf)
    }),
    ("_operator.neg", |_, arguments| {
        Ok(vec![match first(&arguments)? {
            Value::Int(value) => value.wrapping_neg().into(),
            value => (-number(value)?).into(),
        }])
    }),
    ("_operator.pos", |_, arguments| {
        Ok(vec![first(&arguments)?.clone()])
    }),
    ("_operator.lshift", |_, arguments| {
        arithmetic(&arguments, shift_left, |_, _| f64::NAN)
    }),
    ("_operator.rshift", |_, arguments| {
        arithmetic(&arguments, shift_right, |_, _| f64::NAN)
    }),
    ("_operator.eq", |_, arguments| {
        compare(&arguments, |a, b| a == b)
    }),
    ("_operator.ne", |_, arguments| {
        compare(&arguments, |a, b| a != b)
    }),
    ("_operator.lt", |_, arguments| {
        compare(&arguments, |a, b| a < b)
    }),
    ("_operator.le", |_, arguments| {
        compare(&arguments, |a, b| a <= b)
    }),
    ("_operator.gt", |_, arguments| {
        compare(&arguments, |a, b| a > b)
    }),
    ("_operator.ge", |_, arguments| {
        compare(&arguments, |a, b| a >= b)
    }),
    ("_operator.and_", |_, arguments| {
        compare(&arguments, |a, b| a != 0.0 && b != 0.0)
    }),
    ("_operator.or_", |_, arguments| {
        compare(&arguments, |a, b| a != 0.0 || b != 0.0)
    }),
    ("_operator.not_", |_, arguments| {
        Ok(vec![(number(first(&arguments)?)? == 0.0).into()])
    }),
    ("torch.sym_max", |_, arguments| {
        arithmetic(&arguments, |a, b| Some(a.max(b)), f64::max)
    }),
    ("torch.sym_min", |_, arguments| {
        arithmetic(&arguments, |a, b| Some(a.min(b)), f64::min)
    }),
    ("torch.sym_not", |_, arguments| {
        Ok(vec![(number(first(&arguments)?)? == 0.0).into()])
    }),
    ("torch.sym_float", |_, arguments| {
        Ok(vec![number(first(&arguments)?)?.into()])
    }),
    ("torch.sym_int", |_, arguments| {
        rounded(&arguments, f64::trunc)
    }),
    ("torch.sym_sqrt", |_, arguments| {
        Ok(vec![number(first(&arguments)?)?.sqrt().into()])
    }),
    ("torch.sym_ite", |_, arguments| {
        let holds = number(first(&arguments)?)? != 0.0;
        Ok(vec![
            operand(&arguments, if holds { 1 } else { 2 })?.clone(),
        ])
    }),
    ("math.trunc", |_, arguments| rounded(&arguments, f64::trunc)),
    ("math.floor", |_, arguments| rounded(&arguments, f64::floor)),
    ("math.ceil", |_, arguments| rounded(&arguments, f64::ceil)),
    ("aten.sym_size.int", size),
    ("aten.sym_numel.default", |_, arguments| {
        Ok(vec![(arguments.tensor("self")?.count() as i64).into()])
    }),
    ("aten.sym_storage_offset.default", |_, arguments| {
        Ok(vec![(arguments.tensor("self")?.offset() as i64).into()])
    }),
    ("aten.sym_stride.int", |_, arguments| {
        let tensor = arguments.tensor("self")?;
        let dim = tensor.dimension(arguments.int("dim")?)?;
        Ok(vec![(tensor.strides()[dim] as i64).into()])
    }),
    // What export found out about sizes is checked against the inputs when a program starts.
    ("aten.sym_constrain_range_for_size.default", nothing),
    ("aten.sym_constrain_range.default", nothing),
    ("aten._assert_scalar.default", assert_scalar),
    ("aten._assert_async.default", assert_scalar),
    ("aten._assert_async.msg", assert_scalar),
    ("aten._assert_tensor_metadata.default", nothing),
];

fn size(_: &Context, arguments: Arguments) -> Result<Vec<Value>, OperatorError> {
    let tensor = arguments.tensor("self")?;
    let dim = tensor.dimension(arguments.int("dim")?)?;
    Ok(vec![(tensor.shape()[dim] as i64).into()])
}

fn nothing(_: &Context, _: Arguments) -> Result<Vec<Value>, OperatorError> {
    Ok(Vec::new())
}

fn assert_scalar(_: &Context, arguments: Arguments) -> Result<Vec<Value>, OperatorError> {
    let message = arguments.text_or("assert_msg", "an assertion of the model")?;
    if number(first(&arguments)?)? == 0.0 {
        return Err(OperatorError::Unsupported(format!(
            "the model's own check failed: {message}"
        )));
    }
    Ok(Vec::new())
}

/// Operands by position: exported arithmetic names them after Python's functions (`a`, `b`, or `x`).
fn operand(arguments: &Arguments, position: usize) -> Result<&Value, OperatorError> {
    arguments
        .iter()
        .nth(position)
        .map(|(_, value)| value)
        .ok_or_else(|| OperatorError::Unsupported(format!("operand {position} is missing")))
}

fn first(arguments: &Arguments) -> Result<&Value, OperatorError> {
    operand(arguments, 0)
}

fn number(value: &Value) -> Result<f64, OperatorError> {
    match value {
        Value::Tensor(tensor) => tensor.item(),
        Value::Int(value) => Ok(*value as f64),
        Value::Float(value) => Ok(*value),
        Value::Bool(value) => Ok(f64::from(u8::from(*value))),
        other => Err(OperatorError::Unsupported(format!(
            "expected a number, got {}",
            other.kind()
        ))),
    }
}

fn numbers(arguments: &Arguments) -> Result<(f64, f64), OperatorError> {
    Ok((number(first(arguments)?)?, number(operand(arguments, 1)?)?))
}

fn arithmetic(
    arguments: &Arguments,
    integers: fn(i64, i64) -> Option<i64>,
    floats: fn(f64, f64) -> f64,
) -> Result<Vec<Value>, OperatorError> {
    if let (Value::Int(a), Value::Int(b)) = (first(arguments)?, operand(arguments, 1)?) {
        let result = integers(*a, *b).ok_or_else(|| {
            OperatorError::Unsupported(format!("the size computed from {a} and {b} is none"))
        })?;
        return Ok(vec![result.into()]);
    }
    let (a, b) = numbers(arguments)?;
    Ok(vec![floats(a, b).into()])
}

fn compare(
    arguments: &Arguments,
    holds: fn(f64, f64) -> bool,
) -> Result<Vec<Value>, OperatorError> {
    let (a, b) = numbers(arguments)?;
    Ok(vec![holds(a, b).into()])
}

fn rounded(arguments: &Arguments, round: fn(f64) -> f64) -> Result<Vec<Value>, OperatorError> {
    Ok(vec![match first(arguments)? {
        // A float64 would round a large one.
        Value::Int(value) => Value::Int(*value),
        value => Value::Int(round(number(value)?) as i64),
    }])
}

/// Python's `//`, which rounds down.
fn floor_divide(a: i64, b: i64) -> Option<i64> {
    let quotient = a.checked_div(b)?;
    Some(if a % b != 0 && (a < 0) != (b < 0) {
        quotient - 1
    } else {
        quotient
    })
}

/// Python's `%`, which has the sign of the divisor.
fn floor_remainder(a: i64, b: i64) -> Option<i64> {
    a.checked_sub(b.checked_mul(floor_divide(a, b)?)?)
}

fn shift_left(a: i64, b: i64) -> Option<i64> {
    a.checked_mul(1_i64.checked_shl(u32::try_from(b).ok()?)?)
}

fn shift_right(a: i64, b: i64) -> Option<i64> {
    a.checked_shr(u32::try_from(b).ok()?)
}

fn power(a: i64, b: i64) -> Option<i64> {
    a.checked_pow(u32::try_from(b).ok()?)
}
