//! Means and maxima of windows.

use super::operand::{Results, one, size, sizes, with_real, wrong_shape};
use crate::kernels::Real;
use crate::memory::{filled, listed, raise};
use crate::{Arguments, Context, OperatorError, Tensor};
use rayon::prelude::*;

pub(super) const OPERATORS: super::Family = &[
    ("aten.max_pool1d.default", |c, a| max_pool(c, &a, 1, false)),
    ("aten.max_pool2d.default", |c, a| max_pool(c, &a, 2, false)),
    ("aten.max_pool3d.default", |c, a| max_pool(c, &a, 3, false)),
    ("aten.max_pool1d_with_indices.default", |c, a| {
        max_pool(c, &a, 1, true)
    }),
    ("aten.max_pool2d_with_indices.default", |c, a| {
        max_pool(c, &a, 2, true)
    }),
    ("aten.max_pool3d_with_indices.default", |c, a| {
        max_pool(c, &a, 3, true)
    }),
    ("aten.avg_pool1d.default", |c, a| average_pool(c, &a, 1)),
    ("aten.avg_pool2d.default", |c, a| average_pool(c, &a, 2)),
    ("aten.avg_pool3d.default", |c, a| average_pool(c, &a, 3)),
    ("aten.adaptive_avg_pool1d.default", |c, a| {
        adaptive(c, &a, 1, false, false)
    }),
    ("aten.adaptive_avg_pool2d.default", |c, a| {
        adaptive(c, &a, 2, false, false)
    }),
    ("aten.adaptive_avg_pool3d.default", |c, a| {
        adaptive(c, &a, 3, false, false)
    }),
    ("aten.adaptive_max_pool1d.default", |c, a| {
        adaptive(c, &a, 1, true, true)
    }),
    ("aten.adaptive_max_pool2d.default", |c, a| {
        adaptive(c, &a, 2, true, true)
    }),
    ("aten.adaptive_max_pool3d.default", |c, a| {
        adaptive(c, &a, 3, true, true)
    }),
];

/// For each output along one dimension: the inputs it sees (first, end, step), and how many it counts.
type Windows = Vec<(usize, usize, usize, usize)>;

/// An input of up to three dimensions, as planes of (depth, height, width), and the shape of the result.
struct Planes {
    input: Tensor,
    places: [usize; 3],
    windows: [Windows; 3],
    result: Vec<usize>,
}

impl Planes {
    fn new(
        context: &Context,
        input: &Tensor,
        dims: usize,
        mut windows: impl FnMut(usize, usize) -> Result<Windows, OperatorError>,
    ) -> Result<Self, OperatorError> {
        let kept = input.rank().checked_sub(dims).filter(|kept| *kept >= 1);
        let kept =
            kept.ok_or_else(|| wrong_shape(format!("channels and {dims} dimensions"), input))?;
        let mut places = [1; 3];
        places[3 - dims..].copy_from_slice(&input.shape()[kept..]);
        let mut all = [vec![(0, 1, 1, 1)], vec![(0, 1, 1, 1)], vec![(0, 1, 1, 1)]];
        let mut result = input.shape()[..kept].to_vec();
        for dim in 0..dims {
            all[3 - dims + dim] = windows(dim, input.shape()[kept + dim])?;
            result.push(all[3 - dims + dim].len());
        }
        Ok(Self {
            input: context.contiguous(input)?,
            places,
            windows: all,
            result,
        })
    }

    /// `compute` of each plane: what it is, and where its results go.
    fn for_each<T: Real>(
        &self,
        result: &Tensor,
        compute: impl Fn(&[f32], &mut [f32], usize) + Sync,
    ) -> Result<(), OperatorError> {
        let (plane, outputs) = (
            self.places.iter().product::<usize>(),
            self.windows.iter().map(Vec::len).product::<usize>(),
        );
        if plane == 0 || outputs == 0 || result.count() == 0 {
            return Ok(());
        }
        let from = self.input.elements::<T>()?;
        let mut to = result.elements_mut::<T>()?;
        to.par_chunks_mut(outputs)
            .with_min_len((4096 / plane).max(1))
            .zip(from.par_chunks(plane))
            .enumerate()
            .for_each_init(
                || [plane, outputs].map(|count| filled(0f32, count).unwrap_or_else(raise)),
                |[input, output], (number, (to, from))| {
                    T::load(from, input);
                    compute(input, output, number);
                    T::store(output, to);
                },
            );
        Ok(())
    }

