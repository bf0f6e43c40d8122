//! Maxima put back to where they were taken from.

use super::operand::{Results, one, sizes, with_element, wrong_shape};
use super::shape::index;
use crate::{Arguments, Context};
use weightstream::Dtype;

pub(super) const OPERATORS: super::Family = &[
    ("aten.max_unpool2d.default", |c, a| unpool(c, &a, 2)),
    ("aten.max_unpool3d.default", |c, a| unpool(c, &a, 3)),
];

/// Zeros of `output_size` with the elements at the places in their planes that `indices` say.
fn unpool(context: &Context, arguments: &Arguments, dims: usize) -> Results {
    let (tensor, indices) = (arguments.tensor("self")?, arguments.tensor("indices")?);
    let wanted = sizes(arguments, "output_size")?;
    if indices.shape() != tensor.shape() || tensor.rank() < dims || wanted.len() != dims {
        return Err(wrong_shape(
            format!(
                "an index for each of {:?}, and {dims} sizes",
                tensor.shape()
            ),
            indices,
        ));
    }
    let kept = tensor.rank() - dims;
    let mut shape = tensor.shape()[..kept].to_vec();
    shape.extend(&wanted);
    let result = context.empty(tensor.dtype(), &shape)?;
    context.assign(&result, &context.scalar(0i64)?)?;
    let source = context.contiguous(tensor)?;
    let places = context.cast(indices, Dtype::I64)?;
    let inputs: usize = tensor.shape()[kept..].iter().product();
    let outputs: usize = wanted.iter().product();
    if source.count() > 0 {
        with_element!(tensor.dtype(), |T| {
            let (from, places) = (source.elements::<T>()?, places.elements::<i64>()?);
            let mut to = result.elements_mut::<T>()?;
            for (place, (&value, &at)) in from.iter().zip(places.iter()).enumerate() {
                to[place / inputs * outputs + index(at, outputs)?] = value;
            }
            Ok(())
        })?;
    }
    one(result)
}
