//! Convolutions over up to three dimensions, forwards and transposed.

use super::convert::Real;
use super::matrix::{Bias, product, sum_of_products};
use super::rows::correlate;
use super::scratch::Scratch;
use super::vectorised;
use super::window::{Matrix, Window};
use crate::OperatorError;
use rayon::prelude::*;
use std::ops::Range;

/// Elements of unfolded input that one thread works on: a second level cache of them.
const UNFOLDED: usize = 1 << 18;
/// Outputs of one channel that are worth reading its weights for.
const WORTH_WEIGHTS: usize = 128;
/// Outputs of a depthwise convolution that stay in registers.
const LANES: usize = 64;

/// A convolution's shapes. Three dimensions always: those that are missing have one entry.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Convolution {
    pub batches: usize,
    /// Channels of the input, and of the output.
    pub channels: [usize; 2],
    pub groups: usize,
    /// Entries of the input, the kernel and the output along each dimension.
    pub input: [usize; 3],
    pub kernel: [usize; 3],
    pub output: [usize; 3],
    pub stride: [usize; 3],
    /// Zeros before the first entry.
    pub padding: [usize; 3],
    pub dilation: [usize; 3],
}

impl Convolution {
    fn input_size(&self) -> usize {
        self.input.iter().product()
    }

    fn output_size(&self) -> usize {
        self.output.iter().product()
    }

    fn taps(&self) -> usize {
        self.kernel.iter().product()
    }

    /// Whether each output depends on the input at its own place only.
    fn is_pointwise(&self) -> bool {
        self.taps() == 1 && self.stride == [1; 3] && self.padding == [0; 3]
    }
}

/// Correlates `input` (batch, channel, …) with `weight` (channel out, channel in / groups, …).
///
/// # Errors
/// Slices that are shorter than the shapes say.
pub fn convolution<T: Real>(
    shape: &Convolution,
    input: &[T],
    weight: &[T],
    bias: Option<&[f32]>,
    to: &mut [T],
    threads: usize,
) -> Result<(), OperatorError> {
    let [channels, outputs] = shape.channels;
    let (channels, outputs) = (channels / shape.groups, outputs / shape.groups);
    if to.is_empty() {
        return Ok(());
    }
    if channels == 1
        && outputs == 1
        && shape.input[0] == 1
        && shape.kernel[0] == 1
        && shape.padding[0] == 0
    {
        return depthwise(shape, input, weight, bias, to);
    }
    let (size, unfolded) = (shape.output_size(), channels * shape.taps());
    let tile = (UNFOLDED / unfolded.max(outputs).max(1))
        .clamp(WORTH_WEIGHTS, 2048)
        .next_multiple_of(16)
        .min(size);
    let planes = shape.batches * shape.groups;
    // Where there are fewer tiles than threads, each of them computes some of the channels.
    let tiles = planes * size.div_ceil(tile);
    let rows = if tiles >= threads {
        outputs
    } else {
        outputs
            .div_ceil(threads.div_ceil(tiles))
            .next_multiple_of(16)
    };
    let mut tasks = Vec::new();
    for (plane, to) in to.chunks_mut(outputs * size).enumerate() {
        for (row, column, part) in Window::new(to, outputs, size, size)?.parts(rows, tile) {
            tasks.push((plane, row, column, part));
        }
    }
    tasks
        .into_par_iter()
        .try_for_each(|(plane, row, column, to)| {
            let group = plane % shape.groups;
            let first = group * outputs + row;
            let weight = Matrix::new(
                &weight[first * unfolded..],
                [to.rows, unfolded],
                [unfolded, 1],
            )?;
            let bias = bias.map_or(Bias::None, |bias| Bias::Rows(&bias[first..first + to.rows]));
            let input = &input[plane * channels * shape.input_size()..];
            let columns = column..column + to.columns;
            if shape.is_pointwise() {
                let input = Matrix::new(input, [channels, size], [size, 1])?;
                product(weight, input.part(0..channels, columns), bias, to, 1);
            } else {
                // As many channels at once as stay in the cache.
                let (width, taps) = (to.columns, shape.taps());
                let together = (UNFOLDED / (width * taps).max(1)).clamp(1, channels.max(1)) * taps;
                let patches = |range: Range<usize>, to: &mut [f32]| {
                    let first = range.start / taps * shape.input_size();
                    let channels = range.len() / taps;
                    to.fill(0.0);
                    unfold(shape, channels, &input[first..], columns.clone(), to);
                };
                sum_of_products(weight, together, patches, bias, to)?;
            }
            Ok(())
        })
}

