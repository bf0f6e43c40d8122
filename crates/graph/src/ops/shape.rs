//! Other shapes and orders of the same elements; views wherever no element has to move.

use super::operand::{Results, one, size, sizes, with_element, wrong_shape};
use crate::memory::{listed, reserved};
use crate::{Arguments, Context, OperatorError, Tensor, Value, dimension};
use weightstream::Dtype;

pub(super) const OPERATORS: super::Family = &[
    ("aten.view.default", |c, a| {
        reshape(c, a.tensor("self")?, &a.ints("size")?)
    }),
    ("aten._unsafe_view.default", |c, a| {
        reshape(c, a.tensor("self")?, &a.ints("size")?)
    }),
    ("aten.reshape.default", |c, a| {
        reshape(c, a.tensor("self")?, &a.ints("shape")?)
    }),
    ("aten.view_as.default", |c, a| {
        one(shaped(c, a.tensor("self")?, a.tensor("other")?.shape())?)
    }),
    ("aten.reshape_as.default", |c, a| {
        one(shaped(c, a.tensor("self")?, a.tensor("other")?.shape())?)
    }),
    ("aten.flatten.using_ints", flatten),
    ("aten.unflatten.int", unflatten),
    ("aten.as_strided.default", as_strided),
    ("aten.alias.default", same),
    ("aten.positive.default", same),
    ("aten.detach.default", same),
    ("aten.lift_fresh.default", same),
    ("aten.expand.default", expand),
    ("aten.expand_as.default", |_, a| {
        one(a.tensor("self")?.expand(a.tensor("other")?.shape())?)
    }),
    ("aten.broadcast_to.default", expand),
    ("aten.broadcast_tensors.default", broadcast_tensors),
    ("aten.permute.default", permute),
    ("aten.transpose.int", transpose),
    ("aten.swapaxes.default", transpose),
    ("aten.swapdims.default", transpose),
    ("aten.movedim.int", move_dimension),
    ("aten.movedim.intlist", move_dimension),
    ("aten.t.default", |_, a| transposed(a.tensor("self")?)),
    ("aten.numpy_T.default", |_, a| {
        let tensor = a.tensor("self")?;
        one(tensor.permute(&(0..tensor.rank()).rev().collect::<Vec<_>>())?)
    }),
    ("aten.mH.default", |_, a| {
        let tensor = a.tensor("self")?;
        one(tensor.transpose(tensor.rank().wrapping_sub(2), tensor.rank().wrapping_sub(1))?)
    }),
    ("aten.mT.default", |_, a| {
        let tensor = a.tensor("self")?;
        one(tensor.transpose(tensor.rank().wrapping_sub(2), tensor.rank().wrapping_sub(1))?)
    }),
    ("aten.unsqueeze.default", unsqueeze),
    ("aten.squeeze.default", squeeze),
    ("aten.squeeze.dim", squeeze),
    ("aten.squeeze.dims", squeeze),
    ("aten.slice.Tensor", |_, a| {
        one(sliced(&a, a.tensor("self")?)?)
    }),
    ("aten.narrow.default", narrow),
    ("aten.select.int", select),
    ("aten.split.Tensor", split),
    ("aten.split.sizes", split),
    ("aten.split_with_sizes.default", split),
    ("aten.chunk.default", chunk),
    ("aten.tensor_split.sections", tensor_split),
    ("aten.tensor_split.indices", |_, a| {
        split_at(a.tensor("self")?, a.int_or("dim", 0)?, &a.ints("indices")?)
    }),
    ("aten.tensor_split.tensor_indices_or_sections", |c, a| {
        let given = a.tensor("tensor_indices_or_sections")?;
        let values = c.cast(given, Dtype::I64)?.elements::<i64>()?.to_vec();
        if given.rank() > 0 {
            return split_at(a.tensor("self")?, a.int_or("dim", 0)?, &values);
        }
        let sections = Value::Int(values.first().copied().unwrap_or(1));
        let dim = Value::Int(a.int_or("dim", 0)?);
        let named = [
            ("self", a.value("self")?.clone()),
            ("sections", sections),
            ("dim", dim),
        ];
        tensor_split(c, Arguments::new(named))
    }),
    ("aten.hsplit.int", |c, a| split_evenly(c, &a, 1)),
    ("aten.vsplit.int", |c, a| split_evenly(c, &a, 0)),
    ("aten.dsplit.int", |c, a| split_evenly(c, &a, 2)),
    ("aten.hsplit.array", |_, a| {
        let tensor = a.tensor("self")?;
        split_at(tensor, i64::from(tensor.rank() > 1), &a.ints("indices")?)
    }),
    ("aten.vsplit.array", |_, a| {
        split_at(a.tensor("self")?, 0, &a.ints("indices")?)
    }),
    ("aten.dsplit.array", |_, a| {
        split_at(a.tensor("self")?, 2, &a.ints("indices")?)
    }),
    ("aten.unbind.int", unbind),
    ("aten.cat.default", cat),
    ("aten.stack.default", stack),
    ("aten.repeat.default", repeat),
    ("aten.tile.default", repeat),
    ("aten.repeat_interleave.self_int", repeat_interleave),
    ("aten.repeat_interleave.Tensor", |c, a| {
        let places = repeated_places(c, a.tensor("repeats")?)?;
        one(c.tensor(&places, &[places.len()])?)
    }),
    ("aten.repeat_interleave.self_Tensor", |c, a| {
        let tensor = a.tensor("self")?;
        let (tensor, dim) = match a.optional_int("dim")? {
            Some(dim) => (tensor.clone(), tensor.dimension(dim)?),
            None => (shaped(c, tensor, &[tensor.count()])?, 0),
        };
        let length = entries(&tensor, dim)?;
        let repeats = a.tensor("repeats")?;
        let repeats = if repeats.count() == 1 {
            let one = if repeats.rank() == 0 {
                repeats.unsqueeze(0)?
            } else {
                repeats.clone()
            };
            one.expand(&[length])?
        } else {
            repeats.clone()
        };
        let places = repeated_places(c, &repeats)?;
        let places: Vec<usize> = places
            .into_iter()
            .map(|place| index(place, length))
            .collect::<Result<_, _>>()?;
        one(rearranged(c, &tensor, dim, &places)?)
    }),
    ("aten.flip.default", flip),
    ("aten.fliplr.default", |c, a| {
        flipped(c, a.tensor("self")?, &[1])
    }),
    ("aten.flipud.default", |c, a| {
        flipped(c, a.tensor("self")?, &[0])
    }),
    ("aten.rot90.default", rotate),
    ("aten.ravel.default", |c, a| {
        let tensor = a.tensor("self")?;
        one(shaped(c, &c.contiguous(tensor)?, &[tensor.count()])?)
    }),
    ("aten.take.default", |c, a| {
        let (tensor, places) = (a.tensor("self")?, a.tensor("index")?);
        let flat = shaped(c, tensor, &[tensor.count()])?;
        let found = [
            ("self", flat.into()),
            ("indices", vec![places.clone()].into()),
        ];
        super::call(c, "aten.index.Tensor", found)
    }),
    ("aten.roll.default", roll),
    ("aten.unfold.default", unfold),
    ("aten.pixel_shuffle.default", pixel_shuffle),
    ("aten.pixel_unshuffle.default", pixel_unshuffle),
    ("aten.channel_shuffle.default", channel_shuffle),
    ("aten.view.dtype", view_dtype),
];

