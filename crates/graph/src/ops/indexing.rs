//! Elements found or placed by tensors of indices.

use super::operand::{Results, computed, one, operand, size, with_element, wrong_shape};
use super::shape::{index as place, sliced};
use crate::kernels::{Compute, Reader, WORTH_A_THREAD};
use crate::memory::filled;
use crate::tensor::element_count;
use crate::{Arguments, Context, OperatorError, Tensor, Value, Walk, broadcast_shapes};
use rayon::prelude::*;
use weightstream::Dtype;

pub(super) const OPERATORS: super::Family = &[
    ("aten.embedding.default", embedding),
    ("aten.index.Tensor", index),
    ("aten.index_select.default", index_select),
    ("aten.gather.default", gather),
    ("aten.take_along_dim.default", take_along),
    ("aten.masked_select.default", masked_select),
    ("aten.nonzero.default", |c, a| {
        one(nonzero(c, a.tensor("self")?)?)
    }),
    ("aten.index_put.default", |c, a| {
        index_put(c, &a, &c.copied(a.tensor("self")?)?)
    }),
    ("aten.index_put_.default", |c, a| {
        index_put(c, &a, a.tensor("self")?)
    }),
    ("aten._unsafe_index.Tensor", index),
    ("aten._unsafe_index_put.default", |c, a| {
        index_put(c, &a, &c.copied(a.tensor("self")?)?)
    }),
    ("aten.index_copy.default", |c, a| {
        index_copy(c, &a, &c.copied(a.tensor("self")?)?, "source", false)
    }),
    ("aten.index_copy_.default", |c, a| {
        index_copy(c, &a, a.tensor("self")?, "source", false)
    }),
    ("aten.index_add.default", |c, a| {
        index_copy(c, &a, &c.copied(a.tensor("self")?)?, "source", true)
    }),
    ("aten.index_add_.default", |c, a| {
        index_copy(c, &a, a.tensor("self")?, "source", true)
    }),
    ("aten.index_fill.int_Scalar", |c, a| {
        index_copy(c, &a, &c.copied(a.tensor("self")?)?, "value", false)
    }),
    ("aten.scatter.src", |c, a| scatter(c, &a, Combine::Replace)),
    ("aten.scatter.value", |c, a| {
        scatter(c, &a, Combine::Replace)
    }),
    ("aten.scatter_add.default", |c, a| {
        scatter(c, &a, Combine::Add)
    }),
    ("aten.scatter_reduce.two", scatter_reduce),
    ("aten.scatter.reduce", scatter_reduce),
    ("aten.scatter.value_reduce", scatter_reduce),
    ("aten.where.default", |c, a| {
        let found = nonzero(c, a.tensor("condition")?)?;
        let columns = (0..found.shape()[1])
            .map(|column| found.select(1, column))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(vec![columns.into()])
    }),
    ("aten.nonzero_numpy.default", |c, a| {
        let found = nonzero(c, a.tensor("self")?)?;
        let columns = (0..found.shape()[1])
            .map(|column| found.select(1, column))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(vec![columns.into()])
    }),
    ("aten.masked_scatter.default", masked_scatter),
    ("aten.slice_scatter.default", |c, a| {
        let result = c.copied(a.tensor("self")?)?;
        c.assign(&sliced(&a, &result)?, a.tensor("src")?)?;
        one(result)
    }),
    ("aten.select_scatter.default", |c, a| {
        let result = c.copied(a.tensor("self")?)?;
        let dim = result.dimension(a.int("dim")?)?;
        let entries = result.shape().get(dim).copied().unwrap_or(0);
        c.assign(
            &result.select(dim, place(a.int("index")?, entries)?)?,
            a.tensor("src")?,
        )?;
        one(result)
    }),
    ("aten.one_hot.default", one_hot),
];

