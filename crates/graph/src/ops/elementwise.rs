//! Operators that compute each element of the result from one element of each operand.

use super::result_dtype;
use crate::{Arguments, Context, OperatorError, Tensor, Value, Walk, broadcast_shapes};
use weightstream::Dtype;

pub(super) const OPERATORS: super::Family = &[("aten.add.Tensor", add)];

fn add(context: &Context, arguments: Arguments) -> Result<Vec<Value>, OperatorError> {
    let alpha = arguments.float_or("alpha", 1.0)?;
    let (left, right) = (arguments.value("self")?, arguments.value("other")?);
    let dtype = result_dtype([left, right]);
    let result = match dtype {
        Dtype::I64 => {
            let alpha = alpha as i64;
            let (left, right) = operands(context, left, right, dtype)?;
            binary(context, &left, &right, |left: i64, right: i64| {
                left.wrapping_add(right.wrapping_mul(alpha))
            })?
        }
        _ => {
            let alpha = alpha as f32;
            let (left, right) = operands(context, left, right, Dtype::F32)?;
            binary(context, &left, &right, |left: f32, right: f32| {
                left + alpha * right
            })?
        }
    };
    Ok(vec![context.cast(&result, dtype)?.into()])
}

fn operands(
    context: &Context,
    left: &Value,
    right: &Value,
    dtype: Dtype,
) -> Result<(Tensor, Tensor), OperatorError> {
    let tensor = |value: &Value| match value {
        Value::Tensor(tensor) if tensor.dtype() == dtype => Ok(tensor.clone()),
        Value::Tensor(tensor) => context.cast(tensor, dtype),
        Value::Int(value) => context.cast(&context.scalar(*value)?, dtype),
        Value::Float(value) => context.cast(&context.scalar(*value)?, dtype),
        other => Err(OperatorError::Unsupported(format!(
            "expected a tensor or a number, came {}",
            other.kind()
        ))),
    };
    Ok((tensor(left)?, tensor(right)?))
}

/// `compute` of each pair of elements, broadcast.
fn binary<T: crate::Element>(
    context: &Context,
    left: &Tensor,
    right: &Tensor,
    compute: impl Fn(T, T) -> T,
) -> Result<Tensor, OperatorError> {
    let shape = broadcast_shapes(left.shape(), right.shape())?;
    let (left, right) = (left.expand(&shape)?, right.expand(&shape)?);
    let result = context.empty(T::DTYPE, &shape)?;
    if result.count() == 0 {
        return Ok(result);
    }
    let walk = Walk::new(&shape, [result.strides(), left.strides(), right.strides()]);
    let (left, right) = (left.strided::<T>()?, right.strided::<T>()?);
    let mut target = result.elements_mut::<T>()?;
    walk.for_each(0..walk.runs(), |[to, a, b]| {
        for (index, target) in target[to..to + walk.length].iter_mut().enumerate() {
            *target = compute(
                left[a + index * walk.steps[1]],
                right[b + index * walk.steps[2]],
            );
        }
    });
    drop(target);
    Ok(result)
}