/// The sizes of `wanted` for `count` elements, in which one of -1 stands for what is missing.
fn inferred(tensor: &Tensor, wanted: &[i64]) -> Result<Vec<usize>, OperatorError> {
    let fail = || wrong_shape(format!("as many elements as {wanted:?}"), tensor);
    let mut sizes = wanted.iter().filter(|&&size| size >= 0);
    let known = sizes
        .try_fold(1usize, |known, &size| known.checked_mul(size as usize))
        .ok_or_else(fail)?;
    wanted
        .iter()
        .map(|&size| match size {
            -1 => tensor
                .count()
                .checked_div(known)
                .or((tensor.count() == 0).then_some(0))
                .ok_or_else(fail),
            size => usize::try_from(size).map_err(|_| fail()),
        })
        .collect()
}

fn reshape(context: &Context, tensor: &Tensor, wanted: &[i64]) -> Results {
    one(shaped(context, tensor, &inferred(tensor, wanted)?)?)
}

/// Another shape; a view where that needs no copy. (A traced `view` can need one here: its strides were torch's.)
fn shaped(context: &Context, tensor: &Tensor, shape: &[usize]) -> Result<Tensor, OperatorError> {
    if let Some(view) = tensor.view(shape)? {
        return Ok(view);
    }
    context
        .copied(tensor)?
        .view(shape)?
        .ok_or_else(|| wrong_shape(format!("as many elements as {shape:?}"), tensor))
}