/// The integers of a tensor in order, as indices into `size` entries, which may be counted from the end.
pub(super) fn places(
    context: &Context,
    tensor: &Tensor,
    size: usize,
) -> Result<Vec<usize>, OperatorError> {
    if !matches!(
        tensor.dtype(),
        Dtype::I64 | Dtype::I32 | Dtype::I16 | Dtype::I8 | Dtype::U8
    ) {
        return Err(OperatorError::Dtype {
            expected: "integers to index with".into(),
            got: tensor.dtype(),
        });
    }
    let indices = context.cast(tensor, Dtype::I64)?;
    indices
        .elements::<i64>()?
        .iter()
        .map(|&index| place(index, size))
        .collect()
}

/// A result of `shape` with the blocks of `source`, a view with the strides of one block, that begin at `starts`.
fn blocks(
    context: &Context,
    source: &Tensor,
    block: &Tensor,
    starts: &[usize],
    shape: &[usize],
) -> Result<Tensor, OperatorError> {
    let result = context.empty(source.dtype(), shape)?;
    let length = block.count();
    if result.count() == 0 {
        return Ok(result);
    }
    with_element!(source.dtype(), |T| {
        let from = source.strided::<T>()?;
        let mut to = result.elements_mut::<T>()?;
        let walk = Walk::new(block.shape(), [block.strides()]);
        let one = |to: &mut [T], start: usize| {
            let mut runs = to.chunks_mut(walk.length);
            walk.for_each(0..walk.runs(), |[offset]| {
                let Some(to) = runs.next() else { return };
                let first = start + offset;
                if walk.steps == [1] {
                    to.copy_from_slice(&from[first..first + to.len()]);
                } else {
                    for (index, to) in to.iter_mut().enumerate() {
                        *to = from[first + index * walk.steps[0]];
                    }
                }
            });
        };
        let per_thread = (WORTH_A_THREAD / length).max(1);
        to.par_chunks_mut(per_thread * length)
            .zip(starts.par_chunks(per_thread))
            .for_each(|(to, starts)| {
                to.chunks_mut(length)
                    .zip(starts)
                    .for_each(|(to, &start)| one(to, start))
            });
        Ok(())
    })?;
    Ok(result)
}

fn embedding(context: &Context, arguments: Arguments) -> Results {
    let (weight, indices) = (arguments.tensor("weight")?, arguments.tensor("indices")?);
    let [rows, columns] = *weight.shape() else {
        return Err(wrong_shape("a table of two dimensions", weight));
    };
    let mut shape = indices.shape().to_vec();
    shape.push(columns);
    let starts: Vec<usize> = places(context, indices, rows)?
        .into_iter()
        .map(|row| row * weight.strides()[0])
        .collect();
    if rows == 0 {
        return one(context.empty(weight.dtype(), &shape)?);
    }
    one(blocks(
        context,
        weight,
        &weight.select(0, 0)?,
        &starts,
        &shape,
    )?)
}

/// What some of a tensor's dimensions are indexed with.
struct Indexed {
    /// The tensor, with the indexed dimensions first.
    tensor: Tensor,
    /// How many dimensions are indexed.
    indexed: usize,
    /// The shape that the indices broadcast to, and for each of its places the offset of what is indexed.
    shape: Vec<usize>,
    starts: Vec<usize>,
    /// How many dimensions come before the indices in the result.
    before: usize,
}

