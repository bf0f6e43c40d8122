//! Images of another size, padding, and samples at given places.

use super::operand::{Results, one, operand, with_element, with_real, wrong_shape};
use crate::kernels::Real;
use crate::memory::{filled, listed, raise, reserved};
use crate::{Arguments, Context, OperatorError, Tensor, Value};
use rayon::prelude::*;

pub(super) const OPERATORS: super::Family = &[
    ("aten.upsample_nearest1d.default", |c, a| {
        resample(c, &a, 1, Kind::Nearest)
    }),
    ("aten.upsample_nearest1d.vec", |c, a| {
        resample(c, &a, 1, Kind::Nearest)
    }),
    ("aten.upsample_nearest2d.default", |c, a| {
        resample(c, &a, 2, Kind::Nearest)
    }),
    ("aten.upsample_nearest2d.vec", |c, a| {
        resample(c, &a, 2, Kind::Nearest)
    }),
    ("aten.upsample_nearest3d.default", |c, a| {
        resample(c, &a, 3, Kind::Nearest)
    }),
    ("aten.upsample_nearest3d.vec", |c, a| {
        resample(c, &a, 3, Kind::Nearest)
    }),
    ("aten._upsample_nearest_exact1d.vec", |c, a| {
        resample(c, &a, 1, Kind::NearestCentre)
    }),
    ("aten._upsample_nearest_exact2d.default", |c, a| {
        resample(c, &a, 2, Kind::NearestCentre)
    }),
    ("aten._upsample_nearest_exact2d.vec", |c, a| {
        resample(c, &a, 2, Kind::NearestCentre)
    }),
    ("aten.upsample_linear1d.default", |c, a| {
        resample(c, &a, 1, Kind::Linear)
    }),
    ("aten.upsample_linear1d.vec", |c, a| {
        resample(c, &a, 1, Kind::Linear)
    }),
    ("aten.upsample_bilinear2d.default", |c, a| {
        resample(c, &a, 2, Kind::Linear)
    }),
    ("aten.upsample_bilinear2d.vec", |c, a| {
        resample(c, &a, 2, Kind::Linear)
    }),
    ("aten.upsample_trilinear3d.vec", |c, a| {
        resample(c, &a, 3, Kind::Linear)
    }),
    ("aten.upsample_bicubic2d.default", |c, a| {
        resample(c, &a, 2, Kind::Cubic)
    }),
    ("aten.upsample_bicubic2d.vec", |c, a| {
        resample(c, &a, 2, Kind::Cubic)
    }),
    ("aten._upsample_bilinear2d_aa.default", |c, a| {
        resample(c, &a, 2, Kind::SmoothLinear)
    }),
    ("aten._upsample_bilinear2d_aa.vec", |c, a| {
        resample(c, &a, 2, Kind::SmoothLinear)
    }),
    ("aten._upsample_bicubic2d_aa.default", |c, a| {
        resample(c, &a, 2, Kind::SmoothCubic)
    }),
    ("aten._upsample_bicubic2d_aa.vec", |c, a| {
        resample(c, &a, 2, Kind::SmoothCubic)
    }),
    ("aten._upsample_nearest_exact1d.default", |c, a| {
        resample(c, &a, 1, Kind::NearestCentre)
    }),
    ("aten._upsample_nearest_exact3d.default", |c, a| {
        resample(c, &a, 3, Kind::NearestCentre)
    }),
    ("aten._upsample_nearest_exact3d.vec", |c, a| {
        resample(c, &a, 3, Kind::NearestCentre)
    }),
    ("aten.upsample_trilinear3d.default", |c, a| {
        resample(c, &a, 3, Kind::Linear)
    }),
    ("aten.constant_pad_nd.default", |c, a| pad_constant(c, &a)),
    ("aten.pad.default", pad),
    ("aten.reflection_pad1d.default", |c, a| {
        pad_from_inside(c, &a, "padding", Edge::Reflect)
    }),
    ("aten.reflection_pad2d.default", |c, a| {
        pad_from_inside(c, &a, "padding", Edge::Reflect)
    }),
    ("aten.reflection_pad3d.default", |c, a| {
        pad_from_inside(c, &a, "padding", Edge::Reflect)
    }),
    ("aten.replication_pad1d.default", |c, a| {
        pad_from_inside(c, &a, "padding", Edge::Replicate)
    }),
    ("aten.replication_pad2d.default", |c, a| {
        pad_from_inside(c, &a, "padding", Edge::Replicate)
    }),
    ("aten.replication_pad3d.default", |c, a| {
        pad_from_inside(c, &a, "padding", Edge::Replicate)
    }),
    ("aten.grid_sampler.default", grid_sampler),
    ("aten.grid_sampler_2d.default", grid_sampler),
];

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Nearest,
    NearestCentre,
    Linear,
    Cubic,
    /// Where the image becomes smaller, the filter becomes as wide as what an output stands for.
    SmoothLinear,
    SmoothCubic,
}