fn flatten(context: &Context, arguments: Arguments) -> Results {
    let tensor = arguments.tensor("self")?;
    let first = tensor.dimension(arguments.int_or("start_dim", 0)?)?;
    let last = tensor.dimension(arguments.int_or("end_dim", -1)?)?;
    if first > last {
        return Err(wrong_shape("a first dimension before the last one", tensor));
    }
    if tensor.rank() == 0 {
        return one(tensor.unsqueeze(0)?);
    }
    let mut shape = tensor.shape()[..first].to_vec();
    shape.push(tensor.shape()[first..=last].iter().product());
    shape.extend(&tensor.shape()[last + 1..]);
    one(shaped(context, tensor, &shape)?)
}

fn unflatten(context: &Context, arguments: Arguments) -> Results {
    let tensor = arguments.tensor("self")?;
    let dim = tensor.dimension(arguments.int("dim")?)?;
    let parts = arguments.ints("sizes")?;
    let size = tensor.shape().get(dim).copied().unwrap_or(1);
    let known: i64 = parts.iter().filter(|&&part| part >= 0).product();
    let mut shape: Vec<i64> = tensor.shape().iter().map(|&size| size as i64).collect();
    let parts = parts.iter().map(|&part| {
        if part < 0 {
            (size as i64).checked_div(known).unwrap_or(0)
        } else {
            part
        }
    });
    shape.splice(dim..=dim, parts);
    reshape(context, tensor, &shape)
}

/// A traced `as_strided` speaks of torch's strides. Where it only orders the elements of a tensor otherwise in memory,
/// nothing has to be done; else they are those of a contiguous tensor.
fn as_strided(context: &Context, arguments: Arguments) -> Results {
    let tensor = arguments.tensor("self")?;
    let (shape, strides) = (sizes(&arguments, "size")?, sizes(&arguments, "stride")?);
    let offset = arguments.optional_int("storage_offset")?.unwrap_or(0);
    if shape == tensor.shape() && is_dense(&shape, &strides) && offset == 0 {
        return one(tensor.clone());
    }
    let tensor = context.contiguous(tensor)?;
    let offset = if arguments.get("storage_offset").is_some() {
        size("storage_offset", offset)?
    } else {
        tensor.offset()
    };
    one(tensor.as_strided(shape, strides, offset)?)
}

/// Whether each element has a place of its own, without gaps.
fn is_dense(shape: &[usize], strides: &[usize]) -> bool {
    let mut dims: Vec<_> = shape
        .iter()
        .zip(strides)
        .filter(|(size, _)| **size != 1)
        .collect();
    dims.sort_by_key(|(_, stride)| **stride);
    let mut expected = 1;
    dims.into_iter().all(|(size, stride)| {
        let fits = *stride == expected;
        expected *= size;
        fits
    })
}

fn same(_: &Context, arguments: Arguments) -> Results {
    one(arguments.tensor("self")?.clone())
}

fn expand(_: &Context, arguments: Arguments) -> Results {
    let tensor = arguments.tensor("self")?;
    let wanted = arguments.ints("size")?;
    let added = wanted.len().checked_sub(tensor.rank());
    let added = added
        .ok_or_else(|| wrong_shape(format!("at most the dimensions of {wanted:?}"), tensor))?;
    let shape = wanted
        .iter()
        .enumerate()
        .map(|(dim, &size)| match dim.checked_sub(added) {
            Some(dim) if size == -1 => Ok(tensor.shape()[dim]),
            _ => super::operand::size("size", size),
        })
        .collect::<Result<Vec<_>, _>>()?;
    one(tensor.expand(&shape)?)
}