/// For each channel and tap a row: the inputs that the outputs `columns` multiply with it.
fn unfold<T: Real>(
    shape: &Convolution,
    channels: usize,
    input: &[T],
    columns: Range<usize>,
    to: &mut [f32],
) {
    let width = columns.len();
    let [_, height, length] = shape.input;
    let [_, rows, outputs] = shape.output;
    let mut to = to.chunks_mut(width);
    for channel in 0..channels {
        let plane = &input[channel * shape.input_size()..(channel + 1) * shape.input_size()];
        for_each_tap(shape.kernel, |tap| {
            let Some(to) = to.next() else { return };
            let mut at = columns.start;
            while at < columns.end {
                let (line, x) = (at / outputs, at % outputs);
                let run = (outputs - x).min(columns.end - at);
                let to = &mut to[at - columns.start..at - columns.start + run];
                at += run;
                let place = [line / rows, line % rows];
                let source = [0, 1].map(|dim| {
                    (place[dim] * shape.stride[dim] + tap[dim] * shape.dilation[dim])
                        .checked_sub(shape.padding[dim])
                        .filter(|&source| source < shape.input[dim])
                });
                let (Some(z), Some(y)) = (source[0], source[1]) else {
                    continue;
                };
                let line = &plane[(z * height + y) * length..(z * height + y + 1) * length];
                copy_line(shape, line, x, tap[2] * shape.dilation[2], to);
            }
        });
    }
}

/// What the outputs from `x` on multiply with the tap at `tap` of one line of input; what lies outside stays zero.
fn copy_line<T: Real>(shape: &Convolution, line: &[T], x: usize, tap: usize, to: &mut [f32]) {
    let (stride, padding) = (shape.stride[2], shape.padding[2]);
    // Output i reads line[(x + i) · stride + tap - padding].
    let start = padding
        .saturating_sub(tap)
        .div_ceil(stride)
        .saturating_sub(x)
        .min(to.len());
    let end = (line.len() + padding)
        .saturating_sub(tap)
        .div_ceil(stride)
        .saturating_sub(x)
        .min(to.len());
    if start >= end {
        return;
    }
    let first = (x + start) * stride + tap - padding;
    let to = &mut to[start..end];
    if stride == 1 {
        T::load(&line[first..first + to.len()], to);
        return;
    }
    match T::slice(line) {
        Some(line) => {
            for (to, from) in to.iter_mut().zip(line[first..].iter().step_by(stride)) {
                *to = *from;
            }
        }
        None => {
            let gathered: Vec<T> = line[first..]
                .iter()
                .step_by(stride)
                .take(to.len())
                .copied()
                .collect();
            T::load(&gathered, to);
        }
    }
}

fn for_each_tap(kernel: [usize; 3], mut visit: impl FnMut([usize; 3])) {
    for z in 0..kernel[0] {
        for y in 0..kernel[1] {
            for x in 0..kernel[2] {
                visit([z, y, x]);
            }
        }
    }
}

/// One channel in, one channel out, in two dimensions.
fn depthwise<T: Real>(
    shape: &Convolution,
    input: &[T],
    weight: &[T],
    bias: Option<&[f32]>,
    to: &mut [T],
) -> Result<(), OperatorError> {
    let [_, height, length] = shape.input;
    let [_, rows, outputs] = shape.output;
    let [_, down, across] = shape.stride;
    // The plane with its zeros around it, as far as any output reads.
    let reach = |dim: usize| {
        (shape.output[dim] - 1) * shape.stride[dim]
            + (shape.kernel[dim] - 1) * shape.dilation[dim]
            + 1
    };
    let padded = [reach(1), reach(2)];
    let mut offsets = Vec::new();
    for_each_tap(shape.kernel, |[_, y, x]| {
        offsets.push(y * shape.dilation[1] * padded[1] + x * shape.dilation[2]);
    });
    let taps = shape.taps();
    to.par_chunks_mut(rows * outputs)
        .enumerate()
        .try_for_each(|(plane, to)| {
            let channel = plane % shape.channels[0];
            let input = &input[plane * height * length..(plane + 1) * height * length];
            let mut weights = vec![0f32; taps];
            T::load(&weight[channel * taps..(channel + 1) * taps], &mut weights);
            let bias = bias.map_or(0.0, |bias| bias[channel]);
            let mut source = Scratch::zeros(padded[0] * padded[1] + 2 * LANES);
            let [top, left] = [shape.padding[1], shape.padding[2]];
            let width = length.min(padded[1].saturating_sub(left));
            for y in 0..height.min(padded[0].saturating_sub(top)) {
                let at = (y + top) * padded[1] + left;
                T::load(
                    &input[y * length..y * length + width],
                    &mut source[at..at + width],
                );
            }
            let mut line = vec![0f32; outputs.next_multiple_of(LANES)];
            if across == 1 && down == 1 {
                // Lines with their padding are one long line: short lines are as fast as long ones.
                let all = (rows - 1) * padded[1] + outputs;
                let mut sums = Scratch::new(all.next_multiple_of(LANES));
                correlate(&source, &offsets, &weights, bias, &mut sums);
                for (y, to) in to.chunks_mut(outputs).enumerate() {
                    T::store(&sums[y * padded[1]..y * padded[1] + outputs], to);
                }
            } else {
                for (y, to) in to.chunks_mut(outputs).enumerate() {
                    let source = &source[y * down * padded[1]..];
                    vectorised(
                        #[inline(always)]
                        || {
                            line.fill(bias);
                            for (&offset, &weight) in offsets.iter().zip(&weights) {
                                for (x, sum) in line[..outputs].iter_mut().enumerate() {
                                    *sum = weight.mul_add(source[offset + x * across], *sum);
                                }
                            }
                        },
                    );
                    T::store(&line[..outputs], to);
                }
            }
            Ok(())
        })
}

