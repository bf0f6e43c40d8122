//! Random numbers, drawn from the program's generator in the order in which torch draws them.

use super::operand::{Results, one, size, sizes};
use crate::generator::Generator;
use crate::{Arguments, Context, OperatorError, Tensor};
use weightstream::Dtype;

pub(super) const OPERATORS: super::Family = &[
    ("aten.rand.default", |c, a| {
        uniform(c, &sizes(&a, "size")?, given(&a, Dtype::F32)?, 0.0, 1.0)
    }),
    ("aten.rand_like.default", |c, a| {
        let like = a.tensor("self")?;
        uniform(c, like.shape(), given(&a, like.dtype())?, 0.0, 1.0)
    }),
    ("aten.uniform.default", |c, a| {
        let like = a.tensor("self")?;
        let (from, to) = (a.float_or("from", 0.0)?, a.float_or("to", 1.0)?);
        uniform(c, like.shape(), like.dtype(), from, to)
    }),
    ("aten.randn.default", |c, a| {
        normal(c, &sizes(&a, "size")?, given(&a, Dtype::F32)?, 0.0, 1.0)
    }),
    ("aten.randn_like.default", |c, a| {
        let like = a.tensor("self")?;
        normal(c, like.shape(), given(&a, like.dtype())?, 0.0, 1.0)
    }),
    ("aten.normal.float_float", |c, a| {
        let (mean, deviation) = (a.float_or("mean", 0.0)?, a.float_or("std", 1.0)?);
        normal(
            c,
            &sizes(&a, "size")?,
            given(&a, Dtype::F32)?,
            mean,
            deviation,
        )
    }),
    ("aten.normal_functional.default", |c, a| {
        let like = a.tensor("self")?;
        let (mean, deviation) = (a.float_or("mean", 0.0)?, a.float_or("std", 1.0)?);
        normal(c, like.shape(), like.dtype(), mean, deviation)
    }),
    ("aten.normal_.default", |c, a| {
        let target = a.tensor("self")?;
        let (mean, deviation) = (a.float_or("mean", 0.0)?, a.float_or("std", 1.0)?);
        let drawn = normal(c, target.shape(), target.dtype(), mean, deviation)?;
        if let Some(crate::Value::Tensor(drawn)) = drawn.first() {
            c.assign(target, drawn)?;
        }
        one(target.clone())
    }),
    ("aten.randint.default", |c, a| {
        integers(
            c,
            &sizes(&a, "size")?,
            given(&a, Dtype::I64)?,
            0,
            a.int("high")?,
        )
    }),
    ("aten.randint.low", |c, a| {
        let (low, high) = (a.int("low")?, a.int("high")?);
        integers(c, &sizes(&a, "size")?, given(&a, Dtype::I64)?, low, high)
    }),
    ("aten.randint_like.default", |c, a| {
        let like = a.tensor("self")?;
        integers(c, like.shape(), given(&a, like.dtype())?, 0, a.int("high")?)
    }),
    ("aten.randint_like.low_dtype", |c, a| {
        let like = a.tensor("self")?;
        let (low, high) = (a.int("low")?, a.int("high")?);
        integers(c, like.shape(), given(&a, like.dtype())?, low, high)
    }),
    ("aten.randperm.default", permutation),
    ("aten.bernoulli.default", |c, a| {
        let chances = a.tensor("self")?;
        let digits = digits(chances.dtype())?;
        let wide = c.cast(chances, Dtype::F64)?;
        let chances = wide.elements::<f64>()?;
        let drawn: Vec<u8> = c.draw(|generator| {
            chances
                .iter()
                .map(|&chance| u8::from(generator.uniform(digits) < chance))
                .collect()
        });
        let drawn = c.tensor(&drawn, wide.shape())?;
        one(c.cast(&drawn, a.tensor("self")?.dtype())?)
    }),
];

fn given(arguments: &Arguments, default: Dtype) -> Result<Dtype, OperatorError> {
    Ok(arguments.optional_dtype("dtype")?.unwrap_or(default))
}

/// Random bits of a number between 0 and 1; halves are drawn as float32 and rounded.
fn digits(dtype: Dtype) -> Result<u32, OperatorError> {
    match dtype {
        Dtype::F64 => Ok(53),
        Dtype::F32 | Dtype::F16 | Dtype::BF16 => Ok(24),
        got => Err(OperatorError::Dtype {
            expected: "F64, F32, F16 or BF16".into(),
            got,
        }),
    }
}