fn broadcast_tensors(_: &Context, arguments: Arguments) -> Results {
    let tensors = arguments.tensors("tensors")?;
    let mut shape = Vec::new();
    for tensor in &tensors {
        shape = crate::broadcast_shapes(&shape, tensor.shape())?;
    }
    let expanded = tensors
        .iter()
        .map(|tensor| tensor.expand(&shape))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(vec![expanded.into()])
}

fn permute(_: &Context, arguments: Arguments) -> Results {
    let tensor = arguments.tensor("self")?;
    let order = arguments
        .ints("dims")?
        .into_iter()
        .map(|dim| tensor.dimension(dim))
        .collect::<Result<Vec<_>, _>>()?;
    one(tensor.permute(&order)?)
}

fn transpose(_: &Context, arguments: Arguments) -> Results {
    let tensor = arguments.tensor("self")?;
    let mut dims = arguments.iter().skip(1).map(|(_, value)| value);
    let mut next = || match dims.next() {
        Some(Value::Int(dim)) => tensor.dimension(*dim),
        _ => Err(wrong_shape("two dimensions to exchange", tensor)),
    };
    let (first, second) = (next()?, next()?);
    one(if tensor.rank() == 0 {
        tensor.clone()
    } else {
        tensor.transpose(first, second)?
    })
}

fn move_dimension(_: &Context, arguments: Arguments) -> Results {
    let tensor = arguments.tensor("self")?;
    let dims = |name| {
        arguments
            .ints(name)?
            .into_iter()
            .map(|dim| tensor.dimension(dim))
            .collect::<Result<Vec<_>, _>>()
    };
    let (from, to) = (dims("source")?, dims("destination")?);
    let mut rest = (0..tensor.rank()).filter(|dim| !from.contains(dim));
    let order = (0..tensor.rank())
        .map(|place| match to.iter().position(|other| *other == place) {
            Some(index) => from.get(index).copied(),
            None => rest.next(),
        })
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| wrong_shape("dimensions to move, each to a place of its own", tensor))?;
    one(tensor.permute(&order)?)
}

fn transposed(tensor: &Tensor) -> Results {
    one(if tensor.rank() < 2 {
        tensor.clone()
    } else {
        tensor.transpose(0, 1)?
    })
}

fn unsqueeze(_: &Context, arguments: Arguments) -> Results {
    let tensor = arguments.tensor("self")?;
    let dim = dimension(arguments.int("dim")?, tensor.rank() + 1)?;
    one(tensor.unsqueeze(dim)?)
}

fn squeeze(_: &Context, arguments: Arguments) -> Results {
    let tensor = arguments.tensor("self")?;
    let dims = super::operand::dimensions(&arguments, "dim", tensor)?;
    let mut result = tensor.clone();
    for dim in dims.into_iter().rev() {
        result = result.squeeze(dim)?;
    }
    one(result)
}

/// The part that `dim`, `start`, `end` and `step` say, as Python's slices do: counted from the end, cut to what is there.
pub(super) fn sliced(arguments: &Arguments, tensor: &Tensor) -> Result<Tensor, OperatorError> {
    let dim = tensor.dimension(arguments.int_or("dim", 0)?)?;
    let length = tensor.shape().get(dim).copied().unwrap_or(0) as i64;
    let place = |value: i64| if value < 0 { value + length } else { value }.clamp(0, length);
    let start = place(arguments.int_or("start", 0)?);
    let end = place(arguments.int_or("end", i64::MAX)?).max(start);
    let step = size("step", arguments.int_or("step", 1)?)?;
    tensor.narrow(dim, start as usize, end as usize, step)
}

fn narrow(_: &Context, arguments: Arguments) -> Results {
    let tensor = arguments.tensor("self")?;
    let dim = tensor.dimension(arguments.int("dim")?)?;
    let start = index(
        arguments.int("start")?,
        tensor.shape().get(dim).copied().unwrap_or(0) + 1,
    )?;
    let length = size("length", arguments.int("length")?)?;
    one(tensor.narrow(dim, start, start + length, 1)?)
}

fn select(_: &Context, arguments: Arguments) -> Results {
    let tensor = arguments.tensor("self")?;
    let dim = tensor.dimension(arguments.int("dim")?)?;
    let entries = tensor.shape().get(dim).copied().unwrap_or(0);
    one(tensor.select(dim, index(arguments.int("index")?, entries)?)?)
}

