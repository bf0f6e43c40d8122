//! Convolutions.

use super::operand::{Results, one, size, with_real, wrong_shape};
use crate::kernels::{Convolution, convolution, transposed_convolution};
use crate::{Arguments, Context, OperatorError, Tensor};
use weightstream::Dtype;

pub(super) const OPERATORS: super::Family = &[
    ("aten.conv1d.default", forward),
    ("aten.conv2d.default", forward),
    ("aten.conv3d.default", forward),
    ("aten.conv1d.padding", forward),
    ("aten.conv2d.padding", forward),
    ("aten.conv3d.padding", forward),
    ("aten.convolution.default", |context, arguments| {
        convolve(context, &arguments, arguments.bool_or("transposed", false)?)
    }),
    ("aten.conv_transpose1d.default", transposed),
    ("aten.conv_transpose2d.input", transposed),
    ("aten.conv_transpose3d.input", transposed),
];

fn forward(context: &Context, arguments: Arguments) -> Results {
    convolve(context, &arguments, false)
}

fn transposed(context: &Context, arguments: Arguments) -> Results {
    convolve(context, &arguments, true)
}

fn convolve(context: &Context, arguments: &Arguments, transposed: bool) -> Results {
    let (input, weight) = (arguments.tensor("input")?, arguments.tensor("weight")?);
    let dims = weight
        .rank()
        .checked_sub(2)
        .filter(|dims| (1..=3).contains(dims));
    let dims = dims.ok_or_else(|| wrong_shape("a kernel of one to three dimensions", weight))?;
    let unbatched = input.rank() == dims + 1;
    let input = if unbatched {
        input.unsqueeze(0)?
    } else {
        input.clone()
    };
    if input.rank() != dims + 2 || input.dtype() != weight.dtype() {
        return Err(wrong_shape(
            format!("(batch, channel, …) for a kernel of {:?}", weight.shape()),
            &input,
        ));
    }
    let groups = size("groups", arguments.int_or("groups", 1)?)?.max(1);
    let stride = along(arguments, "stride", dims, 1)?.map(|stride| stride.max(1));
    let dilation = along(arguments, "dilation", dims, 1)?.map(|dilation| dilation.max(1));
    let kernel = spatial(&weight.shape()[2..]);
    let places = spatial(&input.shape()[2..]);
    let (channels, other) = (weight.shape()[0], weight.shape()[1]);
    let channels = if transposed {
        [channels, other * groups]
    } else {
        [other * groups, channels]
    };
    if input.shape()[1] != channels[0] || channels.iter().any(|channels| channels % groups != 0) {
        return Err(wrong_shape(
            format!("{} channels in {groups} groups", channels[0]),
            &input,
        ));
    }
    let reach: [usize; 3] = std::array::from_fn(|dim| dilation[dim] * (kernel[dim].max(1) - 1) + 1);
    // Zeros before and after.
    let (before, after) = match arguments.text_or("padding", "") {
        Ok("same") => {
            let before = reach.map(|reach| (reach - 1) / 2);
            (
                before,
                std::array::from_fn(|dim| reach[dim] - 1 - before[dim]),
            )
        }
        Ok(_) => ([0; 3], [0; 3]),
        Err(_) => {
            let padding = along(arguments, "padding", dims, 0)?;
            (padding, padding)
        }
    };
    let mut output = [0; 3];
    if transposed {
        let extra = along(arguments, "output_padding", dims, 0)?;
        for dim in 0..3 {
            output[dim] = ((places[dim].max(1) - 1) * stride[dim] + reach[dim] + extra[dim])
                .saturating_sub(2 * before[dim]);
        }
    } else {
        for dim in 0..3 {
            let whole = places[dim] + before[dim] + after[dim];
            let whole = whole.checked_sub(reach[dim]).ok_or_else(|| {
                wrong_shape(
                    format!(
                        "at least as many entries as the kernel's {:?}",
                        weight.shape()
                    ),
                    &input,
                )
            })?;
            output[dim] = whole / stride[dim] + 1;
        }
    }
    let shape = Convolution {
        batches: input.shape()[0],
        channels,
        groups,
        input: places,
        kernel,
        output,
        stride,
        padding: before,
        dilation,
    };
    let mut result = vec![shape.batches, channels[1]];
    result.extend(&output[3 - dims..]);
    let result = context.empty(input.dtype(), &result)?;
    let bias = arguments.optional_tensor("bias")?;
    let bias = bias
        .map(|bias| context.cast(bias, Dtype::F32))
        .transpose()?;
    if bias
        .as_ref()
        .is_some_and(|bias| bias.count() != channels[1])
    {
        return Err(OperatorError::Unsupported(format!(
            "a bias for each of {} channels is expected",
            channels[1]
        )));
    }
    let bias = bias.as_ref().map(Tensor::elements::<f32>).transpose()?;
    let (input, weight) = (context.contiguous(&input)?, context.contiguous(weight)?);
    with_real!(input.dtype(), |T| {
        let (input, weight) = (input.elements::<T>()?, weight.elements::<T>()?);
        let mut to = result.elements_mut::<T>()?;
        if transposed {
            transposed_convolution(&shape, &input, &weight, bias.as_deref(), &mut to)
        } else {
            convolution(
                &shape,
                &input,
                &weight,
                bias.as_deref(),
                &mut to,
                context.threads(),
            )
        }
    })?;
    one(if unbatched {
        result.squeeze(0)?
    } else {
        result
    })
}

/// Numbers for the last `dims` of three dimensions; one number is for all of them.
fn along(
    arguments: &Arguments,
    name: &'static str,
    dims: usize,
    default: usize,
) -> Result<[usize; 3], OperatorError> {
    let given = arguments.ints_or(name, &[])?;
    let mut all = [default; 3];
    for (index, value) in all[3 - dims..].iter_mut().enumerate() {
        if let Some(&given) = given.get(index).or(given.last()) {
            *value = size(name, given)?;
        }
    }
    Ok(all)
}

fn spatial(sizes: &[usize]) -> [usize; 3] {
    let mut all = [1; 3];
    all[3 - sizes.len()..].copy_from_slice(sizes);
    all
}