impl Indexed {
    fn new(
        context: &Context,
        tensor: &Tensor,
        indices: &[Option<&Tensor>],
    ) -> Result<Self, OperatorError> {
        let mut dims = Vec::new();
        let mut given: Vec<Tensor> = Vec::new();
        let mut dim = 0;
        for index in indices {
            match index {
                None => dim += 1,
                Some(mask) if matches!(mask.dtype(), Dtype::BOOL | Dtype::U8) => {
                    // A mask stands for the indices at which it is true, one list for each of its dimensions.
                    if tensor.shape().get(dim..dim + mask.rank()) != Some(mask.shape()) {
                        return Err(wrong_shape(
                            format!("a mask for {:?} from dimension {dim} on", tensor.shape()),
                            mask,
                        ));
                    }
                    let found = nonzero(context, mask)?;
                    for column in 0..mask.rank() {
                        given.push(if found.count() == 0 {
                            context.tensor::<i64>(&[], &[0])?
                        } else {
                            found.select(1, column)?
                        });
                        dims.push(dim + column);
                    }
                    dim += mask.rank();
                }
                Some(index) => {
                    given.push((*index).clone());
                    dims.push(dim);
                    dim += 1;
                }
            }
        }
        if dim > tensor.rank() {
            return Err(wrong_shape(
                format!("at least {dim} dimensions to index"),
                tensor,
            ));
        }
        let mut shape = Vec::new();
        for index in &given {
            shape = broadcast_shapes(&shape, index.shape())?;
        }
        let mut starts = filled(0, element_count(&shape)?)?;
        for (index, &dim) in given.iter().zip(&dims) {
            let indices = places(context, &index.expand(&shape)?, tensor.shape()[dim])?;
            for (start, index) in starts.iter_mut().zip(indices) {
                *start += index * tensor.strides()[dim];
            }
        }
        let adjacent = dims.windows(2).all(|pair| pair[1] == pair[0] + 1);
        let before = if adjacent {
            dims.first().copied().unwrap_or(0)
        } else {
            0
        };
        let order: Vec<usize> = dims
            .iter()
            .copied()
            .chain((0..tensor.rank()).filter(|dim| !dims.contains(dim)))
            .collect();
        Ok(Self {
            tensor: tensor.permute(&order)?,
            indexed: dims.len(),
            shape,
            starts,
            before,
        })
    }

    /// What one set of indices finds, as a view at the tensor's start.
    fn block(&self) -> Result<Tensor, OperatorError> {
        let (shape, strides) = (
            &self.tensor.shape()[self.indexed..],
            &self.tensor.strides()[self.indexed..],
        );
        if self.starts.is_empty() {
            return Tensor::new(
                self.tensor.storage().clone(),
                self.tensor.dtype(),
                vec![0],
                vec![1],
                self.tensor.offset(),
            );
        }
        self.tensor
            .as_strided(shape.to_vec(), strides.to_vec(), self.tensor.offset())
    }

    /// The indices' shape and then the shape of what each finds.
    fn result_shape(&self) -> Vec<usize> {
        self.shape
            .iter()
            .chain(&self.tensor.shape()[self.indexed..])
            .copied()
            .collect()
    }

    /// The order of the result's dimensions, given that of [`result_shape`](Self::result_shape).
    fn order(&self) -> Vec<usize> {
        let (indices, all) = (self.shape.len(), self.result_shape().len());
        (indices..indices + self.before)
            .chain(0..indices)
            .chain(indices + self.before..all)
            .collect()
    }
}

fn index(context: &Context, arguments: Arguments) -> Results {
    let indexed = Indexed::new(
        context,
        arguments.tensor("self")?,
        &arguments.optional_tensors("indices")?,
    )?;
    let found = blocks(
        context,
        &indexed.tensor,
        &indexed.block()?,
        &indexed.starts,
        &indexed.result_shape(),
    )?;
    one(found.permute(&indexed.order())?)
}

fn index_put(context: &Context, arguments: &Arguments, target: &Tensor) -> Results {
    let indexed = Indexed::new(context, target, &arguments.optional_tensors("indices")?)?;
    let order = indexed.order();
    let shape = indexed.result_shape();
    let in_order: Vec<usize> = order.iter().map(|&dim| shape[dim]).collect();
    // Back from the result's order to indices first.
    let mut inverse = vec![0; order.len()];
    for (place, &dim) in order.iter().enumerate() {
        inverse[dim] = place;
    }
    let values = arguments
        .tensor("values")?
        .expand(&in_order)?
        .permute(&inverse)?;
    let combine = if arguments.bool_or("accumulate", false)? {
        Combine::Add
    } else {
        Combine::Replace
    };
    put(
        context,
        &indexed.tensor,
        &indexed.block()?,
        &indexed.starts,
        &values,
        combine,
    )?;
    one(target.clone())
}

#[derive(Clone, Copy, PartialEq)]
enum Combine {
    Replace,
    Add,
    Multiply,
    Highest,
    Lowest,
}