/// For each output along one dimension: inputs and their weights.
type Taps = Vec<Vec<(usize, f32)>>;

/// Taps along a dimension. `scale` is that of the coordinates: inputs for one output.
fn taps(
    kind: Kind,
    input: usize,
    output: usize,
    scale: f64,
    corners: bool,
) -> Result<Taps, OperatorError> {
    let last = input.saturating_sub(1);
    let scale = match kind {
        Kind::Nearest | Kind::NearestCentre => scale,
        _ if corners => {
            if output > 1 {
                last as f64 / (output - 1) as f64
            } else {
                0.0
            }
        }
        _ => scale,
    } as f32;
    match kind {
        Kind::SmoothLinear => return smooth(input, output, scale, 1.0, |x| (1.0 - x).max(0.0)),
        Kind::SmoothCubic => return smooth(input, output, scale, 2.0, |x| keys(x, -0.5)),
        _ => {}
    }
    let clamp = |place: f32| (place.max(0.0) as usize).min(last);
    let taps = (0..output).map(|place| {
        let place = place as f32;
        let centre = if corners {
            place * scale
        } else {
            (place + 0.5) * scale - 0.5
        };
        match kind {
            Kind::Nearest => vec![(clamp((place * scale).floor()), 1.0)],
            Kind::NearestCentre => vec![(clamp(((place + 0.5) * scale).floor()), 1.0)],
            Kind::Linear => {
                let centre = centre.max(0.0);
                let first = clamp(centre.floor());
                let share = (centre - first as f32).clamp(0.0, 1.0);
                vec![(first, 1.0 - share), ((first + 1).min(last), share)]
            }
            _ => {
                let first = centre.floor();
                cubic(centre - first)
                    .iter()
                    .enumerate()
                    .map(|(tap, &weight)| (clamp(first + tap as f32 - 1.0), weight))
                    .collect()
            }
        }
    });
    listed(output, taps)
}

/// Taps of a filter that reaches `support` inputs in each direction, more of them where several make one output.
fn smooth(
    input: usize,
    output: usize,
    scale: f32,
    support: f32,
    filter: impl Fn(f32) -> f32,
) -> Result<Taps, OperatorError> {
    let wide = scale.max(1.0);
    let reach = support * wide;
    let taps = (0..output).map(|place| {
        let centre = scale * (place as f32 + 0.5);
        let first = ((centre - reach + 0.5) as i64).max(0) as usize;
        let end = ((centre + reach + 0.5) as i64).clamp(0, input as i64) as usize;
        let weights: Vec<f32> = (first..end)
            .map(|tap| filter(((tap as f32 - centre + 0.5) / wide).abs()))
            .collect();
        let sum: f32 = weights.iter().sum();
        let share = |weight: f32| if sum == 0.0 { 0.0 } else { weight / sum };
        (first..end).zip(weights.into_iter().map(share)).collect()
    });
    listed(output, taps)
}

/// Keys' cubic at a distance, with the slope `a`.
fn keys(x: f32, a: f32) -> f32 {
    if x < 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * a
    } else {
        0.0
    }
}

/// Keys' weights of four neighbours, at `share` between the second and the third one.
fn cubic(share: f32) -> [f32; 4] {
    const A: f32 = -0.75;
    let near = |x: f32| ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0;
    let far = |x: f32| ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A;
    [
        far(share + 1.0),
        near(share),
        near(1.0 - share),
        far(2.0 - share),
    ]
}