/// As many elements as `shape` has, of what `draw` gives one after the other.
fn filled(
    context: &Context,
    shape: &[usize],
    dtype: Dtype,
    draw: impl FnOnce(&mut Generator, &mut [f64]),
) -> Result<Tensor, OperatorError> {
    let wide = context.empty(Dtype::F64, shape)?;
    let mut elements = wide.elements_mut::<f64>()?;
    context.draw(|generator| draw(generator, &mut elements));
    drop(elements);
    context.cast(&wide, dtype)
}

fn uniform(context: &Context, shape: &[usize], dtype: Dtype, from: f64, to: f64) -> Results {
    let digits = digits(dtype)?;
    one(filled(context, shape, dtype, |generator, elements| {
        for element in elements {
            *element = generator.uniform(digits) * (to - from) + from;
        }
    })?)
}

/// Numbers that torch makes sixteen at a time, from as many uniform ones: half of them are lengths, half angles.
const TOGETHER: usize = 16;

fn normal(context: &Context, shape: &[usize], dtype: Dtype, mean: f64, deviation: f64) -> Results {
    let digits = digits(dtype)?;
    // Each step is rounded to what torch computes it in.
    let round = move |value: f64| match dtype {
        Dtype::F64 => value,
        _ => f64::from(value as f32),
    };
    one(filled(context, shape, dtype, |generator, elements| {
        if elements.len() < TOGETHER {
            for element in elements {
                *element = generator.normal() * deviation + mean;
            }
            return;
        }
        let combine = |block: &mut [f64]| {
            let (lengths, angles) = block.split_at_mut(TOGETHER / 2);
            for (first, second) in lengths.iter_mut().zip(angles) {
                let length = round((round(-2.0 * round((1.0 - *first).ln()))).sqrt());
                let angle = round(std::f64::consts::TAU * *second);
                let at = |share: f64| round(round(length * round(share)) * deviation + mean);
                (*first, *second) = (at(angle.cos()), at(angle.sin()));
            }
        };
        // Halves are drawn block by block, so that what is left over is not drawn twice.
        let left_over = elements.len() % TOGETHER;
        let drawn = match dtype {
            Dtype::F16 | Dtype::BF16 => elements.len() - left_over,
            _ => elements.len(),
        };
        for element in &mut elements[..drawn] {
            *element = generator.uniform(digits);
        }
        elements.chunks_exact_mut(TOGETHER).for_each(combine);
        // What is left over is drawn anew, together with enough before it.
        if left_over != 0 {
            let start = elements.len() - TOGETHER;
            let last = &mut elements[start..];
            for element in last.iter_mut() {
                *element = generator.uniform(digits);
            }
            combine(last);
        }
    })?)
}

fn integers(context: &Context, shape: &[usize], dtype: Dtype, low: i64, high: i64) -> Results {
    let range = high.wrapping_sub(low) as u64;
    if low >= high {
        return Err(OperatorError::Argument {
            argument: "high",
            expected: "more than the lowest number",
            got: high.to_string(),
        });
    }
    let drawn = context.empty(Dtype::I64, shape)?;
    let mut elements = drawn.elements_mut::<i64>()?;
    context.draw(|generator| {
        for element in elements.iter_mut() {
            let bits = if range >= 1 << 28 {
                generator.long_bits()
            } else {
                u64::from(generator.bits())
            };
            *element = low.wrapping_add((bits % range) as i64);
        }
    });
    drop(elements);
    one(context.cast(&drawn, dtype)?)
}

fn permutation(context: &Context, arguments: Arguments) -> Results {
    let count = size("n", arguments.int("n")?)?;
    let drawn = context.empty(Dtype::I64, &[count])?;
    let mut elements = drawn.elements_mut::<i64>()?;
    for (place, element) in elements.iter_mut().enumerate() {
        *element = place as i64;
    }
    context.draw(|generator| {
        for place in 0..count.saturating_sub(1) {
            let other = generator.bits() as usize % (count - place);
            elements.swap(place, place + other);
        }
    });
    drop(elements);
    one(context.cast(&drawn, given(&arguments, Dtype::I64)?)?)
}