/// Writes `values` (the starts, then a block's shape) into the blocks of `target` that begin at `starts`, one after the
/// other.
fn put(
    context: &Context,
    target: &Tensor,
    block: &Tensor,
    starts: &[usize],
    values: &Tensor,
    combine: Combine,
) -> Result<(), OperatorError> {
    let values = context.cast(values, target.dtype())?;
    let length = block.count();
    if values.count() == 0 {
        return Ok(());
    }
    let walk = Walk::new(block.shape(), [block.strides()]);
    macro_rules! write {
        ($type:ty, |$old:ident, $new:ident| $combined:expr) => {{
            let from = values.elements::<$type>()?;
            let mut to = target.strided_mut::<$type>()?;
            for (from, &start) in from.chunks(length).zip(starts) {
                let mut from = from.iter();
                walk.for_each(0..walk.runs(), |[offset]| {
                    for index in 0..walk.length {
                        if let (Some(&$new), Some($old)) = (
                            from.next(),
                            to.get_mut(start + offset + index * walk.steps[0]),
                        ) {
                            *$old = $combined;
                        }
                    }
                });
            }
            Ok(())
        }};
    }
    if combine == Combine::Replace {
        return with_element!(target.dtype(), |T| write!(T, |_old, new| new));
    }
    macro_rules! combined {
        ($type:ty, $old:ident, $new:ident, $add:expr) => {
            match combine {
                Combine::Add => $add,
                Combine::Multiply => $old * $new,
                Combine::Highest => {
                    if $new > $old {
                        $new
                    } else {
                        $old
                    }
                }
                Combine::Lowest => {
                    if $new < $old {
                        $new
                    } else {
                        $old
                    }
                }
                Combine::Replace => $new,
            }
        };
    }
    match target.dtype() {
        Dtype::F32 => write!(f32, |old, new| {
            let a = *old;
            combined!(f32, a, new, a + new)
        }),
        Dtype::F64 => write!(f64, |old, new| {
            let a = *old;
            combined!(f64, a, new, a + new)
        }),
        Dtype::I64 => write!(i64, |old, new| {
            let a = *old;
            combined!(i64, a, new, a.wrapping_add(new))
        }),
        // The sums are rounded once for each addition, as torch's are.
        Dtype::BF16 => write!(half::bf16, |old, new| {
            let a = *old;
            combined!(half::bf16, a, new, a + new)
        }),
        Dtype::F16 => write!(half::f16, |old, new| {
            let a = *old;
            combined!(half::f16, a, new, a + new)
        }),
        Dtype::I32 => write!(i32, |old, new| {
            let a = *old;
            combined!(i32, a, new, a.wrapping_add(new))
        }),
        got => Err(OperatorError::Dtype {
            expected: "numbers that can be combined".into(),
            got,
        }),
    }
}

fn index_select(context: &Context, arguments: Arguments) -> Results {
    let tensor = arguments.tensor("self")?;
    let dim = tensor.dimension(arguments.int("dim")?)?;
    if tensor.rank() == 0 {
        return one(tensor.clone());
    }
    let mut indices = vec![None; dim];
    let index = arguments.tensor("index")?;
    let index = if index.rank() == 0 {
        index.unsqueeze(0)?
    } else {
        index.clone()
    };
    indices.push(Some(&index));
    let indexed = Indexed::new(context, tensor, &indices)?;
    let found = blocks(
        context,
        &indexed.tensor,
        &indexed.block()?,
        &indexed.starts,
        &indexed.result_shape(),
    )?;
    one(context.contiguous(&found.permute(&indexed.order())?)?)
}