/// The transpose of [`convolution`] as a linear map: `weight` is (channel in, channel out / groups, …), and `shape.input`
/// and `shape.output` are those of this operation.
///
/// # Errors
/// Slices that are shorter than the shapes say.
pub fn transposed_convolution<T: Real>(
    shape: &Convolution,
    input: &[T],
    weight: &[T],
    bias: Option<&[f32]>,
    to: &mut [T],
) -> Result<(), OperatorError> {
    let [channels, outputs] = shape.channels;
    let (channels, outputs) = (channels / shape.groups, outputs / shape.groups);
    let (size, taps, places) = (shape.output_size(), shape.taps(), shape.input_size());
    if to.is_empty() {
        return Ok(());
    }
    let block = (UNFOLDED / (taps * places).max(1)).clamp(1, outputs);
    let tasks: Vec<_> = to
        .chunks_mut(outputs * size)
        .enumerate()
        .flat_map(|(plane, to)| {
            to.chunks_mut(block * size)
                .enumerate()
                .map(move |(number, to)| (plane, number * block, to))
        })
        .collect();
    tasks.into_par_iter().try_for_each(|(plane, first, to)| {
        let group = plane % shape.groups;
        let rows = to.len() / size * taps;
        let weight = &weight[group * channels * outputs * taps + first * taps..];
        let weight = Matrix::new(weight, [rows, channels], [1, outputs * taps])?;
        let input = Matrix::new(
            &input[plane * channels * places..],
            [channels, places],
            [places, 1],
        )?;
        let mut spread = Scratch::new(rows * places);
        product(
            weight,
            input,
            Bias::None,
            Window::new(&mut spread, rows, places, places)?,
            1,
        );
        let mut sums = Scratch::new(size);
        for (index, to) in to.chunks_mut(size).enumerate() {
            sums.fill(bias.map_or(0.0, |bias| bias[group * outputs + first + index]));
            let mut spread = spread[index * taps * places..].chunks(places);
            for_each_tap(shape.kernel, |tap| {
                if let Some(spread) = spread.next() {
                    add_tap(shape, tap, spread, &mut sums);
                }
            });
            T::store(&sums, to);
        }
        Ok(())
    })
}

/// Adds what one tap makes of each input to the output that it goes to.
fn add_tap(shape: &Convolution, tap: [usize; 3], spread: &[f32], sums: &mut [f32]) {
    let target = |dim: usize, place: usize| {
        (place * shape.stride[dim] + tap[dim] * shape.dilation[dim])
            .checked_sub(shape.padding[dim])
            .filter(|&target| target < shape.output[dim])
    };
    let [_, height, length] = shape.input;
    let [_, rows, outputs] = shape.output;
    for (line, spread) in spread.chunks(length).enumerate() {
        let (Some(z), Some(y)) = (target(0, line / height), target(1, line % height)) else {
            continue;
        };
        let sums = &mut sums[(z * rows + y) * outputs..][..outputs];
        for (x, value) in spread.iter().enumerate() {
            if let Some(x) = target(2, x) {
                sums[x] += value;
            }
        }
    }
}
