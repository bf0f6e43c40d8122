//! Sliding windows of images as columns of a matrix, and back: `unfold` and `fold` of `torch.nn`.

use super::operand::{Results, one, size, sizes, with_element, wrong_shape};
use crate::{Arguments, Context, OperatorError, Tensor};
use weightstream::Dtype;

pub(super) const OPERATORS: super::Family = &[
    ("aten.im2col.default", unfold),
    ("aten.col2im.default", fold),
];

/// Where windows lie in an image.
struct Windows {
    image: [usize; 2],
    kernel: [usize; 2],
    dilation: [usize; 2],
    padding: [usize; 2],
    stride: [usize; 2],
    /// How many of them, down and to the right.
    count: [usize; 2],
}

impl Windows {
    fn new(arguments: &Arguments, image: [usize; 2]) -> Result<Self, OperatorError> {
        let pair = |name| -> Result<[usize; 2], OperatorError> {
            let given = sizes(arguments, name)?;
            match given[..] {
                [both] => Ok([both; 2]),
                [down, right] => Ok([down, right]),
                _ => size(name, -1).map(|_| [0; 2]),
            }
        };
        let (kernel, dilation) = (pair("kernel_size")?, pair("dilation")?);
        let (padding, stride) = (
            pair("padding")?,
            pair("stride")?.map(|stride| stride.max(1)),
        );
        let mut count = [0; 2];
        for dim in 0..2 {
            let reach = dilation[dim] * kernel[dim].saturating_sub(1) + 1;
            count[dim] = (image[dim] + 2 * padding[dim])
                .checked_sub(reach)
                .map(|rest| rest / stride[dim] + 1)
                .ok_or_else(|| OperatorError::Shape {
                    expected: format!("at least {reach} entries with the padding"),
                    got: image.to_vec(),
                })?;
        }
        Ok(Self {
            image,
            kernel,
            dilation,
            padding,
            stride,
            count,
        })
    }

    /// Calls `visit` with the place in the columns of one channel, and that in its image, where it isn't padding.
    fn for_each(&self, mut visit: impl FnMut(usize, Option<usize>)) {
        let place = |dim: usize, tap: usize, window: usize| {
            (window * self.stride[dim] + tap * self.dilation[dim])
                .checked_sub(self.padding[dim])
                .filter(|&place| place < self.image[dim])
        };
        let mut at = 0;
        for row in 0..self.kernel[0] {
            for column in 0..self.kernel[1] {
                for down in 0..self.count[0] {
                    let y = place(0, row, down);
                    for right in 0..self.count[1] {
                        let x = place(1, column, right);
                        visit(at, y.zip(x).map(|(y, x)| y * self.image[1] + x));
                        at += 1;
                    }
                }
            }
        }
    }

    fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    fn windows(&self) -> usize {
        self.count[0] * self.count[1]
    }
}

/// (batch, channel, height, width) → (batch, channel · taps, windows).
fn unfold(context: &Context, arguments: Arguments) -> Results {
    let input = arguments.tensor("self")?;
    let (batch, channels, image) = match *input.shape() {
        [channels, height, width] => (None, channels, [height, width]),
        [batch, channels, height, width] => (Some(batch), channels, [height, width]),
        _ => return Err(wrong_shape("(batch, channel, height, width)", input)),
    };
    let windows = Windows::new(&arguments, image)?;
    let shape: Vec<usize> = batch
        .into_iter()
        .chain([channels * windows.taps(), windows.windows()])
        .collect();
    let source = context.contiguous(input)?;
    let result = context.empty(input.dtype(), &shape)?;
    let (plane, length) = (image[0] * image[1], windows.taps() * windows.windows());
    if result.count() > 0 && plane > 0 {
        with_element!(input.dtype(), |T| {
            let from = source.elements::<T>()?;
            let mut to = result.elements_mut::<T>()?;
            for (from, to) in from.chunks(plane).zip(to.chunks_mut(length)) {
                windows.for_each(|at, place| {
                    to[at] = place.map_or(T::default(), |place| from[place]);
                });
            }
            Ok(())
        })?;
    }
    one(result)
}

/// (batch, channel · taps, windows) → (batch, channel, height, width), what overlaps being added.
fn fold(context: &Context, arguments: Arguments) -> Results {
    let input = arguments.tensor("self")?;
    let (batch, rows, count) = match *input.shape() {
        [rows, count] => (None, rows, count),
        [batch, rows, count] => (Some(batch), rows, count),
        _ => return Err(wrong_shape("(batch, channel · taps, windows)", input)),
    };
    let wanted = sizes(&arguments, "output_size")?;
    let image = match wanted[..] {
        [side] => [side; 2],
        [height, width] => [height, width],
        _ => return Err(wrong_shape("a height and a width", input)),
    };
    let windows = Windows::new(&arguments, image)?;
    if count != windows.windows() || rows % windows.taps().max(1) != 0 {
        return Err(wrong_shape(
            format!(
                "rows for {} taps, and {} windows",
                windows.taps(),
                windows.windows()
            ),
            input,
        ));
    }
    let channels = rows / windows.taps().max(1);
    let shape: Vec<usize> = batch
        .into_iter()
        .chain([channels, image[0], image[1]])
        .collect();
    let source: Tensor = context.cast(input, Dtype::F32)?;
    let result = context.empty(Dtype::F32, &shape)?;
    let (plane, length) = (image[0] * image[1], windows.taps() * count);
    if result.count() > 0 && length > 0 {
        let from = source.elements::<f32>()?;
        let mut to = result.elements_mut::<f32>()?;
        to.fill(0.0);
        for (from, to) in from.chunks(length).zip(to.chunks_mut(plane)) {
            windows.for_each(|at, place| {
                if let Some(place) = place {
                    to[place] += from[at];
                }
            });
        }
    }
    one(context.cast(&result, input.dtype())?)
}
