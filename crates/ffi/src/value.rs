//! What a program takes and gives, as the tensors that C sees: a number is a tensor of rank 0, and what is neither is
//! NULL.

use crate::tensor::context;
use crate::{Error, Tensor};
use weightstream::Dtype;
use weightstream_graph::{Context, InputKind, Value};

/// The value of an input of this kind.
pub(crate) fn taken(tensor: Option<&Tensor>, kind: &InputKind) -> Result<Value, Error> {
    let Some(Tensor(tensor)) = tensor else {
        return Ok(Value::None);
    };
    if *kind != InputKind::Number || tensor.rank() != 0 {
        return Ok(tensor.clone().into());
    }
    Ok(match tensor.dtype() {
        Dtype::BOOL => (tensor.item()? != 0.0).into(),
        Dtype::F16 | Dtype::BF16 | Dtype::F32 | Dtype::F64 => tensor.item()?.into(),
        // Through the widest integer, as a float has fewer digits.
        _ => context()
            .cast(tensor, Dtype::I64)?
            .elements::<i64>()?
            .first()
            .copied()
            .into(),
    })
}

/// The tensor of an output.
pub(crate) fn given(value: Value, program: &Context) -> Result<Option<Tensor>, Error> {
    let tensor = match value {
        Value::Tensor(tensor) => program.contiguous(&tensor)?,
        Value::Int(value) => context().scalar(value)?,
        Value::Float(value) => context().scalar(value)?,
        Value::Bool(value) => context().tensor_of_bytes(Dtype::BOOL, &[u8::from(value)], &[])?,
        _ => return Ok(None),
    };
    Ok(Some(Tensor(tensor)))
}