/// Entries `index` of a dimension replaced by (or added to) those of a source.
fn index_copy(
    context: &Context,
    arguments: &Arguments,
    target: &Tensor,
    source: &'static str,
    add: bool,
) -> Results {
    let dim = target.dimension(arguments.int("dim")?)?;
    let index = arguments.tensor("index")?;
    let index = if index.rank() == 0 {
        index.unsqueeze(0)?
    } else {
        index.clone()
    };
    let raised = if target.rank() == 0 {
        target.unsqueeze(0)?
    } else {
        target.clone()
    };
    let starts: Vec<usize> = places(context, &index, raised.shape()[dim])?
        .into_iter()
        .map(|entry| entry * raised.strides()[dim])
        .collect();
    let mut order: Vec<usize> = (0..raised.rank()).filter(|other| *other != dim).collect();
    order.insert(0, dim);
    let front = raised.permute(&order)?;
    let mut shape = front.shape().to_vec();
    shape[0] = starts.len();
    let mut inverse = vec![0; order.len()];
    for (place, &dim) in order.iter().enumerate() {
        inverse[dim] = place;
    }
    let in_order: Vec<usize> = inverse.iter().map(|&place| shape[place]).collect();
    let mut values = operand(context, arguments, source)?.expand(&in_order)?;
    let alpha = arguments.float_or("alpha", 1.0)?;
    if alpha != 1.0 {
        values = crate::kernels::map1::<f64, f64>(context, target.dtype(), &values, |a| a * alpha)?;
    }
    if !starts.is_empty() {
        let block = front.select(0, 0)?;
        put(
            context,
            &front,
            &block,
            &starts,
            &values.permute(&order)?,
            if add { Combine::Add } else { Combine::Replace },
        )?;
    }
    one(target.clone())
}

/// For each element of `index` the offset in `tensor` of the element at the same place, with the dimension replaced.
fn offsets(
    context: &Context,
    tensor: &Tensor,
    dim: usize,
    index: &Tensor,
) -> Result<Vec<usize>, OperatorError> {
    let fits = index.rank() == tensor.rank()
        && (0..index.rank())
            .all(|other| other == dim || index.shape()[other] <= tensor.shape()[other]);
    if !fits {
        return Err(wrong_shape(
            format!("indices into {:?}", tensor.shape()),
            index,
        ));
    }
    let entries = tensor.shape().get(dim).copied().unwrap_or(1);
    let stride = tensor.strides().get(dim).copied().unwrap_or(0);
    let mut strides = tensor.strides().to_vec();
    if let Some(stride) = strides.get_mut(dim) {
        *stride = 0;
    }
    let mut offsets = places(context, index, entries)?;
    let walk = Walk::new(index.shape(), [&strides]);
    let mut all = offsets.iter_mut();
    if index.count() > 0 {
        walk.for_each(0..walk.runs(), |[start]| {
            for (step, offset) in all.by_ref().take(walk.length).enumerate() {
                *offset = *offset * stride + start + step * walk.steps[0];
            }
        });
    }
    Ok(offsets)
}

fn gather(context: &Context, arguments: Arguments) -> Results {
    let tensor = arguments.tensor("self")?;
    let dim = tensor.dimension(arguments.int("dim")?)?;
    gathered(context, tensor, dim, arguments.tensor("index")?)
}

fn gathered(context: &Context, tensor: &Tensor, dim: usize, index: &Tensor) -> Results {
    let starts = offsets(context, tensor, dim, index)?;
    let single = tensor.as_strided(Vec::new(), Vec::new(), tensor.offset());
    match single {
        Ok(single) if !starts.is_empty() => {
            one(blocks(context, tensor, &single, &starts, index.shape())?)
        }
        _ => one(context.empty(tensor.dtype(), index.shape())?),
    }
}

fn take_along(context: &Context, arguments: Arguments) -> Results {
    let (tensor, index) = (arguments.tensor("self")?, arguments.tensor("indices")?);
    if tensor.rank() == 0 {
        return one(tensor.clone());
    }
    let Some(dim) = arguments.optional_int("dim")? else {
        let flat = |tensor: &Tensor| -> Result<Tensor, OperatorError> {
            let tensor = context.contiguous(tensor)?;
            Ok(tensor.view(&[tensor.count()])?.unwrap_or(tensor))
        };
        return gathered(context, &flat(tensor)?, 0, &flat(index)?);
    };
    let dim = tensor.dimension(dim)?;
    let (mut wide, mut wanted) = (tensor.shape().to_vec(), index.shape().to_vec());
    if wide.len() != wanted.len() {
        return Err(wrong_shape(format!("indices into {wide:?}"), index));
    }
    let (size, entries) = (
        std::mem::replace(&mut wide[dim], 1),
        std::mem::replace(&mut wanted[dim], 1),
    );
    let mut common = broadcast_shapes(&wide, &wanted)?;
    common[dim] = size;
    let tensor = tensor.expand(&common)?;
    common[dim] = entries;
    gathered(context, &tensor, dim, &index.expand(&common)?)
}

