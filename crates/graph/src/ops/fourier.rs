//! Fourier transforms. The transform itself is rustfft's.

use super::operand::{Results, one, size, wrong_shape};
use super::{call, complex};
use crate::{Arguments, Context, OperatorError, Tensor, Value};
use num_complex::Complex32;
use rustfft::{FftDirection, FftPlanner};
use weightstream::Dtype;

pub(super) const OPERATORS: super::Family = &[
    ("aten.fft_fft.default", |c, a| {
        along_one(c, &a, Kind::Complex(FftDirection::Forward))
    }),
    ("aten.fft_ifft.default", |c, a| {
        along_one(c, &a, Kind::Complex(FftDirection::Inverse))
    }),
    ("aten.fft_rfft.default", |c, a| {
        along_one(c, &a, Kind::FromReal)
    }),
    ("aten.fft_irfft.default", |c, a| {
        along_one(c, &a, Kind::ToReal)
    }),
    ("aten.fft_fft2.default", |c, a| {
        along_several(c, &a, Kind::Complex(FftDirection::Forward), 2)
    }),
    ("aten.fft_ifft2.default", |c, a| {
        along_several(c, &a, Kind::Complex(FftDirection::Inverse), 2)
    }),
    ("aten.fft_rfft2.default", |c, a| {
        along_several(c, &a, Kind::FromReal, 2)
    }),
    ("aten.fft_irfft2.default", |c, a| {
        along_several(c, &a, Kind::ToReal, 2)
    }),
    ("aten.fft_fftn.default", |c, a| {
        along_several(c, &a, Kind::Complex(FftDirection::Forward), 0)
    }),
    ("aten.fft_ifftn.default", |c, a| {
        along_several(c, &a, Kind::Complex(FftDirection::Inverse), 0)
    }),
    ("aten.fft_rfftn.default", |c, a| {
        along_several(c, &a, Kind::FromReal, 0)
    }),
    ("aten.fft_irfftn.default", |c, a| {
        along_several(c, &a, Kind::ToReal, 0)
    }),
    ("aten._fft_c2c.default", |c, a| {
        let direction = if a.bool_or("forward", true)? {
            FftDirection::Forward
        } else {
            FftDirection::Inverse
        };
        core(c, &a, Kind::Complex(direction))
    }),
    ("aten._fft_r2c.default", |c, a| core(c, &a, Kind::FromReal)),
    ("aten._fft_c2r.default", |c, a| core(c, &a, Kind::ToReal)),
    ("aten.fft_fftshift.default", |c, a| shifted(c, &a, true)),
    ("aten.fft_ifftshift.default", |c, a| shifted(c, &a, false)),
    ("aten.fft_fftfreq.default", |c, a| frequencies(c, &a, true)),
    ("aten.fft_rfftfreq.default", |c, a| {
        frequencies(c, &a, false)
    }),
];

/// What comes and what goes.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// Complex numbers both.
    Complex(FftDirection),
    /// Real numbers have a spectrum that half of it tells.
    FromReal,
    /// The inverse of that.
    ToReal,
}

impl Kind {
    fn direction(self) -> FftDirection {
        match self {
            Self::Complex(direction) => direction,
            Self::FromReal => FftDirection::Forward,
            Self::ToReal => FftDirection::Inverse,
        }
    }
}

/// What results are divided by: nothing, the root of the number of points, or that number.
fn divisor(
    arguments: &Arguments,
    direction: FftDirection,
    points: usize,
) -> Result<f64, OperatorError> {
    let points = points as f64;
    match (arguments.text_or("norm", "backward")?, direction) {
        ("ortho", _) => Ok(points.sqrt()),
        ("backward", FftDirection::Inverse) | ("forward", FftDirection::Forward) => Ok(points),
        ("backward" | "forward", _) => Ok(1.0),
        (other, _) => Err(OperatorError::Argument {
            argument: "norm",
            expected: "backward, ortho or forward",
            got: other.into(),
        }),
    }
}

/// Cut to `length` entries along a dimension, or with zeros behind.
fn fitted(
    context: &Context,
    tensor: &Tensor,
    dim: usize,
    length: usize,
) -> Result<Tensor, OperatorError> {
    let entries = tensor.shape()[dim];
    if length <= entries {
        return tensor.narrow(dim, 0, length, 1);
    }
    let mut shape = tensor.shape().to_vec();
    shape[dim] = length;
    let padded = context.empty(tensor.dtype(), &shape)?;
    context.assign(&padded, &context.scalar(0i64)?)?;
    context.assign(&padded.narrow(dim, 0, entries, 1)?, tensor)?;
    Ok(padded)
}