fn resample(context: &Context, arguments: &Arguments, dims: usize, kind: Kind) -> Results {
    let input = match arguments.get("input") {
        Some(_) => arguments.tensor("input")?,
        None => arguments.tensor("self")?,
    };
    if input.rank() != dims + 2 {
        return Err(wrong_shape(
            format!("(batch, channel, …) of {} dimensions", dims + 2),
            input,
        ));
    }
    let places = &input.shape()[2..];
    let factors = factors(arguments, dims)?;
    let wanted = arguments.ints_or("output_size", &[])?;
    let outputs: Vec<usize> = (0..dims)
        .map(|dim| match (wanted.get(dim), factors[dim]) {
            (Some(&size), _) => super::operand::size("output_size", size),
            (None, Some(factor)) => Ok((places[dim] as f64 * factor).floor() as usize),
            (None, None) => Err(wrong_shape("an output size or factors", input)),
        })
        .collect::<Result<_, _>>()?;
    let corners = arguments.bool_or("align_corners", false)?;
    let taps: Vec<Taps> = (0..dims)
        .map(|dim| {
            let scale = match factors[dim] {
                Some(factor) if factor > 0.0 => 1.0 / factor,
                _ => places[dim] as f64 / outputs[dim].max(1) as f64,
            };
            taps(kind, places[dim], outputs[dim], scale, corners)
        })
        .collect::<Result<_, _>>()?;
    let mut shape = input.shape()[..2].to_vec();
    shape.extend(&outputs);
    let result = context.empty(input.dtype(), &shape)?;
    let input = context.contiguous(input)?;
    let (plane, size) = (
        places.iter().product::<usize>(),
        outputs.iter().product::<usize>(),
    );
    if plane > 0 && size > 0 {
        with_real!(input.dtype(), |T| {
            let from = input.elements::<T>()?;
            let mut to = result.elements_mut::<T>()?;
            to.par_chunks_mut(size)
                .zip(from.par_chunks(plane))
                .for_each(|(to, from)| {
                    let mut current = filled(0f32, plane).unwrap_or_else(raise);
                    T::load(from, &mut current);
                    // One dimension after the other, the last one first.
                    let mut sizes = places.to_vec();
                    for dim in (0..dims).rev() {
                        current = along(&current, &sizes, dim, &taps[dim]);
                        sizes[dim] = outputs[dim];
                    }
                    T::store(&current, to);
                });
            Ok(())
        })?;
    }
    one(result)
}

/// `from` of shape `sizes` with dimension `dim` resampled.
fn along(from: &[f32], sizes: &[usize], dim: usize, taps: &Taps) -> Vec<f32> {
    let inner: usize = sizes[dim + 1..].iter().product();
    let entries = sizes[dim];
    let mut to = reserved(from.len() / entries.max(1) * taps.len()).unwrap_or_else(raise);
    for block in from.chunks(entries * inner) {
        for taps in taps {
            if inner == 1 {
                to.push(
                    taps.iter()
                        .map(|&(place, weight)| block[place] * weight)
                        .sum(),
                );
                continue;
            }
            let start = to.len();
            to.resize(start + inner, 0.0);
            for &(place, weight) in taps {
                let line = &block[place * inner..(place + 1) * inner];
                to[start..]
                    .iter_mut()
                    .zip(line)
                    .for_each(|(to, from)| *to += from * weight);
            }
        }
    }
    to
}

/// The factor of each dimension, where one is given.
fn factors(arguments: &Arguments, dims: usize) -> Result<Vec<Option<f64>>, OperatorError> {
    let number = |value: &Value| match value {
        Value::Float(value) => Some(*value),
        Value::Int(value) => Some(*value as f64),
        _ => None,
    };
    if arguments.get("scale_factors").is_some() {
        return Ok(arguments
            .list("scale_factors")?
            .iter()
            .map(number)
            .chain(std::iter::repeat(None))
            .take(dims)
            .collect());
    }
    let names: &[&'static str] = match dims {
        1 => &["scales"],
        2 => &["scales_h", "scales_w"],
        _ => &["scales_d", "scales_h", "scales_w"],
    };
    Ok(names
        .iter()
        .map(|&name| arguments.get(name).and_then(number))
        .collect())
}

