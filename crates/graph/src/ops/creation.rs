//! Tensors out of nothing.

use super::operand::{Results, one, operand, size, sizes, with_element};
use crate::memory::{listed, reserved};
use crate::{Arguments, Context, OperatorError, Tensor, Value};
use weightstream::Dtype;

pub(super) const OPERATORS: super::Family = &[
    ("aten.full.default", |c, a| {
        let dtype = given(&a, super::result_dtype([a.value("fill_value")?]))?;
        filled(c, &a, &sizes(&a, "size")?, "fill_value", dtype)
    }),
    ("aten.full_like.default", |c, a| {
        let like = a.tensor("self")?;
        filled(c, &a, like.shape(), "fill_value", given(&a, like.dtype())?)
    }),
    ("aten.new_full.default", |c, a| {
        filled(
            c,
            &a,
            &sizes(&a, "size")?,
            "fill_value",
            given(&a, a.tensor("self")?.dtype())?,
        )
    }),
    ("aten.scalar_tensor.default", |c, a| {
        filled(c, &a, &[], "s", given(&a, Dtype::F32)?)
    }),
    ("aten.fill.Scalar", |c, a| {
        filled(
            c,
            &a,
            a.tensor("self")?.shape(),
            "value",
            a.tensor("self")?.dtype(),
        )
    }),
    ("aten.fill.Tensor", |c, a| {
        filled(
            c,
            &a,
            a.tensor("self")?.shape(),
            "value",
            a.tensor("self")?.dtype(),
        )
    }),
    ("aten.zeros.default", |c, a| {
        constant(c, &sizes(&a, "size")?, given(&a, Dtype::F32)?, 0)
    }),
    ("aten.ones.default", |c, a| {
        constant(c, &sizes(&a, "size")?, given(&a, Dtype::F32)?, 1)
    }),
    ("aten.empty.memory_format", |c, a| {
        constant(c, &sizes(&a, "size")?, given(&a, Dtype::F32)?, 0)
    }),
    ("aten.empty_permuted.default", |c, a| {
        constant(c, &sizes(&a, "size")?, given(&a, Dtype::F32)?, 0)
    }),
    ("aten.empty_strided.default", |c, a| {
        constant(c, &sizes(&a, "size")?, given(&a, Dtype::F32)?, 0)
    }),
    ("aten.zeros_like.default", |c, a| like(c, &a, 0)),
    ("aten.ones_like.default", |c, a| like(c, &a, 1)),
    ("aten.empty_like.default", |c, a| like(c, &a, 0)),
    ("aten.zero.default", |c, a| like(c, &a, 0)),
    ("aten.new_zeros.default", |c, a| new(c, &a, 0)),
    ("aten.new_ones.default", |c, a| new(c, &a, 1)),
    ("aten.new_empty.default", |c, a| new(c, &a, 0)),
    ("aten.eye.default", eye),
    ("aten.eye.m", eye),
    ("aten.arange.default", arange),
    ("aten.arange.start", arange),
    ("aten.arange.start_step", arange),
    ("aten.linspace.default", linspace),
    ("aten.tril.default", |c, a| triangle(c, &a, true)),
    ("aten.triu.default", |c, a| triangle(c, &a, false)),
    ("aten.tril_indices.default", |c, a| {
        triangle_indices(c, &a, true)
    }),
    ("aten.triu_indices.default", |c, a| {
        triangle_indices(c, &a, false)
    }),
    ("aten.meshgrid.indexing", meshgrid),
    ("aten.meshgrid.default", meshgrid),
];

fn given(arguments: &Arguments, default: Dtype) -> Result<Dtype, OperatorError> {
    Ok(arguments.optional_dtype("dtype")?.unwrap_or(default))
}

fn filled(
    context: &Context,
    arguments: &Arguments,
    shape: &[usize],
    name: &'static str,
    dtype: Dtype,
) -> Results {
    let result = context.empty(dtype, shape)?;
    context.assign(&result, &operand(context, arguments, name)?)?;
    one(result)
}

fn constant(context: &Context, shape: &[usize], dtype: Dtype, value: i64) -> Results {
    let result = context.empty(dtype, shape)?;
    context.assign(&result, &context.scalar(value)?)?;
    one(result)
}

fn like(context: &Context, arguments: &Arguments, value: i64) -> Results {
    let like = arguments.tensor("self")?;
    constant(
        context,
        like.shape(),
        given(arguments, like.dtype())?,
        value,
    )
}

fn new(context: &Context, arguments: &Arguments, value: i64) -> Results {
    let dtype = given(arguments, arguments.tensor("self")?.dtype())?;
    constant(context, &sizes(arguments, "size")?, dtype, value)
}

fn eye(context: &Context, arguments: Arguments) -> Results {
    let rows = size("n", arguments.int("n")?)?;
    let columns = size("m", arguments.int_or("m", rows as i64)?)?;
    let ones = context.empty(Dtype::U8, &[rows, columns])?;
    for (place, one) in ones.elements_mut::<u8>()?.iter_mut().enumerate() {
        *one = u8::from(place / columns == place % columns);
    }
    one(context.cast(&ones, given(&arguments, Dtype::F32)?)?)
}

