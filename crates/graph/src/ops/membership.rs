//! Which values there are.

use super::operand::{Results, computed, operand, wrong_shape};
use super::result_dtype;
use super::sorting::compare;
use crate::kernels::{self, Compute, Reader};
use crate::memory::filled;
use crate::{Arguments, Context, OperatorError, Tensor, Value};
use std::cmp::Ordering;
use weightstream::Dtype;

pub(super) const OPERATORS: super::Family = &[
    ("aten.isin.Tensor_Tensor", |c, a| {
        isin(c, &a, "elements", "test_elements")
    }),
    ("aten.isin.Tensor_Scalar", |c, a| {
        isin(c, &a, "elements", "test_element")
    }),
    ("aten.isin.Scalar_Tensor", |c, a| {
        isin(c, &a, "element", "test_elements")
    }),
    ("aten._unique.default", |c, a| unique(c, &a, true)),
    ("aten._unique2.default", |c, a| unique(c, &a, true)),
    ("aten.unique_consecutive.default", |c, a| {
        unique(c, &a, false)
    }),
];

/// All elements in order.
fn all<C: Compute>(context: &Context, tensor: &Tensor) -> Result<Vec<C>, OperatorError> {
    let tensor = context.contiguous(tensor)?;
    let mut buffer = filled(C::default(), tensor.count())?;
    if buffer.is_empty() {
        return Ok(buffer);
    }
    let reader = Reader::new(&tensor)?;
    let length = buffer.len();
    Ok(C::read(&reader, 0, 1, &mut buffer)[..length].to_vec())
}

fn isin(
    context: &Context,
    arguments: &Arguments,
    elements: &'static str,
    tests: &'static str,
) -> Results {
    let given = operand(context, arguments, elements)?;
    let among = operand(context, arguments, tests)?;
    let dtype = result_dtype([arguments.value(elements)?, arguments.value(tests)?]);
    let wanted = i64::from(!arguments.bool_or("invert", false)?);
    Ok(vec![
        computed!(dtype,
        floating C => {
            let mut among = all::<C>(context, &among)?;
            among.sort_by(compare);
            kernels::map1::<C, i64>(context, Dtype::BOOL, &given, |a| {
                let found = among.binary_search_by(|b| compare(b, &a)).is_ok();
                if found && !a.is_nan() { wanted } else { 1 - wanted }
            })?
        },
        integer => {
            let mut among = all::<C>(context, &among)?;
            among.sort_unstable();
            kernels::map1::<C, i64>(context, Dtype::BOOL, &given, |a| {
                if among.binary_search(&a).is_ok() { wanted } else { 1 - wanted }
            })?
        })
        .into(),
    ])
}

/// The distinct values, which of them each element is, and how often each occurs.
fn unique(context: &Context, arguments: &Arguments, sorted: bool) -> Results {
    let tensor = arguments.tensor("self")?;
    if arguments.get("dim").is_some() {
        return Err(wrong_shape(
            "all elements, not a dimension, to compare",
            tensor,
        ));
    }
    let dtype = tensor.dtype();
    computed!(dtype,
        floating C => distinct::<C>(context, tensor, sorted),
        integer => distinct::<C>(context, tensor, sorted))
}

fn distinct<C: Compute>(context: &Context, tensor: &Tensor, sorted: bool) -> Results {
    let values = all::<C>(context, tensor)?;
    let mut order: Vec<usize> = (0..values.len()).collect();
    if sorted {
        order.sort_by(|&a, &b| compare(&values[a], &values[b]));
    }
    let (mut found, mut counts) = (Vec::<C>::new(), Vec::<i64>::new());
    let mut inverse = vec![0i64; values.len()];
    for place in order {
        let value = values[place];
        // NaN differs from everything, itself too.
        let is_new = found
            .last()
            .is_none_or(|last| last.partial_cmp(&value) != Some(Ordering::Equal));
        if is_new {
            found.push(value);
            counts.push(0);
        }
        if let Some(count) = counts.last_mut() {
            *count += 1;
        }
        inverse[place] = found.len() as i64 - 1;
    }
    let length = [found.len()];
    Ok(vec![
        Value::from(context.cast(&context.tensor(&found, &length)?, tensor.dtype())?),
        context.tensor(&inverse, tensor.shape())?.into(),
        context.tensor(&counts, &length)?.into(),
    ])
}