fn scatter(context: &Context, arguments: &Arguments, combine: Combine) -> Results {
    let target = context.copied(arguments.tensor("self")?)?;
    scattered(context, arguments, &target, combine)?;
    one(target)
}

fn scattered(
    context: &Context,
    arguments: &Arguments,
    target: &Tensor,
    combine: Combine,
) -> Result<(), OperatorError> {
    let dim = target.dimension(arguments.int("dim")?)?;
    let index = arguments.tensor("index")?;
    let starts = offsets(context, target, dim, index)?;
    let name = if arguments.get("src").is_some() {
        "src"
    } else {
        "value"
    };
    let values = operand(context, arguments, name)?;
    let values = if values.rank() == 0 && index.rank() != 0 {
        values.expand(index.shape())?
    } else {
        let mut part = values;
        for (dim, &size) in index.shape().iter().enumerate() {
            part = part.narrow(dim, 0, size, 1)?;
        }
        part
    };
    if starts.is_empty() {
        return Ok(());
    }
    let single = target.as_strided(Vec::new(), Vec::new(), target.offset())?;
    put(context, target, &single, &starts, &values, combine)
}

fn scatter_reduce(context: &Context, arguments: Arguments) -> Results {
    let (combine, mean) = match arguments.text_or("reduce", "")? {
        "sum" | "add" => (Combine::Add, false),
        "mean" => (Combine::Add, true),
        "prod" | "multiply" => (Combine::Multiply, false),
        "amax" => (Combine::Highest, false),
        "amin" => (Combine::Lowest, false),
        other => {
            return Err(OperatorError::Argument {
                argument: "reduce",
                expected: "sum, mean, prod, amax or amin",
                got: other.into(),
            });
        }
    };
    let target = context.copied(arguments.tensor("self")?)?;
    let own = arguments.bool_or("include_self", true)?;
    if !own {
        scattered_value(
            context,
            &arguments,
            &target,
            neutral(combine, target.dtype()),
        )?;
    }
    scattered(context, &arguments, &target, combine)?;
    if !mean {
        return one(target);
    }
    // How many elements each sum has: its own one, where that counts, and those that came.
    let counts = context.empty(target.dtype(), target.shape())?;
    context.assign(&counts, &context.scalar(1i64)?)?;
    if !own {
        scattered_value(context, &arguments, &counts, 0.0)?;
    }
    let mut ones = Arguments::new([("value", 1.into())]);
    for name in ["dim", "index"] {
        ones.push(name, arguments.value(name)?.clone());
    }
    scattered(context, &ones, &counts, Combine::Add)?;
    let counts = super::tensor_of(
        context,
        "aten.clamp_min.default",
        [("self", counts.into()), ("min", 1.into())],
    )?;
    let mode = if super::operand::is_floating(target.dtype()) {
        Value::None
    } else {
        Value::Text("floor".into())
    };
    super::call(
        context,
        "aten.div.Tensor_mode",
        [
            ("self", target.into()),
            ("other", counts.into()),
            ("rounding_mode", mode),
        ],
    )
}

/// One value at all the places that the arguments name.
fn scattered_value(
    context: &Context,
    arguments: &Arguments,
    target: &Tensor,
    value: f64,
) -> Result<(), OperatorError> {
    let mut places = Arguments::new([("value", Value::Float(value))]);
    for name in ["dim", "index"] {
        places.push(name, arguments.value(name)?.clone());
    }
    scattered(context, &places, target, Combine::Replace)
}

/// What changes nothing where it is combined with an element.
fn neutral(combine: Combine, dtype: Dtype) -> f64 {
    let infinity = if super::operand::is_floating(dtype) {
        f64::INFINITY
    } else {
        match dtype {
            Dtype::U8 => f64::from(u8::MAX),
            Dtype::I8 => f64::from(i8::MAX),
            Dtype::I16 => f64::from(i16::MAX),
            Dtype::I32 => f64::from(i32::MAX),
            _ => i64::MAX as f64,
        }
    };
    match combine {
        Combine::Multiply => 1.0,
        Combine::Highest => -infinity,
        Combine::Lowest => infinity,
        Combine::Add | Combine::Replace => 0.0,
    }
}