    /// Calls `visit` with each output and the inputs of its window: the three ranges, and the count it is divided by.
    fn windows(&self, mut visit: impl FnMut(usize, [(usize, usize, usize); 3], usize)) {
        let mut output = 0;
        for &(z, z_end, z_step, z_count) in &self.windows[0] {
            for &(y, y_end, y_step, y_count) in &self.windows[1] {
                for &(x, x_end, x_step, x_count) in &self.windows[2] {
                    visit(
                        output,
                        [(z, z_end, z_step), (y, y_end, y_step), (x, x_end, x_step)],
                        z_count * y_count * x_count,
                    );
                    output += 1;
                }
            }
        }
    }

    fn visit(&self, ranges: [(usize, usize, usize); 3], mut visit: impl FnMut(usize)) {
        let [_, height, width] = self.places;
        let [(z, z_end, z_step), (y, y_end, y_step), (x, x_end, x_step)] = ranges;
        for z in (z..z_end).step_by(z_step) {
            for y in (y..y_end).step_by(y_step) {
                let line = (z * height + y) * width;
                for x in (x..x_end).step_by(x_step) {
                    visit(line + x);
                }
            }
        }
    }
}

/// A list with a number for each dimension; one number is for all.
fn along(
    arguments: &Arguments,
    name: &'static str,
    dims: usize,
    default: &[usize],
) -> Result<Vec<usize>, OperatorError> {
    let given = match arguments.get(name) {
        Some(_) => sizes(arguments, name)?,
        None => Vec::new(),
    };
    let given = if given.is_empty() {
        default.to_vec()
    } else {
        given
    };
    Ok((0..dims)
        .map(|dim| given.get(dim).or(given.last()).copied().unwrap_or(1))
        .collect())
}

struct Sliding {
    kernel: Vec<usize>,
    stride: Vec<usize>,
    padding: Vec<usize>,
    dilation: Vec<usize>,
    ceil: bool,
}

impl Sliding {
    fn new(arguments: &Arguments, dims: usize) -> Result<Self, OperatorError> {
        let kernel = along(arguments, "kernel_size", dims, &[])?;
        Ok(Self {
            stride: along(arguments, "stride", dims, &kernel)?
                .into_iter()
                .map(|stride| stride.max(1))
                .collect(),
            padding: along(arguments, "padding", dims, &[0])?,
            dilation: along(arguments, "dilation", dims, &[1])?
                .into_iter()
                .map(|dilation| dilation.max(1))
                .collect(),
            ceil: arguments.bool_or("ceil_mode", false)?,
            kernel,
        })
    }

    /// The windows along `dim`. `padded`: whether zeros of the padding are counted.
    fn windows(&self, dim: usize, entries: usize, padded: bool) -> Result<Windows, OperatorError> {
        let (kernel, stride, padding, step) = (
            self.kernel[dim],
            self.stride[dim],
            self.padding[dim],
            self.dilation[dim],
        );
        let reach = step * (kernel.max(1) - 1) + 1;
        // Negative where a window is longer than the input: rounded up, one output may be left.
        let whole = (entries + 2 * padding) as i64 - reach as i64;
        let rounded = if self.ceil { stride - 1 } else { 0 };
        let mut outputs = (whole + rounded as i64).div_euclid(stride as i64) + 1;
        if self.ceil && (outputs - 1) * stride as i64 >= (entries + padding) as i64 {
            outputs -= 1; // the last window would lie in the padding alone
        }
        let outputs = usize::try_from(outputs)
            .ok()
            .filter(|&outputs| outputs > 0)
            .ok_or_else(|| OperatorError::Shape {
                expected: format!("at least {reach} entries with the padding"),
                got: vec![entries],
            })?;
        let windows = (0..outputs).map(|output| {
            let start = output * stride;
            let end = start + reach;
            // In the coordinates of the padded input; then cut to the input.
            let skipped = padding.saturating_sub(start).div_ceil(step) * step;
            let first = (start + skipped).saturating_sub(padding);
            let last = end.saturating_sub(padding).min(entries).max(first);
            let counted = if padded {
                end.min(entries + 2 * padding) - start
            } else {
                last - first
            };
            (first, last, step, counted)
        });
        listed(outputs, windows)
    }
}

