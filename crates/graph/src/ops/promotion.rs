use crate::Value;
use weightstream::Dtype;

/// The dtype that torch gives to the result of combining `values`: tensors with dimensions decide before tensors
/// without, and these before Python's numbers, unless the weaker one is of a higher kind (boolean, integer, floating, complex).
/// See torch's documentation of tensor attributes, "type promotion".
pub fn result_dtype<'v>(values: impl IntoIterator<Item = &'v Value>) -> Dtype {
    let (mut dimensioned, mut scalars, mut numbers) = (None, None, None);
    for value in values {
        match value {
            Value::Tensor(tensor) if tensor.rank() > 0 => {
                dimensioned = wider(dimensioned, tensor.dtype());
            }
            Value::Tensor(tensor) => scalars = wider(scalars, tensor.dtype()),
            Value::Bool(_) => numbers = wider(numbers, Dtype::BOOL),
            Value::Int(_) => numbers = wider(numbers, Dtype::I64),
            Value::Float(_) => numbers = wider(numbers, Dtype::F32),
            Value::Complex(_) => numbers = wider(numbers, Dtype::C64),
            _ => {}
        }
    }
    let mut result = dimensioned;
    for weaker in [scalars, numbers].into_iter().flatten() {
        result = match result {
            Some(stronger) if kind(stronger) >= kind(weaker) => Some(stronger),
            _ => Some(weaker),
        };
    }
    result.unwrap_or(Dtype::F32)
}

/// Boolean, integer, floating, complex.
fn kind(dtype: Dtype) -> u8 {
    match dtype {
        Dtype::BOOL => 0,
        Dtype::U8 | Dtype::I8 | Dtype::I16 | Dtype::I32 | Dtype::I64 => 1,
        Dtype::C64 => 3,
        _ => 2,
    }
}

fn wider(first: Option<Dtype>, second: Dtype) -> Option<Dtype> {
    let Some(first) = first else {
        return Some(second);
    };
    let rank = |dtype| match dtype {
        Dtype::BOOL => 0,
        Dtype::U8 => 1,
        Dtype::I8 => 2,
        Dtype::I16 => 3,
        Dtype::I32 => 4,
        Dtype::I64 => 5,
        Dtype::F16 => 6,
        Dtype::BF16 => 7,
        Dtype::F32 => 8,
        Dtype::C64 => 10,
        _ => 9,
    };
    Some(match (first, second) {
        (Dtype::U8, Dtype::I8) | (Dtype::I8, Dtype::U8) => Dtype::I16,
        (Dtype::F16, Dtype::BF16) | (Dtype::BF16, Dtype::F16) => Dtype::F32,
        _ if rank(first) >= rank(second) => first,
        _ => second,
    })
}
