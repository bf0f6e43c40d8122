//! What operators share when they take numbers where tensors are expected, and give one tensor.

use crate::{Arguments, Context, OperatorError, Tensor, Value};
use weightstream::Dtype;

/// What an operator gives.
pub type Results = Result<Vec<Value>, OperatorError>;

/// A tensor, or a number as a tensor without dimensions.
pub fn operand(
    context: &Context,
    arguments: &Arguments,
    name: &'static str,
) -> Result<Tensor, OperatorError> {
    as_tensor(context, name, arguments.value(name)?)
}

/// `value` as a tensor; a number becomes one without dimensions.
pub fn as_tensor(
    context: &Context,
    name: &'static str,
    value: &Value,
) -> Result<Tensor, OperatorError> {
    match value {
        Value::Tensor(tensor) => Ok(tensor.clone()),
        Value::Int(value) => context.scalar(*value),
        Value::Float(value) => context.scalar(*value),
        Value::Bool(value) => context.scalar(u8::from(*value)),
        Value::Complex(value) => context.scalar(value.map(|part| part as f32)),
        other => Err(OperatorError::Argument {
            argument: name,
            expected: "a tensor or a number",
            got: other.kind(),
        }),
    }
}

/// One tensor as results.
pub fn one(tensor: Tensor) -> Results {
    Ok(vec![tensor.into()])
}

/// The dtype itself where it is floating, else torch's default one.
pub fn floating(dtype: Dtype) -> Dtype {
    if is_floating(dtype) {
        dtype
    } else {
        Dtype::F32
    }
}

/// Whether elements may have fractions.
pub fn is_floating(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F64 | Dtype::F32 | Dtype::BF16 | Dtype::F16)
}

/// A shape that can't be computed with.
pub fn wrong_shape(expected: impl Into<String>, got: &Tensor) -> OperatorError {
    OperatorError::Shape {
        expected: expected.into(),
        got: got.shape().to_vec(),
    }
}

/// A dimension's size or a count that must not be negative.
pub fn size(name: &'static str, value: i64) -> Result<usize, OperatorError> {
    usize::try_from(value).map_err(|_| OperatorError::Argument {
        argument: name,
        expected: "no negative number",
        got: value.to_string(),
    })
}

/// A list of sizes.
pub fn sizes(arguments: &Arguments, name: &'static str) -> Result<Vec<usize>, OperatorError> {
    arguments
        .ints(name)?
        .into_iter()
        .map(|value| size(name, value))
        .collect()
}

/// The dimensions that `name` lists, sorted; all of them where it is empty or left out.
pub fn dimensions(
    arguments: &Arguments,
    name: &'static str,
    tensor: &Tensor,
) -> Result<Vec<usize>, OperatorError> {
    let mut dims = arguments
        .ints_or(name, &[])?
        .into_iter()
        .map(|dim| tensor.dimension(dim))
        .collect::<Result<Vec<_>, _>>()?;
    if dims.is_empty() {
        dims = (0..tensor.rank()).collect();
    }
    dims.sort_unstable();
    dims.dedup();
    if tensor.rank() == 0 {
        dims.clear();
    }
    Ok(dims)
}

/// `f32`, `f64` or `i64` code for the result's dtype: the expressions are written once and compiled for each type.
macro_rules! computed {
    ($dtype:expr, floating $type:ident => $floating:expr, integer => $integer:expr) => {
        match $crate::kernels::compute_dtype($dtype) {
            weightstream::Dtype::F64 => {
                #[allow(dead_code)]
                type $type = f64;
                $floating
            }
            weightstream::Dtype::I64 => {
                #[allow(dead_code)]
                type $type = i64;
                $integer
            }
            _ => {
                #[allow(dead_code)]
                type $type = f32;
                $floating
            }
        }
    };
}
pub(super) use computed;

/// Code for the element type of a floating-point dtype that is computed in float32.
macro_rules! with_real {
    ($dtype:expr, |$type:ident| $body:expr) => {
        match $dtype {
            weightstream::Dtype::F32 => {
                type $type = f32;
                $body
            }
            weightstream::Dtype::BF16 => {
                type $type = half::bf16;
                $body
            }
            weightstream::Dtype::F16 => {
                type $type = half::f16;
                $body
            }
            got => Err($crate::OperatorError::Dtype {
                expected: "F32, BF16 or F16".into(),
                got,
            }),
        }
    };
}
pub(super) use with_real;

/// Code for the element type of any dtype, for operators that move elements and don't look at them.
macro_rules! with_element {
    ($dtype:expr, |$type:ident| $body:expr) => {
        match $dtype {
            weightstream::Dtype::F64 => {
                type $type = f64;
                $body
            }
            weightstream::Dtype::F32 => {
                type $type = f32;
                $body
            }
            weightstream::Dtype::BF16 => {
                type $type = half::bf16;
                $body
            }
            weightstream::Dtype::F16 => {
                type $type = half::f16;
                $body
            }
            weightstream::Dtype::I64 => {
                type $type = i64;
                $body
            }
            weightstream::Dtype::I32 => {
                type $type = i32;
                $body
            }
            weightstream::Dtype::I16 => {
                type $type = i16;
                $body
            }
            weightstream::Dtype::I8 => {
                type $type = i8;
                $body
            }
            weightstream::Dtype::U8 | weightstream::Dtype::BOOL => {
                type $type = u8;
                $body
            }
            weightstream::Dtype::C64 => {
                type $type = [f32; 2];
                $body
            }
            got => Err($crate::OperatorError::Dtype {
                expected: "numbers".into(),
                got,
            }),
        }
    };
}
pub(super) use with_element;