fn arange(context: &Context, arguments: Arguments) -> Results {
    let whole = ["start", "end", "step"]
        .iter()
        .all(|name| !matches!(arguments.get(name), Some(Value::Float(_))));
    let dtype = given(&arguments, if whole { Dtype::I64 } else { Dtype::F32 })?;
    let wrong = |got: f64| OperatorError::Argument {
        argument: "step",
        expected: "a step that leads from the start to the end",
        got: got.to_string(),
    };
    if whole {
        let (start, end) = (arguments.int_or("start", 0)?, arguments.int("end")?);
        let step = arguments.int_or("step", 1)?;
        if step == 0 || (start < end) != (step > 0) && start != end {
            return Err(wrong(step as f64));
        }
        let count = start.abs_diff(end).div_ceil(step.unsigned_abs()) as usize;
        let values = (0..count as i64).map(|index| start + index * step);
        let values = listed(count, values)?;
        return one(context.cast(&context.tensor(&values, &[count])?, dtype)?);
    }
    let (start, end) = (
        arguments.float_or("start", 0.0)?,
        arguments.float_or("end", 0.0)?,
    );
    let step = arguments.float_or("step", 1.0)?;
    let count = ((end - start) / step).ceil();
    if !(0.0..1e12).contains(&count) {
        return Err(wrong(step));
    }
    let values = (0..count as usize).map(|index| start + index as f64 * step);
    let values = listed(count as usize, values)?;
    one(context.cast(&context.tensor(&values, &[values.len()])?, dtype)?)
}

fn linspace(context: &Context, arguments: Arguments) -> Results {
    let (start, end) = (
        arguments.float_or("start", 0.0)?,
        arguments.float_or("end", 0.0)?,
    );
    let steps = size("steps", arguments.int("steps")?)?;
    let step = (end - start) / (steps.max(2) - 1) as f64;
    // From both ends, as torch does, so that the last one is exact.
    let values = (0..steps).map(|index| {
        if index < steps / 2 || steps == 1 {
            start + step * index as f64
        } else {
            end - step * (steps - 1 - index) as f64
        }
    });
    let values = listed(steps, values)?;
    one(context.cast(
        &context.tensor(&values, &[steps])?,
        given(&arguments, Dtype::F32)?,
    )?)
}

fn triangle(context: &Context, arguments: &Arguments, lower: bool) -> Results {
    let tensor = arguments.tensor("self")?;
    let [.., rows, columns] = *tensor.shape() else {
        return Err(super::operand::wrong_shape("rows and columns", tensor));
    };
    let diagonal = arguments.int_or("diagonal", 0)?;
    let result = context.copied(tensor)?;
    if result.count() == 0 {
        return one(result);
    }
    with_element!(result.dtype(), |T| {
        let mut elements = result.elements_mut::<T>()?;
        for (line, row) in elements.chunks_mut(columns).enumerate() {
            let edge = (line % rows) as i64 + diagonal;
            let zeros = if lower {
                edge + 1..columns as i64
            } else {
                0..edge
            };
            let zeros = zeros.start.clamp(0, columns as i64) as usize
                ..zeros.end.clamp(0, columns as i64) as usize;
            if zeros.start < zeros.end {
                row[zeros].fill(T::default());
            }
        }
        Ok(())
    })?;
    one(result)
}

fn triangle_indices(context: &Context, arguments: &Arguments, lower: bool) -> Results {
    let (rows, columns) = (arguments.int("row")?, arguments.int("col")?);
    let offset = arguments.int_or("offset", 0)?;
    let most = size("row", rows)?.checked_mul(size("col", columns)?);
    let mut pairs: Vec<(i64, i64)> = reserved(most.unwrap_or(usize::MAX))?;
    pairs.extend(
        (0..rows)
            .flat_map(|row| (0..columns).map(move |column| (row, column)))
            .filter(|(row, column)| {
                if lower {
                    column - row <= offset
                } else {
                    column - row >= offset
                }
            }),
    );
    let values = pairs.iter().map(|pair| pair.0);
    let values = values.chain(pairs.iter().map(|pair| pair.1));
    let values = listed(2 * pairs.len(), values)?;
    one(context.tensor(&values, &[2, pairs.len()])?)
}

fn meshgrid(_: &Context, arguments: Arguments) -> Results {
    let tensors = arguments.tensors("tensors")?;
    let swapped = arguments.text_or("indexing", "ij")? == "xy" && tensors.len() > 1;
    let mut places: Vec<usize> = (0..tensors.len()).collect();
    if swapped {
        places.swap(0, 1);
    }
    let mut shape = vec![1; tensors.len()];
    for (tensor, &place) in tensors.iter().zip(&places) {
        shape[place] = tensor.count();
    }
    let mut grids: Vec<Tensor> = Vec::new();
    for (tensor, &place) in tensors.iter().zip(&places) {
        let mut grid = if tensor.rank() == 0 {
            tensor.unsqueeze(0)?
        } else {
            (*tensor).clone()
        };
        for _ in 0..place {
            grid = grid.unsqueeze(0)?;
        }
        while grid.rank() < shape.len() {
            grid = grid.unsqueeze(grid.rank())?;
        }
        grids.push(grid.expand(&shape)?);
    }
    Ok(vec![grids.into()])
}