/// An index that may be counted from the end.
pub(super) fn index(index: i64, size: usize) -> Result<usize, OperatorError> {
    let place = if index < 0 {
        index + size as i64
    } else {
        index
    };
    usize::try_from(place)
        .ok()
        .filter(|&place| place < size)
        .ok_or(OperatorError::Index { index, size })
}

fn parts(
    tensor: &Tensor,
    dim: usize,
    lengths: impl IntoIterator<Item = usize, IntoIter: ExactSizeIterator>,
) -> Results {
    let lengths = lengths.into_iter();
    let mut start = 0usize;
    let mut parts = reserved(lengths.len())?;
    for length in lengths {
        let end = start.saturating_add(length);
        parts.push(tensor.narrow(dim, start, end, 1)?);
        start = end;
    }
    Ok(vec![parts.into()])
}

fn entries(tensor: &Tensor, dim: usize) -> Result<usize, OperatorError> {
    tensor
        .shape()
        .get(dim)
        .copied()
        .ok_or_else(|| wrong_shape("a dimension to divide", tensor))
}

fn split(_: &Context, arguments: Arguments) -> Results {
    let tensor = arguments.tensor("self")?;
    let dim = tensor.dimension(arguments.int_or("dim", 0)?)?;
    if arguments.get("split_sizes").is_some()
        || matches!(arguments.get("split_size"), Some(Value::List(_)))
    {
        let name = if arguments.get("split_sizes").is_some() {
            "split_sizes"
        } else {
            "split_size"
        };
        return parts(tensor, dim, sizes(&arguments, name)?);
    }
    let (all, length) = (
        entries(tensor, dim)?,
        size("split_size", arguments.int("split_size")?)?.max(1),
    );
    parts(
        tensor,
        dim,
        (0..all.div_ceil(length).max(1)).map(|part| length.min(all - part * length)),
    )
}

fn chunk(_: &Context, arguments: Arguments) -> Results {
    let tensor = arguments.tensor("self")?;
    let dim = tensor.dimension(arguments.int_or("dim", 0)?)?;
    let all = entries(tensor, dim)?;
    let length = all
        .div_ceil(size("chunks", arguments.int("chunks")?)?.max(1))
        .max(1);
    parts(
        tensor,
        dim,
        (0..all.div_ceil(length).max(1)).map(|part| length.min(all - part * length)),
    )
}

fn tensor_split(_: &Context, arguments: Arguments) -> Results {
    let tensor = arguments.tensor("self")?;
    let dim = tensor.dimension(arguments.int_or("dim", 0)?)?;
    let (all, sections) = (
        entries(tensor, dim)?,
        size("sections", arguments.int("sections")?)?.max(1),
    );
    parts(
        tensor,
        dim,
        (0..sections).map(|part| all / sections + usize::from(part < all % sections)),
    )
}

/// Parts that begin at the given entries, cut as Python's slices are.
fn split_at(tensor: &Tensor, dim: i64, indices: &[i64]) -> Results {
    let dim = tensor.dimension(dim)?;
    let all = entries(tensor, dim)? as i64;
    let place = |index: i64| if index < 0 { index + all } else { index }.clamp(0, all) as usize;
    let mut starts = vec![0];
    starts.extend(indices.iter().map(|&index| place(index)));
    starts.push(all as usize);
    let parts = starts
        .windows(2)
        .map(|pair| tensor.narrow(dim, pair[0], pair[1].max(pair[0]), 1))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(vec![parts.into()])
}

/// As many parts as `sections` says, along `dim`, or the only dimension.
fn split_evenly(context: &Context, arguments: &Arguments, dim: usize) -> Results {
    let tensor = arguments.tensor("self")?;
    let dim = dim.min(tensor.rank().saturating_sub(1)) as i64;
    let named = [
        ("self", tensor.clone().into()),
        ("sections", arguments.value("sections")?.clone()),
        ("dim", dim.into()),
    ];
    tensor_split(context, Arguments::new(named))
}

fn unbind(_: &Context, arguments: Arguments) -> Results {
    let tensor = arguments.tensor("self")?;
    let dim = tensor.dimension(arguments.int_or("dim", 0)?)?;
    let count = entries(tensor, dim)?;
    let mut all = reserved(count)?;
    for entry in 0..count {
        all.push(tensor.select(dim, entry)?);
    }
    Ok(vec![all.into()])
}