/// The transform along one dimension, in place of each row.
fn transformed(
    context: &Context,
    tensor: &Tensor,
    dim: usize,
    direction: FftDirection,
) -> Result<Tensor, OperatorError> {
    let last = tensor.rank() - 1;
    let rows = tensor.transpose(dim, last)?;
    let result = context.empty(Dtype::C64, rows.shape())?;
    context.assign(&result, &rows)?;
    let length = result.shape()[last];
    if length == 0 {
        return Err(wrong_shape("at least one point to transform", tensor));
    }
    let plan = FftPlanner::<f32>::new().plan_fft(length, direction);
    let mut scratch = vec![Complex32::default(); plan.get_inplace_scratch_len()];
    let mut row = vec![Complex32::default(); length];
    let mut elements = result.elements_mut::<[f32; 2]>()?;
    for values in elements.chunks_mut(length) {
        for (to, &[real, imaginary]) in row.iter_mut().zip(values.iter()) {
            *to = Complex32::new(real, imaginary);
        }
        plan.process_with_scratch(&mut row, &mut scratch);
        for (to, from) in values.iter_mut().zip(&row) {
            *to = [from.re, from.im];
        }
    }
    drop(elements);
    result.transpose(dim, last)
}

/// The whole spectrum of `length` points of which `tensor` has the first half.
fn mirrored(
    context: &Context,
    tensor: &Tensor,
    dim: usize,
    length: usize,
) -> Result<Tensor, OperatorError> {
    let half = fitted(context, tensor, dim, length / 2 + 1)?;
    let whole = fitted(context, &half, dim, length)?;
    let whole = context.copied(&whole)?;
    for place in length / 2 + 1..length {
        let [from] =
            &complex::mapped(context, &half.select(dim, length - place)?, |a| a.conj())?[..]
        else {
            continue;
        };
        if let Value::Tensor(from) = from {
            context.assign(&whole.select(dim, place)?, from)?;
        }
    }
    // What belongs to a real signal has no imaginary part there.
    for place in [Some(0), (length.is_multiple_of(2)).then_some(length / 2)]
        .into_iter()
        .flatten()
    {
        let part = whole.select(dim, place)?.part(1)?;
        context.assign(&part, &context.scalar(0i64)?)?;
    }
    Ok(whole)
}

/// The transform along dimensions of these lengths, divided by `divisor`.
fn run(
    context: &Context,
    tensor: &Tensor,
    dims: &[usize],
    lengths: &[usize],
    kind: Kind,
    onesided: bool,
    divisor: f64,
) -> Results {
    let Some((&last, &length)) = dims.last().zip(lengths.last()) else {
        return one(tensor.clone());
    };
    if kind == Kind::FromReal && tensor.is_complex() {
        return Err(wrong_shape("real numbers", tensor));
    }
    let mut current = context.cast(tensor, Dtype::C64)?;
    for (&dim, &length) in dims.iter().zip(lengths) {
        if kind != Kind::ToReal || dim != last {
            current = fitted(context, &current, dim, length)?;
        }
    }
    // To real numbers the halved dimension comes last, from real numbers any order will do.
    for &dim in &dims[..dims.len() - 1] {
        current = transformed(context, &current, dim, kind.direction())?;
    }
    if kind == Kind::ToReal {
        current = mirrored(context, &current, last, length)?;
    }
    current = transformed(context, &current, last, kind.direction())?;
    if kind == Kind::FromReal && onesided {
        current = current.narrow(last, 0, length / 2 + 1, 1)?;
    }
    let factor = (1.0 / divisor) as f32;
    let scaled = complex::mapped(context, &current, |a| a * factor)?;
    match (kind, scaled.into_iter().next()) {
        (Kind::ToReal, Some(Value::Tensor(scaled))) => one(context.contiguous(&scaled.part(0)?)?),
        (_, Some(scaled)) => Ok(vec![scaled]),
        (_, None) => Ok(Vec::new()),
    }
}

/// How many points a dimension has where the arguments don't say.
fn natural(tensor: &Tensor, dim: usize, kind: Kind) -> usize {
    let entries = tensor.shape()[dim];
    if kind == Kind::ToReal {
        2 * (entries.max(1) - 1)
    } else {
        entries
    }
}