fn max_pool(context: &Context, arguments: &Arguments, dims: usize, with_indices: bool) -> Results {
    let sliding = Sliding::new(arguments, dims)?;
    let planes = Planes::new(context, arguments.tensor("self")?, dims, |dim, entries| {
        sliding.windows(dim, entries, false)
    })?;
    maxima(context, &planes, with_indices)
}

fn maxima(context: &Context, planes: &Planes, with_indices: bool) -> Results {
    let result = context.empty(planes.input.dtype(), &planes.result)?;
    let best = |input: &[f32], ranges| {
        let (mut value, mut place) = (f32::NEG_INFINITY, None);
        planes.visit(ranges, |index| {
            if input[index] > value || input[index].is_nan() || place.is_none() {
                (value, place) = (input[index], Some(index));
            }
        });
        (value, place.unwrap_or(0))
    };
    with_real!(planes.input.dtype(), |T| planes.for_each::<T>(
        &result,
        |input, output, _| {
            planes.windows(|index, ranges, _| output[index] = best(input, ranges).0);
        }
    ))?;
    if !with_indices {
        return one(result);
    }
    let (plane, outputs) = (
        planes.places.iter().product::<usize>(),
        planes.windows.iter().map(Vec::len).product::<usize>(),
    );
    let wide = context.cast(&planes.input, weightstream::Dtype::F32)?;
    let mut indices = filled(0i64, result.count())?;
    for (input, indices) in wide
        .elements::<f32>()?
        .chunks(plane.max(1))
        .zip(indices.chunks_mut(outputs.max(1)))
    {
        planes.windows(|index, ranges, _| indices[index] = best(input, ranges).1 as i64);
    }
    Ok(vec![
        result.into(),
        context.tensor(&indices, &planes.result)?.into(),
    ])
}

fn average_pool(context: &Context, arguments: &Arguments, dims: usize) -> Results {
    let sliding = Sliding::new(arguments, dims)?;
    let padded = arguments.bool_or("count_include_pad", true)?;
    let planes = Planes::new(context, arguments.tensor("self")?, dims, |dim, entries| {
        sliding.windows(dim, entries, padded)
    })?;
    means(
        context,
        &planes,
        arguments.optional_int("divisor_override")?,
    )
}

fn means(context: &Context, planes: &Planes, divisor: Option<i64>) -> Results {
    let result = context.empty(planes.input.dtype(), &planes.result)?;
    with_real!(planes.input.dtype(), |T| planes.for_each::<T>(
        &result,
        |input, output, _| {
            planes.windows(|index, ranges, count| {
                let mut sum = 0f32;
                planes.visit(ranges, |place| sum += input[place]);
                output[index] = sum / divisor.map_or(count as f32, |divisor| divisor as f32);
            });
        }
    ))?;
    one(result)
}

/// As many windows as outputs are wanted, as even as possible.
fn adaptive(
    context: &Context,
    arguments: &Arguments,
    dims: usize,
    maximum: bool,
    with_indices: bool,
) -> Results {
    let input = arguments.tensor("self")?;
    let wanted = arguments.list("output_size")?;
    let planes = Planes::new(context, input, dims, |dim, entries| {
        let outputs = match wanted.get(dim).or(wanted.last()) {
            Some(crate::Value::Int(outputs)) => size("output_size", *outputs)?,
            _ => entries,
        };
        let windows = (0..outputs).map(|output| {
            let (first, end) = (
                output * entries / outputs,
                ((output + 1) * entries).div_ceil(outputs),
            );
            (first, end, 1, end - first)
        });
        listed(outputs, windows)
    })?;
    if maximum {
        maxima(context, &planes, with_indices)
    } else {
        means(context, &planes, None)
    }
}