/// The indices of all elements that are not zero, a row for each.
fn nonzero(context: &Context, tensor: &Tensor) -> Result<Tensor, OperatorError> {
    let tensor = context.contiguous(tensor)?;
    let rank = tensor.rank();
    let count = tensor.count();
    let dtype = tensor.dtype();
    let mut found = Vec::new();
    if count > 0 {
        computed!(dtype,
        floating C => {
            let reader = Reader::new(&tensor)?;
            let mut buffer = filled(C::default(), count)?;
            found.extend(C::read(&reader, 0, 1, &mut buffer).iter().enumerate().filter(|(_, value)| **value != C::default()).map(|(place, _)| place));
        },
        integer => {
            let reader = Reader::new(&tensor)?;
            let mut buffer = filled(C::default(), count)?;
            found.extend(C::read(&reader, 0, 1, &mut buffer).iter().enumerate().filter(|(_, value)| **value != C::default()).map(|(place, _)| place));
        });
    }
    let mut indices = filled(0i64, found.len() * rank)?;
    for (row, mut place) in found.iter().copied().enumerate() {
        for dim in (0..rank).rev() {
            indices[row * rank + dim] = (place % tensor.shape()[dim]) as i64;
            place /= tensor.shape()[dim];
        }
    }
    context.tensor(&indices, &[found.len(), rank])
}

fn masked_select(context: &Context, arguments: Arguments) -> Results {
    let (tensor, mask) = (arguments.tensor("self")?, arguments.tensor("mask")?);
    let shape = broadcast_shapes(tensor.shape(), mask.shape())?;
    let (tensor, mask) = (tensor.expand(&shape)?, mask.expand(&shape)?);
    let indexed = Indexed::new(context, &tensor, &[Some(&mask)])?;
    one(blocks(
        context,
        &indexed.tensor,
        &indexed.block()?,
        &indexed.starts,
        &indexed.result_shape(),
    )?)
}

/// The elements of a source, in order, where a mask is true.
fn masked_scatter(context: &Context, arguments: Arguments) -> Results {
    let (tensor, mask) = (arguments.tensor("self")?, arguments.tensor("mask")?);
    let shape = broadcast_shapes(tensor.shape(), mask.shape())?;
    let target = context.copied(&tensor.expand(&shape)?)?;
    let indexed = Indexed::new(context, &target, &[Some(&mask.expand(&shape)?)])?;
    let source = context.contiguous(arguments.tensor("source")?)?;
    let flat = source
        .view(&[source.count()])?
        .ok_or_else(|| wrong_shape("contiguous", &source))?;
    if flat.count() < indexed.starts.len() {
        return Err(wrong_shape(
            format!("at least {} elements", indexed.starts.len()),
            &source,
        ));
    }
    let values = flat.narrow(0, 0, indexed.starts.len(), 1)?;
    put(
        context,
        &indexed.tensor,
        &indexed.block()?,
        &indexed.starts,
        &values,
        Combine::Replace,
    )?;
    one(target)
}

fn one_hot(context: &Context, arguments: Arguments) -> Results {
    let tensor = arguments.tensor("self")?;
    let wanted = arguments.int_or("num_classes", -1)?;
    let indices = context.cast(tensor, Dtype::I64)?;
    let classes = if wanted < 0 {
        indices
            .elements::<i64>()?
            .iter()
            .max()
            .map_or(0, |highest| highest.saturating_add(1))
    } else {
        wanted
    };
    let classes = size("num_classes", classes)?;
    let mut values = filled(0i64, element_count(&[tensor.count(), classes])?)?;
    for (row, entry) in places(context, tensor, classes)?.into_iter().enumerate() {
        values[row * classes + entry] = 1;
    }
    let mut shape = tensor.shape().to_vec();
    shape.push(classes);
    one(context.tensor(&values, &shape)?)
}