fn along_one(context: &Context, arguments: &Arguments, kind: Kind) -> Results {
    let tensor = arguments.tensor("self")?;
    let dim = tensor.dimension(arguments.int_or("dim", -1)?)?;
    if tensor.rank() == 0 {
        return Err(wrong_shape("at least one dimension", tensor));
    }
    let length = match arguments.optional_int("n")? {
        Some(length) => size("n", length)?,
        None => natural(tensor, dim, kind),
    };
    let divisor = divisor(arguments, kind.direction(), length)?;
    run(context, tensor, &[dim], &[length], kind, true, divisor)
}

/// Along the dimensions that `dim` says; else the last `default` ones, or as many as there are sizes, or all.
fn along_several(context: &Context, arguments: &Arguments, kind: Kind, default: usize) -> Results {
    let tensor = arguments.tensor("self")?;
    let sizes = arguments.ints_or("s", &[])?;
    let count = if !sizes.is_empty() {
        sizes.len()
    } else if default > 0 {
        default
    } else {
        tensor.rank()
    };
    let last: Vec<i64> = (1..=count as i64).rev().map(|dim| -dim).collect();
    let dims = arguments
        .ints_or("dim", &last)?
        .into_iter()
        .map(|dim| tensor.dimension(dim))
        .collect::<Result<Vec<_>, _>>()?;
    let mut lengths: Vec<usize> = dims.iter().map(|&dim| tensor.shape()[dim]).collect();
    if let (Some(length), Some(&dim)) = (lengths.last_mut(), dims.last()) {
        *length = natural(tensor, dim, kind);
    }
    for (length, &given) in lengths.iter_mut().zip(&sizes) {
        if given >= 0 {
            *length = given as usize;
        }
    }
    let divisor = divisor(arguments, kind.direction(), lengths.iter().product())?;
    run(context, tensor, &dims, &lengths, kind, true, divisor)
}

/// The core operators, which number the normalisation: 0 none, 1 by the root, 2 by the number of points.
fn core(context: &Context, arguments: &Arguments, kind: Kind) -> Results {
    let tensor = arguments.tensor("self")?;
    let dims = arguments
        .ints("dim")?
        .into_iter()
        .map(|dim| tensor.dimension(dim))
        .collect::<Result<Vec<_>, _>>()?;
    let mut lengths: Vec<usize> = dims.iter().map(|&dim| tensor.shape()[dim]).collect();
    if let (Kind::ToReal, Some(length)) = (kind, lengths.last_mut()) {
        *length = size("last_dim_size", arguments.int("last_dim_size")?)?;
    }
    let points = lengths.iter().product::<usize>() as f64;
    let divisor = match arguments.int_or("normalization", 0)? {
        1 => points.sqrt(),
        2 => points,
        _ => 1.0,
    };
    let onesided = arguments.bool_or("onesided", true)?;
    run(context, tensor, &dims, &lengths, kind, onesided, divisor)
}

/// The frequency zero moved to the middle, or back.
fn shifted(context: &Context, arguments: &Arguments, to_middle: bool) -> Results {
    let tensor = arguments.tensor("self")?;
    let all: Vec<i64> = (0..tensor.rank() as i64).collect();
    let dims = arguments.ints_or("dim", &all)?;
    let mut shifts = Vec::new();
    for &dim in &dims {
        let entries = tensor.shape()[tensor.dimension(dim)?];
        shifts.push(if to_middle {
            entries / 2
        } else {
            entries.div_ceil(2)
        } as i64);
    }
    let named = [
        ("self", tensor.clone().into()),
        ("shifts", shifts.into()),
        ("dims", dims.into()),
    ];
    call(context, "aten.roll.default", named)
}

/// The frequencies of a transform of `n` points that lie `d` apart.
fn frequencies(context: &Context, arguments: &Arguments, both: bool) -> Results {
    let points = arguments.int("n")?;
    let scale = 1.0 / (points as f64 * arguments.float_or("d", 1.0)?);
    let places: Vec<f64> = if both {
        (0..points)
            .map(|place| {
                if place < (points + 1) / 2 {
                    place
                } else {
                    place - points
                }
            })
            .map(|place| place as f64 * scale)
            .collect()
    } else {
        (0..points / 2 + 1)
            .map(|place| place as f64 * scale)
            .collect()
    };
    let dtype = arguments.optional_dtype("dtype")?.unwrap_or(Dtype::F32);
    one(context.cast(&context.tensor(&places, &[places.len()])?, dtype)?)
}
