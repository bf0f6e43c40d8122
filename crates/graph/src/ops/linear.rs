//! Matrix products.

use crate::{Arguments, Context, OperatorError, Tensor, Value};
use weightstream::Dtype;

pub(super) const OPERATORS: super::Family = &[("aten.linear.default", linear)];

/// y = x Wᵀ + b, for x of shape (…, in), W of shape (out, in), b of shape (out).
fn linear(context: &Context, arguments: Arguments) -> Result<Vec<Value>, OperatorError> {
    let (input, weight) = (arguments.tensor("input")?, arguments.tensor("weight")?);
    let [outputs, inputs] = *weight.shape() else {
        return Err(shape("a weight of two dimensions", weight));
    };
    if input.shape().last() != Some(&inputs) {
        return Err(shape(&format!("an input of (…, {inputs})"), input));
    }
    let dtype = input.dtype();
    let rows = input.count() / inputs.max(1);
    let mut result_shape = input.shape().to_vec();
    if let Some(last) = result_shape.last_mut() {
        *last = outputs;
    }
    let result = context.empty(Dtype::F32, &result_shape)?;
    if let Some(bias) = arguments.optional_tensor("bias")? {
        context.assign(&result, bias)?;
    } else {
        result.elements_mut::<f32>()?.fill(0.0);
    }
    let input = context.cast(input, Dtype::F32)?;
    let weight = context.cast(weight, Dtype::F32)?;
    {
        let (input, weight) = (input.elements::<f32>()?, weight.elements::<f32>()?);
        let mut target = result.elements_mut::<f32>()?;
        // SAFETY: (rows, in), (in, out) and (rows, out) lie within the three slices.
        unsafe {
            gemm::gemm(
                rows,
                outputs,
                inputs,
                target.as_mut_ptr(),
                1,
                outputs as isize,
                true,
                input.as_ptr(),
                1,
                inputs as isize,
                weight.as_ptr(),
                inputs as isize,
                1,
                1.0,
                1.0,
                false,
                false,
                false,
                gemm::Parallelism::Rayon(context.threads()),
            );
        }
    }
    Ok(vec![context.cast(&result, dtype)?.into()])
}

fn shape(expected: &str, came: &Tensor) -> OperatorError {
    OperatorError::Shape {
        expected: expected.into(),
        came: came.shape().to_vec(),
    }
}
