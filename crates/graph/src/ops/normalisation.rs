//! Normalisation over layers, groups, channels.

use super::operand::{Results, one, size, sizes, with_real, wrong_shape};
use crate::kernels::{Real, WORTH_A_THREAD, sum_of, vectorised};
use crate::{Arguments, Context, OperatorError, Tensor};
use rayon::prelude::*;
use weightstream::Dtype;

pub(super) const OPERATORS: super::Family = &[
    ("aten.layer_norm.default", layer_norm),
    ("aten.native_layer_norm.default", layer_norm),
    ("aten.rms_norm.default", rms_norm),
    ("aten._fused_rms_norm.default", rms_norm),
    ("aten.group_norm.default", group_norm),
    ("aten.native_group_norm.default", group_norm),
    ("aten.batch_norm.default", batch_norm),
    (
        "aten._native_batch_norm_legit_no_training.default",
        batch_norm,
    ),
    ("aten._native_batch_norm_legit.no_stats", batch_norm),
    ("aten._native_batch_norm_legit.default", |c, a| {
        if a.bool_or("training", false)? {
            return Err(OperatorError::Unsupported(
                "normalisation in training changes its statistics: export the model after model.eval()".into(),
            ));
        }
        batch_norm(c, a)
    }),
    ("aten.instance_norm.default", instance_norm),
];

/// What is done to the elements of a row of which mean and deviation are known.
struct Affine<'a> {
    weight: Option<&'a [f32]>,
    bias: Option<&'a [f32]>,
    /// Elements that follow each other and share one weight.
    shared: usize,
}

/// Rows of `length` elements, normalised: (x - mean) / sqrt(variance + eps), or without a mean.
struct Rows {
    length: usize,
    eps: f32,
    centred: bool,
    /// Rows after which the weights begin anew, each with the next `length / shared` of them.
    cycle: usize,
}

impl Rows {
    /// Normalises all rows; the results are the mean and 1 / sqrt(variance + eps) of each.
    fn normalise<T: Real>(&self, from: &[T], affine: &Affine<'_>, to: &mut [T]) -> Vec<[f32; 2]> {
        let length = self.length.max(1);
        let rows = (WORTH_A_THREAD / 2 / length).max(1);
        to.par_chunks_mut(rows * length)
            .enumerate()
            .flat_map_iter(|(chunk, to)| {
                let from = &from[chunk * rows * length..chunk * rows * length + to.len()];
                let mut buffer = vec![0f32; length];
                let mut statistics = Vec::with_capacity(rows);
                for (index, (from, to)) in
                    from.chunks(length).zip(to.chunks_mut(length)).enumerate()
                {
                    T::load(from, &mut buffer);
                    let weights = length / affine.shared.max(1);
                    let first = (chunk * rows + index) % self.cycle.max(1) * weights;
                    statistics.push(self.row(&mut buffer, affine, first..first + weights));
                    T::store(&buffer, to);
                }
                statistics
            })
            .collect()
    }

    fn row(
        &self,
        row: &mut [f32],
        affine: &Affine<'_>,
        weights: std::ops::Range<usize>,
    ) -> [f32; 2] {
        vectorised(
            #[inline(always)]
            || {
                let count = row.len() as f32;
                let mean = if self.centred {
                    sum_of(row, |x| x) / count
                } else {
                    0.0
                };
                let variance = sum_of(row, |x| (x - mean) * (x - mean)) / count;
                let factor = 1.0 / (variance + self.eps).sqrt();
                let weight = affine.weight.map(|weight| &weight[weights.clone()]);
                let bias = affine.bias.map(|bias| &bias[weights]);
                if affine.shared > 1 {
                    for (index, run) in row.chunks_mut(affine.shared).enumerate() {
                        let scale = factor * weight.map_or(1.0, |weight| weight[index]);
                        let shift = bias.map_or(0.0, |bias| bias[index]) - mean * scale;
                        run.iter_mut().for_each(|x| *x = x.mul_add(scale, shift));
                    }
                    return [mean, factor];
                }
                match (weight, bias) {
                    (Some(weight), Some(bias)) => {
                        for ((x, weight), bias) in row.iter_mut().zip(weight).zip(bias) {
                            *x = ((*x - mean) * factor).mul_add(*weight, *bias);
                        }
                    }
                    (Some(weight), None) => {
                        row.iter_mut()
                            .zip(weight)
                            .for_each(|(x, weight)| *x = (*x - mean) * factor * weight);
                    }
                    (None, Some(bias)) => {
                        row.iter_mut()
                            .zip(bias)
                            .for_each(|(x, bias)| *x = (*x - mean).mul_add(factor, *bias));
                    }
                    (None, None) => row.iter_mut().for_each(|x| *x = (*x - mean) * factor),
                }
                [mean, factor]
            },
        )
    }