fn cat(context: &Context, arguments: Arguments) -> Results {
    let tensors = arguments.tensors("tensors")?;
    let rank = tensors
        .iter()
        .map(|tensor| tensor.rank())
        .max()
        .unwrap_or(0);
    one(joined(
        context,
        &tensors,
        dimension(arguments.int_or("dim", 0)?, rank)?,
    )?)
}

/// One after the other along an existing dimension.
pub(super) fn joined(
    context: &Context,
    tensors: &[&Tensor],
    dim: usize,
) -> Result<Tensor, OperatorError> {
    // As torch does, a tensor of shape (0) goes with everything.
    let parts: Vec<&Tensor> = tensors
        .iter()
        .copied()
        .filter(|tensor| tensor.shape() != [0])
        .collect();
    let Some(first) = parts.first().or(tensors.first()) else {
        return Err(OperatorError::Unsupported("nothing to join".into()));
    };
    if parts.is_empty() {
        return Ok((*first).clone());
    }
    let values: Vec<Value> = parts.iter().map(|&tensor| tensor.clone().into()).collect();
    let dtype = super::result_dtype(&values);
    let mut shape = first.shape().to_vec();
    let fits = parts.iter().all(|tensor| {
        tensor.rank() == shape.len()
            && (0..shape.len()).all(|other| other == dim || tensor.shape()[other] == shape[other])
    });
    if dim >= shape.len() || !fits {
        return Err(wrong_shape(
            "tensors that differ in one dimension only",
            first,
        ));
    }
    shape[dim] = parts.iter().map(|tensor| tensor.shape()[dim]).sum();
    let result = context.empty(dtype, &shape)?;
    let mut start = 0;
    for part in parts {
        let end = start + part.shape()[dim];
        context.assign(&result.narrow(dim, start, end, 1)?, part)?;
        start = end;
    }
    Ok(result)
}

fn stack(context: &Context, arguments: Arguments) -> Results {
    let tensors = arguments.tensors("tensors")?;
    let rank = tensors.first().map_or(0, |tensor| tensor.rank());
    let dim = dimension(arguments.int_or("dim", 0)?, rank + 1)?;
    let raised = tensors
        .iter()
        .map(|tensor| tensor.unsqueeze(dim))
        .collect::<Result<Vec<_>, _>>()?;
    one(joined(context, &raised.iter().collect::<Vec<_>>(), dim)?)
}

fn repeat(context: &Context, arguments: Arguments) -> Results {
    let tensor = arguments.tensor("self")?;
    let name = if arguments.get("repeats").is_some() {
        "repeats"
    } else {
        "dims"
    };
    let mut repeats = sizes(&arguments, name)?;
    while repeats.len() < tensor.rank() {
        repeats.insert(0, 1);
    }
    let mut padded = vec![1; repeats.len() - tensor.rank()];
    padded.extend(tensor.shape());
    // (repeats, size) for each dimension, with a stride of zero for the repeats.
    let pairs: Vec<usize> = repeats
        .iter()
        .zip(&padded)
        .flat_map(|(&repeats, &size)| [repeats, size])
        .collect();
    let mut raised = tensor.clone();
    while raised.rank() < repeats.len() {
        raised = raised.unsqueeze(0)?;
    }
    for dim in 0..repeats.len() {
        raised = raised.unsqueeze(2 * dim)?;
    }
    let shape: Vec<usize> = repeats
        .iter()
        .zip(&padded)
        .map(|(repeats, size)| repeats.saturating_mul(*size))
        .collect();
    let copy = context.copied(&raised.expand(&pairs)?)?;
    one(shaped(context, &copy, &shape)?)
}

fn repeat_interleave(context: &Context, arguments: Arguments) -> Results {
    let tensor = arguments.tensor("self")?;
    let repeats = size("repeats", arguments.int("repeats")?)?;
    let (tensor, dim) = match arguments.optional_int("dim")? {
        Some(dim) => (tensor.clone(), tensor.dimension(dim)?),
        None => (shaped(context, tensor, &[tensor.count()])?, 0),
    };
    let raised = tensor.unsqueeze(dim + 1)?;
    let mut shape = raised.shape().to_vec();
    shape[dim + 1] = repeats;
    let copy = context.copied(&raised.expand(&shape)?)?;
    let mut joined = tensor.shape().to_vec();
    joined[dim] *= repeats;
    one(shaped(context, &copy, &joined)?)
}

