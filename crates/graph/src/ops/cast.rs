//! Other dtypes and copies of tensors.

use super::operand::{Results, one};
use crate::{Arguments, Context, OperatorError, Tensor, Value};
use weightstream::Dtype;

pub(super) const OPERATORS: super::Family = &[
    ("aten.to.dtype", to),
    ("aten.to.device", to),
    ("aten.to.dtype_layout", to),
    ("aten.to.other", |c, a| {
        converted(c, &a, a.tensor("other")?.dtype())
    }),
    ("aten._to_copy.default", to),
    ("aten.type_as.default", |c, a| {
        converted(c, &a, a.tensor("other")?.dtype())
    }),
    ("aten._cast_Float.default", |c, a| {
        converted(c, &a, Dtype::F32)
    }),
    ("aten.float_power.Tensor_Scalar", |c, a| {
        let base = c.cast(a.tensor("self")?, Dtype::F64)?;
        let exponent = a.value("exponent")?.clone();
        super::find("aten.pow.Tensor_Scalar")
            .ok_or_else(|| OperatorError::Unsupported("aten.pow.Tensor_Scalar".into()))?
            .call(
                c,
                Arguments::new([("self", base.into()), ("exponent", exponent)]),
            )
    }),
    ("aten.clone.default", clone),
    ("aten.lift_fresh_copy.default", clone),
    ("aten.detach_copy.default", clone),
    ("aten.contiguous.default", |c, a| {
        one(c.contiguous(a.tensor("self")?)?)
    }),
    ("aten.copy.default", |c, a| {
        let to = a.tensor("self")?;
        one(c.cast(&a.tensor("src")?.expand(to.shape())?, to.dtype())?)
    }),
    ("aten.copy_.default", |c, a| {
        let to = a.tensor("self")?;
        c.assign(to, a.tensor("src")?)?;
        one(to.clone())
    }),
    ("aten.item.default", item),
    ("aten._local_scalar_dense.default", item),
    ("aten.is_nonzero.default", |_, a| {
        Ok(vec![(a.tensor("self")?.item()? != 0.0).into()])
    }),
];

fn to(context: &Context, arguments: Arguments) -> Results {
    let dtype = arguments
        .optional_dtype("dtype")?
        .unwrap_or(arguments.tensor("self")?.dtype());
    converted(context, &arguments, dtype)
}

fn converted(context: &Context, arguments: &Arguments, dtype: Dtype) -> Results {
    let tensor = arguments.tensor("self")?;
    // Without a need to, not even a strided one is copied.
    if tensor.dtype() == dtype && !arguments.bool_or("copy", false)? {
        return one(tensor.clone());
    }
    one(context.cast(tensor, dtype)?)
}

fn clone(context: &Context, arguments: Arguments) -> Results {
    one(context.copied(arguments.tensor("self")?)?)
}

fn item(_: &Context, arguments: Arguments) -> Results {
    let tensor: &Tensor = arguments.tensor("self")?;
    let value = tensor.item()?;
    Ok(vec![match tensor.dtype() {
        Dtype::BOOL => (value != 0.0).into(),
        // Integers are read as such: a float64 would round them.
        Dtype::I64 => Value::Int(
            tensor
                .strided::<i64>()?
                .first()
                .copied()
                .unwrap_or_default(),
        ),
        dtype if super::operand::is_floating(dtype) => value.into(),
        _ => Value::Int(value as i64),
    }])
}