    /// The normalised tensor, and means and factors with shape `statistics`.
    fn apply(
        &self,
        context: &Context,
        input: &Tensor,
        arguments: &Arguments,
        shared: usize,
        statistics: &[usize],
    ) -> Results {
        let weight = singles(context, arguments, "weight")?;
        let bias = singles(context, arguments, "bias")?;
        let expected = self.cycle.max(1) * self.length / shared.max(1);
        for given in [&weight, &bias].into_iter().flatten() {
            if given.count() != expected {
                return Err(wrong_shape(format!("{expected} weights"), given));
            }
        }
        let weight = weight.as_ref().map(Tensor::elements::<f32>).transpose()?;
        let bias = bias.as_ref().map(Tensor::elements::<f32>).transpose()?;
        let affine = Affine {
            weight: weight.as_deref(),
            bias: bias.as_deref(),
            shared,
        };
        let input = context.contiguous(input)?;
        let result = context.empty(input.dtype(), input.shape())?;
        let found = with_real!(input.dtype(), |T| {
            Ok(self.normalise(
                &input.elements::<T>()?,
                &affine,
                &mut result.elements_mut::<T>()?,
            ))
        })?;
        let part = |index: usize| {
            let values: Vec<f32> = found.iter().map(|pair| pair[index]).collect();
            let shape = if values.len() == statistics.iter().product::<usize>() {
                statistics.to_vec()
            } else {
                vec![values.len()]
            };
            context.cast(&context.tensor(&values, &shape)?, input.dtype())
        };
        Ok(vec![result.into(), part(0)?.into(), part(1)?.into()])
    }
}

/// Operators that don't say their statistics have one result.
fn first_only(results: Results) -> Results {
    results.map(|mut results| {
        results.truncate(1);
        results
    })
}

fn singles(
    context: &Context,
    arguments: &Arguments,
    name: &'static str,
) -> Result<Option<Tensor>, OperatorError> {
    arguments
        .optional_tensor(name)?
        .map(|tensor| context.cast(tensor, Dtype::F32))
        .transpose()
}

/// The length of a row of `normalized_shape`, and the shape of one number per row.
fn row_shape(arguments: &Arguments, input: &Tensor) -> Result<(usize, Vec<usize>), OperatorError> {
    let shape = sizes(arguments, "normalized_shape")?;
    if !input.shape().ends_with(&shape) {
        return Err(wrong_shape(
            format!("a shape that ends with {shape:?}"),
            input,
        ));
    }
    let mut statistics = input.shape().to_vec();
    let kept = statistics.len() - shape.len();
    statistics[kept..].fill(1);
    Ok((shape.iter().product(), statistics))
}

fn layer_norm(context: &Context, arguments: Arguments) -> Results {
    let input = arguments.tensor("input")?;
    let (length, statistics) = row_shape(&arguments, input)?;
    let rows = Rows {
        length,
        eps: arguments.float_or("eps", 1e-5)? as f32,
        centred: true,
        cycle: 1,
    };
    rows.apply(context, input, &arguments, 1, &statistics)
}

fn rms_norm(context: &Context, arguments: Arguments) -> Results {
    let input = arguments.tensor("input")?;
    let (length, statistics) = row_shape(&arguments, input)?;
    let smallest = match input.dtype() {
        Dtype::BF16 => half::bf16::EPSILON.to_f64(),
        Dtype::F16 => half::f16::EPSILON.to_f64(),
        _ => f64::from(f32::EPSILON),
    };
    let rows = Rows {
        length,
        eps: arguments.float_or("eps", smallest)? as f32,
        centred: false,
        cycle: 1,
    };
    let mut results = rows.apply(context, input, &arguments, 1, &statistics)?;
    results.remove(1);
    Ok(results)
}

fn group_norm(context: &Context, arguments: Arguments) -> Results {
    let input = arguments.tensor("input")?;
    let groups = match arguments.get("num_groups") {
        Some(_) => arguments.int("num_groups")?,
        None => arguments.int("group")?,
    };
    let groups = size("num_groups", groups)?;
    let [batches, channels] = batches_and_channels(input)?;
    if groups == 0 || channels % groups != 0 {
        return Err(wrong_shape(
            format!("channels that make {groups} groups"),
            input,
        ));
    }
    let shared = input.count() / (batches * channels).max(1);
    let rows = Rows {
        length: channels / groups * shared,
        eps: arguments.float_or("eps", 1e-5)? as f32,
        centred: true,
        cycle: groups,
    };
    rows.apply(context, input, &arguments, shared, &[batches, groups])
}

fn batches_and_channels(input: &Tensor) -> Result<[usize; 2], OperatorError> {
    match input.shape() {
        [batches, channels, ..] => Ok([*batches, *channels]),
        _ => Err(wrong_shape("(batch, channel, …)", input)),
    }
}