/// Each place as often as `repeats` says.
fn repeated_places(context: &Context, repeats: &Tensor) -> Result<Vec<i64>, OperatorError> {
    let counts = context.cast(repeats, Dtype::I64)?;
    let counts = counts.elements::<i64>()?;
    let mut total = 0usize;
    for &count in counts.iter() {
        total = total.saturating_add(size("repeats", count)?);
    }
    let mut places = reserved(total)?;
    for (place, &count) in counts.iter().enumerate() {
        places.extend(std::iter::repeat_n(place as i64, count as usize));
    }
    Ok(places)
}

/// Turned by quarters in the plane of two dimensions, from the first one towards the second.
fn rotate(context: &Context, arguments: Arguments) -> Results {
    let tensor = arguments.tensor("self")?;
    let dims = arguments.ints_or("dims", &[0, 1])?;
    let [first, second] = dims[..] else {
        return Err(wrong_shape("two dimensions to turn", tensor));
    };
    let (from, to) = (tensor.dimension(first)?, tensor.dimension(second)?);
    if from == to || tensor.rank() < 2 {
        return Err(wrong_shape("two dimensions to turn", tensor));
    }
    match arguments.int_or("k", 1)?.rem_euclid(4) {
        1 => flipped(context, &tensor.transpose(from, to)?, &[first]),
        2 => flipped(context, tensor, &dims),
        3 => flipped(context, &tensor.transpose(from, to)?, &[second]),
        _ => one(context.copied(tensor)?),
    }
}

fn flip(context: &Context, arguments: Arguments) -> Results {
    flipped(context, arguments.tensor("self")?, &arguments.ints("dims")?)
}

fn flipped(context: &Context, tensor: &Tensor, dims: &[i64]) -> Results {
    let mut result = tensor.clone();
    for &dim in dims {
        let dim = tensor.dimension(dim)?;
        let count = result.shape().get(dim).copied().unwrap_or(0);
        let entries = listed(count, (0..count).rev())?;
        result = rearranged(context, &result, dim, &entries)?;
    }
    one(context.contiguous(&result)?)
}

fn roll(context: &Context, arguments: Arguments) -> Results {
    let tensor = arguments.tensor("self")?;
    let (shifts, dims) = (arguments.ints("shifts")?, arguments.ints_or("dims", &[])?);
    let flat = dims.is_empty();
    let mut result = if flat {
        shaped(context, tensor, &[tensor.count()])?
    } else {
        tensor.clone()
    };
    for (index, shift) in shifts.into_iter().enumerate() {
        let dim = if flat {
            0
        } else {
            tensor.dimension(dims.get(index).copied().unwrap_or(0))?
        };
        let size = result.shape().get(dim).copied().unwrap_or(0);
        if size == 0 {
            continue;
        }
        let start = size - shift.rem_euclid(size as i64) as usize;
        let (front, back) = (
            result.narrow(dim, 0, start, 1)?,
            result.narrow(dim, start, size, 1)?,
        );
        result = joined(context, &[&back, &front], dim)?;
    }
    one(shaped(context, &result, tensor.shape())?)
}

/// The given entries along `dim`, in that order.
fn rearranged(
    context: &Context,
    tensor: &Tensor,
    dim: usize,
    entries: &[usize],
) -> Result<Tensor, OperatorError> {
    if tensor.rank() == 0 {
        return Ok(tensor.clone());
    }
    let mut shape = tensor.shape().to_vec();
    shape[dim] = entries.len();
    let result = context.empty(tensor.dtype(), &shape)?;
    if result.count() == 0 {
        return Ok(result);
    }
    let inner: usize = shape[dim + 1..].iter().product();
    let source = context.contiguous(tensor)?;
    let size = tensor.shape()[dim];
    with_element!(tensor.dtype(), |T| {
        let from = source.elements::<T>()?;
        let mut to = result.elements_mut::<T>()?;
        for (row, to) in to.chunks_mut(inner).enumerate() {
            let first = (row / entries.len() * size + entries[row % entries.len()]) * inner;
            to.copy_from_slice(&from[first..first + inner]);
        }
        Ok(())
    })?;
    Ok(result)
}