#[derive(Clone, Copy, PartialEq)]
enum Edge {
    Reflect,
    Replicate,
    Circular,
}

fn pad(context: &Context, arguments: Arguments) -> Results {
    match arguments.text_or("mode", "constant")? {
        "constant" => pad_constant(context, &arguments),
        "reflect" => pad_from_inside(context, &arguments, "pad", Edge::Reflect),
        "replicate" => pad_from_inside(context, &arguments, "pad", Edge::Replicate),
        "circular" => pad_from_inside(context, &arguments, "pad", Edge::Circular),
        other => Err(OperatorError::Argument {
            argument: "mode",
            expected: "constant, reflect, replicate or circular",
            got: other.into(),
        }),
    }
}

/// (before, after) of each dimension, the first dimension first. torch lists the last one first.
fn padding(
    arguments: &Arguments,
    name: &'static str,
    tensor: &Tensor,
) -> Result<Vec<(i64, i64)>, OperatorError> {
    let given = arguments.ints(name)?;
    let mut all = vec![(0, 0); tensor.rank()];
    if given.len() % 2 != 0 || given.len() / 2 > all.len() {
        return Err(wrong_shape(
            format!("a dimension for each pair of {given:?}"),
            tensor,
        ));
    }
    for (pair, all) in given.chunks(2).zip(all.iter_mut().rev()) {
        *all = (pair[0], pair[1]);
    }
    Ok(all)
}

fn pad_constant(context: &Context, arguments: &Arguments) -> Results {
    let tensor = arguments.tensor("self")?;
    let padding = padding(arguments, "pad", tensor)?;
    let shape = padding
        .iter()
        .zip(tensor.shape())
        .map(|((before, after), &size)| {
            super::operand::size(
                "pad",
                (size as i64).saturating_add(*before).saturating_add(*after),
            )
        })
        .collect::<Result<Vec<_>, _>>()?;
    let result = context.empty(tensor.dtype(), &shape)?;
    let value = match arguments.get("value") {
        Some(_) => operand(context, arguments, "value")?,
        None => context.scalar(0i64)?,
    };
    context.assign(&result, &value)?;
    // What is left of the tensor, and where it goes; negative padding cuts.
    let (mut from, mut to) = (tensor.clone(), result.clone());
    for (dim, &(before, after)) in padding.iter().enumerate() {
        let size = tensor.shape()[dim];
        let (first, end) = (
            (-before).max(0) as usize,
            size.saturating_sub((-after).max(0) as usize),
        );
        if first >= end {
            return one(result);
        }
        from = from.narrow(dim, first, end, 1)?;
        let start = before.max(0) as usize;
        to = to.narrow(dim, start, start + end - first, 1)?;
    }
    context.assign(&to, &from)?;
    one(result)
}

fn pad_from_inside(
    context: &Context,
    arguments: &Arguments,
    name: &'static str,
    edge: Edge,
) -> Results {
    let tensor = arguments.tensor("self")?;
    let padding = padding(arguments, name, tensor)?;
    let mut result = context.contiguous(tensor)?;
    for (dim, &(before, after)) in padding.iter().enumerate() {
        if (before, after) == (0, 0) {
            continue;
        }
        let size = tensor.shape()[dim] as i64;
        if size == 0 || (edge == Edge::Reflect && (before >= size || after >= size)) {
            return Err(wrong_shape(
                "a dimension that is longer than its padding",
                tensor,
            ));
        }
        let entries = (-before..size.saturating_add(after))
            .map(|place| match edge {
                Edge::Replicate => place.clamp(0, size - 1),
                Edge::Circular => place.rem_euclid(size),
                Edge::Reflect if place < 0 => -place,
                Edge::Reflect if place >= size => 2 * (size - 1) - place,
                Edge::Reflect => place,
            })
            .map(|place| place as usize);
        let count = size.saturating_add(before).saturating_add(after);
        let entries: Vec<usize> = listed(super::operand::size(name, count)?, entries)?;
        let mut shape = result.shape().to_vec();
        shape[dim] = entries.len();
        let padded = context.empty(result.dtype(), &shape)?;
        let inner: usize = shape[dim + 1..].iter().product();
        if padded.count() > 0 {
            with_element!(result.dtype(), |T| {
                let from = result.elements::<T>()?;
                let mut to = padded.elements_mut::<T>()?;
                for (row, to) in to.chunks_mut(inner).enumerate() {
                    let first = (row / entries.len() * size as usize
                        + entries[row % entries.len()])
                        * inner;
                    to.copy_from_slice(&from[first..first + inner]);
                }
                Ok(())
            })?;
        }
        result = padded;
    }
    one(result)
}