/// Each channel with statistics of its own in each entry of the batch.
fn instance_norm(context: &Context, arguments: Arguments) -> Results {
    let input = arguments.tensor("input")?;
    if !arguments.bool_or("use_input_stats", true)? {
        return batch_norm(context, arguments);
    }
    let [batches, channels] = batches_and_channels(input)?;
    let shared = input.count() / (batches * channels).max(1);
    let rows = Rows {
        length: shared,
        eps: arguments.float_or("eps", 1e-5)? as f32,
        centred: true,
        cycle: channels,
    };
    first_only(rows.apply(context, input, &arguments, shared, &[batches, channels]))
}

/// (x - mean) / sqrt(variance + eps) · weight + bias with the statistics of training, or with those of this batch.
fn batch_norm(context: &Context, arguments: Arguments) -> Results {
    let input = arguments.tensor("input")?;
    let [batches, channels] = batches_and_channels(input)?;
    let eps = arguments.float_or("eps", 1e-5)? as f32;
    let of_batch = arguments.bool_or("training", false)? || arguments.get("running_mean").is_none();
    let shared = input.count() / (batches * channels).max(1);
    let (mean, variance) = if of_batch {
        let dims: Vec<usize> = (0..input.rank()).filter(|dim| *dim != 1).collect();
        let dims: Vec<i64> = dims.into_iter().map(|dim| dim as i64).collect();
        let wide = context.cast(input, Dtype::F32)?;
        let given = Arguments::new([
            ("self", wide.into()),
            ("dim", dims.into()),
            ("correction", crate::Value::Int(0)),
        ]);
        let results = super::find("aten.var_mean.correction")
            .ok_or_else(|| OperatorError::Unsupported("aten.var_mean.correction".into()))?
            .call(context, given)?;
        match <[crate::Value; 2]>::try_from(results) {
            Ok([crate::Value::Tensor(variance), crate::Value::Tensor(mean)]) => (mean, variance),
            _ => {
                return Err(OperatorError::Unsupported(
                    "aten.var_mean.correction".into(),
                ));
            }
        }
    } else {
        (
            context.cast(arguments.tensor("running_mean")?, Dtype::F32)?,
            context.cast(arguments.tensor("running_var")?, Dtype::F32)?,
        )
    };
    let weight = singles(context, &arguments, "weight")?;
    let bias = singles(context, &arguments, "bias")?;
    for given in [Some(&mean), Some(&variance), weight.as_ref(), bias.as_ref()]
        .into_iter()
        .flatten()
    {
        if given.count() != channels {
            return Err(wrong_shape(
                format!("{channels} numbers, one for each channel"),
                given,
            ));
        }
    }
    let weight = weight.as_ref().map(Tensor::elements::<f32>).transpose()?;
    let bias = bias.as_ref().map(Tensor::elements::<f32>).transpose()?;
    let (mean, variance) = (mean.elements::<f32>()?, variance.elements::<f32>()?);
    let scale: Vec<f32> = (0..channels)
        .map(|channel| {
            weight.as_ref().map_or(1.0, |weight| weight[channel]) / (variance[channel] + eps).sqrt()
        })
        .collect();
    let shift: Vec<f32> = (0..channels)
        .map(|channel| {
            bias.as_ref().map_or(0.0, |bias| bias[channel]) - mean[channel] * scale[channel]
        })
        .collect();
    let input = context.contiguous(input)?;
    let result = context.empty(input.dtype(), input.shape())?;
    if result.count() > 0 {
        with_real!(input.dtype(), |T| {
            scaled(
                &input.elements::<T>()?,
                shared,
                &scale,
                &shift,
                &mut result.elements_mut::<T>()?,
            );
            Ok(())
        })?;
    }
    if arguments.get("training").is_some() && arguments.get("cudnn_enabled").is_some()
        || arguments.get("use_input_stats").is_some()
    {
        return one(result);
    }
    let nothing = context.empty(Dtype::F32, &[0])?;
    Ok(vec![result.into(), nothing.clone().into(), nothing.into()])
}

fn scaled<T: Real>(from: &[T], shared: usize, scale: &[f32], shift: &[f32], to: &mut [T]) {
    to.par_chunks_mut(shared)
        .with_min_len((WORTH_A_THREAD / shared.max(1)).max(1))
        .enumerate()
        .for_each(|(plane, to)| {
            let from = &from[plane * shared..(plane + 1) * shared];
            let (scale, shift) = (scale[plane % scale.len()], shift[plane % shift.len()]);
            let mut buffer = [0f32; 512];
            for (from, to) in from.chunks(512).zip(to.chunks_mut(512)) {
                let buffer = &mut buffer[..from.len()];
                T::load(from, buffer);
                vectorised(
                    #[inline(always)]
                    || buffer.iter_mut().for_each(|x| *x = x.mul_add(scale, shift)),
                );
                T::store(buffer, to);
            }
        });
}