/// Overlapping windows along a dimension, as a view.
fn unfold(_: &Context, arguments: Arguments) -> Results {
    let tensor = arguments.tensor("self")?;
    let dim = tensor.dimension(arguments.int("dimension")?)?;
    let (length, step) = (
        size("size", arguments.int("size")?)?,
        size("step", arguments.int("step")?)?.max(1),
    );
    let (mut shape, mut strides) = (tensor.shape().to_vec(), tensor.strides().to_vec());
    let Some(&entries) = shape.get(dim).filter(|&&entries| entries >= length) else {
        return Err(wrong_shape(format!("at least {length} entries"), tensor));
    };
    shape[dim] = (entries - length) / step + 1;
    strides.push(strides[dim]);
    strides[dim] *= step;
    shape.push(length);
    one(tensor.as_strided(shape, strides, tensor.offset())?)
}

/// Shapes that are cut into pieces, permuted, and joined again.
fn rearrange(
    context: &Context,
    tensor: &Tensor,
    cut: &[usize],
    order: &[usize],
    joined: &[usize],
) -> Results {
    let cut = shaped(context, tensor, cut)?;
    one(shaped(
        context,
        &context.copied(&cut.permute(order)?)?,
        joined,
    )?)
}

fn image(tensor: &Tensor) -> Result<[usize; 4], OperatorError> {
    match tensor.shape() {
        [batch @ .., channels, height, width] => {
            Ok([batch.iter().product(), *channels, *height, *width])
        }
        _ => Err(wrong_shape("(…, channel, height, width)", tensor)),
    }
}

fn with_image(tensor: &Tensor, image: [usize; 3]) -> Vec<usize> {
    let mut shape = tensor.shape()[..tensor.rank() - 3].to_vec();
    shape.extend(image);
    shape
}

fn pixel_shuffle(context: &Context, arguments: Arguments) -> Results {
    let tensor = arguments.tensor("self")?;
    let factor = size("upscale_factor", arguments.int("upscale_factor")?)?.max(1);
    let [batch, channels, height, width] = image(tensor)?;
    let channels = channels / (factor * factor);
    rearrange(
        context,
        tensor,
        &[batch, channels, factor, factor, height, width],
        &[0, 1, 4, 2, 5, 3],
        &with_image(tensor, [channels, height * factor, width * factor]),
    )
}

fn pixel_unshuffle(context: &Context, arguments: Arguments) -> Results {
    let tensor = arguments.tensor("self")?;
    let factor = size("downscale_factor", arguments.int("downscale_factor")?)?.max(1);
    let [batch, channels, height, width] = image(tensor)?;
    let (height, width) = (height / factor, width / factor);
    rearrange(
        context,
        tensor,
        &[batch, channels, height, factor, width, factor],
        &[0, 1, 3, 5, 2, 4],
        &with_image(tensor, [channels * factor * factor, height, width]),
    )
}

fn channel_shuffle(context: &Context, arguments: Arguments) -> Results {
    let tensor = arguments.tensor("self")?;
    let groups = size("groups", arguments.int("groups")?)?.max(1);
    let [batch, channels, ..] = *tensor.shape() else {
        return Err(wrong_shape("(batch, channel, …)", tensor));
    };
    let rest = tensor.count() / (batch * channels).max(1);
    rearrange(
        context,
        tensor,
        &[batch, groups, channels / groups, rest],
        &[0, 2, 1, 3],
        tensor.shape(),
    )
}

/// The same bytes as elements of another dtype of the same width.
fn view_dtype(_: &Context, arguments: Arguments) -> Results {
    let tensor = arguments.tensor("self")?;
    let dtype = arguments.optional_dtype("dtype")?.unwrap_or(tensor.dtype());
    if crate::itemsize(dtype) != tensor.itemsize() {
        return Err(OperatorError::Dtype {
            expected: format!("as many bytes as {dtype} has"),
            got: tensor.dtype(),
        });
    }
    one(Tensor::new(
        tensor.storage().clone(),
        dtype,
        tensor.shape().to_vec(),
        tensor.strides().to_vec(),
        tensor.offset(),
    )?)
}