/// Values of an image at places of -1 to 1 in each direction.
fn grid_sampler(context: &Context, arguments: Arguments) -> Results {
    let (input, grid) = (arguments.tensor("input")?, arguments.tensor("grid")?);
    let ([batches, channels, height, width], [_, rows, columns, 2]) = (
        <[usize; 4]>::try_from(input.shape()).unwrap_or_default(),
        <[usize; 4]>::try_from(grid.shape()).unwrap_or_default(),
    ) else {
        return Err(wrong_shape(
            "an image of four dimensions and a grid of (batch, rows, columns, 2)",
            grid,
        ));
    };
    if grid.shape()[0] != batches {
        return Err(wrong_shape(
            format!("a grid for each of {batches} images"),
            grid,
        ));
    }
    let (mode, edges) = (
        arguments.int_or("interpolation_mode", 0)?,
        arguments.int_or("padding_mode", 0)?,
    );
    let corners = arguments.bool_or("align_corners", false)?;
    if !(0..=1).contains(&mode) || !(0..=2).contains(&edges) {
        return Err(OperatorError::Unsupported(
            "grid_sampler is known for bilinear and nearest interpolation".into(),
        ));
    }
    let place = |value: f32, size: usize| {
        let size = size as f32;
        let place = if corners {
            (value + 1.0) / 2.0 * (size - 1.0)
        } else {
            ((value + 1.0) * size - 1.0) / 2.0
        };
        match edges {
            1 => place.clamp(0.0, size - 1.0),
            2 => {
                let (low, span) = if corners {
                    (0.0, size - 1.0)
                } else {
                    (-0.5, size)
                };
                if span == 0.0 {
                    return 0.0;
                }
                let distance = (place - low).abs();
                let (extra, flips) = (distance % span, (distance / span).floor() as i64);
                let place = if flips % 2 == 0 {
                    extra + low
                } else {
                    span - extra + low
                };
                place.clamp(0.0, size - 1.0)
            }
            _ => place,
        }
    };
    let result = context.empty(input.dtype(), &[batches, channels, rows, columns])?;
    let (input, grid) = (
        context.contiguous(input)?,
        context.cast(grid, weightstream::Dtype::F32)?,
    );
    if result.count() == 0 {
        return one(result);
    }
    with_real!(input.dtype(), |T| {
        let (from, grid) = (input.elements::<T>()?, grid.elements::<f32>()?);
        let mut to = result.elements_mut::<T>()?;
        to.par_chunks_mut(rows * columns)
            .enumerate()
            .for_each(|(plane, to)| {
                let mut image = vec![0f32; height * width];
                T::load(
                    &from[plane * height * width..(plane + 1) * height * width],
                    &mut image,
                );
                let at = |y: f32, x: f32| {
                    let inside = x >= 0.0 && y >= 0.0 && x < width as f32 && y < height as f32;
                    if inside {
                        image[y as usize * width + x as usize]
                    } else {
                        0.0
                    }
                };
                let grid = &grid[plane / channels * rows * columns * 2..];
                let values: Vec<f32> = grid[..rows * columns * 2]
                    .chunks(2)
                    .map(|pair| {
                        let (x, y) = (place(pair[0], width), place(pair[1], height));
                        if mode == 1 {
                            return at(y.round_ties_even(), x.round_ties_even());
                        }
                        let (left, top) = (x.floor(), y.floor());
                        let (right, down) = (x - left, y - top);
                        at(top, left) * (1.0 - down) * (1.0 - right)
                            + at(top, left + 1.0) * (1.0 - down) * right
                            + at(top + 1.0, left) * down * (1.0 - right)
                            + at(top + 1.0, left + 1.0) * down * right
                    })
                    .collect();
                T::store(&values, to);
            });
        Ok(())
    })?;
    one(result)
}
