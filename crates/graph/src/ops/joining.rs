//! Tensors put together of others, in more ways than one after the other.

use super::operand::{Results, one, size, wrong_shape};
use super::shape::joined;
use super::{call, tensor_of};
use crate::{Arguments, Context, OperatorError, Tensor, Value};

pub(super) const OPERATORS: super::Family = &[
    ("aten.hstack.default", |c, a| {
        let raised = raised(&a.tensors("tensors")?, 1)?;
        let dim = usize::from(raised.first().is_some_and(|tensor| tensor.rank() > 1));
        one(joined(c, &raised.iter().collect::<Vec<_>>(), dim)?)
    }),
    ("aten.vstack.default", |c, a| {
        let raised = raised(&a.tensors("tensors")?, 2)?;
        one(joined(c, &raised.iter().collect::<Vec<_>>(), 0)?)
    }),
    ("aten.dstack.default", |c, a| {
        let raised = raised(&a.tensors("tensors")?, 3)?;
        one(joined(c, &raised.iter().collect::<Vec<_>>(), 2)?)
    }),
    ("aten.column_stack.default", |c, a| {
        let mut columns = Vec::new();
        for tensor in a.tensors("tensors")? {
            columns.push(match tensor.rank() {
                0 => tensor.unsqueeze(0)?.unsqueeze(1)?,
                1 => tensor.unsqueeze(1)?,
                _ => tensor.clone(),
            });
        }
        one(joined(c, &columns.iter().collect::<Vec<_>>(), 1)?)
    }),
    ("aten.atleast_1d.default", |_, a| raise(&a, 1)),
    ("aten.atleast_2d.default", |_, a| raise(&a, 2)),
    ("aten.atleast_3d.default", |_, a| raise(&a, 3)),
    ("aten.cartesian_prod.default", cartesian),
    ("aten.combinations.default", combinations),
    ("aten.kron.default", kronecker),
    ("aten.tensordot.default", tensordot),
];

/// With at least `rank` dimensions, as numpy adds them.
fn raised(tensors: &[&Tensor], rank: usize) -> Result<Vec<Tensor>, OperatorError> {
    tensors
        .iter()
        .map(|tensor| at_least(tensor, rank))
        .collect()
}

fn at_least(tensor: &Tensor, rank: usize) -> Result<Tensor, OperatorError> {
    let mut tensor = tensor.clone();
    if tensor.rank() == 0 && rank > 0 {
        tensor = tensor.unsqueeze(0)?;
    }
    if tensor.rank() == 1 && rank > 1 {
        tensor = tensor.unsqueeze(0)?;
    }
    if tensor.rank() == 2 && rank > 2 {
        tensor = tensor.unsqueeze(2)?;
    }
    Ok(tensor)
}

fn raise(arguments: &Arguments, rank: usize) -> Results {
    one(at_least(arguments.tensor("self")?, rank)?)
}

/// Every choice of one element of each tensor, a row for each.
fn cartesian(context: &Context, arguments: Arguments) -> Results {
    let tensors = arguments.value("tensors")?.clone();
    if arguments.tensors("tensors")?.len() == 1 {
        return one(arguments.tensors("tensors")?[0].clone());
    }
    let grids = call(context, "aten.meshgrid.default", [("tensors", tensors)])?;
    let Some(Value::List(grids)) = grids.into_iter().next() else {
        return Err(OperatorError::Unsupported("a grid of tensors".into()));
    };
    let mut columns = Vec::new();
    for grid in grids {
        let flat = [("self", grid), ("shape", vec![-1].into())];
        columns.push(tensor_of(context, "aten.reshape.default", flat)?.unsqueeze(1)?);
    }
    one(joined(context, &columns.iter().collect::<Vec<_>>(), 1)?)
}

/// Every choice of `r` elements in their order, a row for each.
fn combinations(context: &Context, arguments: Arguments) -> Results {
    let tensor = arguments.tensor("self")?;
    let chosen = size("r", arguments.int_or("r", 2)?)?;
    let again = arguments.bool_or("with_replacement", false)?;
    let entries = tensor.count();
    if tensor.rank() != 1 || chosen == 0 {
        return Err(wrong_shape(
            "one dimension, and at least one element to choose",
            tensor,
        ));
    }
    let mut places = Vec::new();
    let mut choice: Vec<usize> = (0..chosen)
        .map(|place| if again { 0 } else { place })
        .collect();
    while choice.iter().all(|&place| place < entries) {
        places.extend(choice.iter().map(|&place| place as i64));
        // The last one that can still move does, and those after it follow.
        let most = |place: usize| {
            if again {
                entries - 1
            } else {
                entries + place - chosen
            }
        };
        let Some(moved) = (0..chosen).rev().find(|&place| choice[place] < most(place)) else {
            break;
        };
        let first = choice[moved] + 1;
        for (step, place) in choice[moved..].iter_mut().enumerate() {
            *place = if again { first } else { first + step };
        }
    }
    let index = context.tensor(&places, &[places.len()])?;
    let found = tensor_of(
        context,
        "aten.index_select.default",
        [
            ("self", tensor.clone().into()),
            ("dim", 0.into()),
            ("index", index.into()),
        ],
    )?;
    one(found
        .view(&[places.len() / chosen, chosen])?
        .unwrap_or(found))
}

/// Each element of the first tensor times the whole second one.
fn kronecker(context: &Context, arguments: Arguments) -> Results {
    let (left, right) = (arguments.tensor("self")?, arguments.tensor("other")?);
    let rank = left.rank().max(right.rank());
    let full = |tensor: &Tensor| -> Result<Tensor, OperatorError> {
        let mut tensor = tensor.clone();
        while tensor.rank() < rank {
            tensor = tensor.unsqueeze(0)?;
        }
        Ok(tensor)
    };
    let (mut left, mut right) = (full(left)?, full(right)?);
    let shape: Vec<i64> = left
        .shape()
        .iter()
        .zip(right.shape())
        .map(|(a, b)| (a * b) as i64)
        .collect();
    for dim in 0..rank {
        left = left.unsqueeze(2 * dim + 1)?;
        right = right.unsqueeze(2 * dim)?;
    }
    let product = [("self", left.into()), ("other", right.into())];
    let product = tensor_of(context, "aten.mul.Tensor", product)?;
    let shaped = [("self", product.into()), ("shape", shape.into())];
    call(context, "aten.reshape.default", shaped)
}

/// The product summed over dimensions of both.
fn tensordot(context: &Context, arguments: Arguments) -> Results {
    let (left, right) = (arguments.tensor("self")?, arguments.tensor("other")?);
    let dims = |name, tensor: &Tensor| {
        arguments
            .ints(name)?
            .into_iter()
            .map(|dim| tensor.dimension(dim))
            .collect::<Result<Vec<_>, OperatorError>>()
    };
    let (inner_left, inner_right) = (dims("dims_self", left)?, dims("dims_other", right)?);
    let rest = |tensor: &Tensor, gone: &[usize]| -> Vec<usize> {
        (0..tensor.rank())
            .filter(|dim| !gone.contains(dim))
            .collect()
    };
    let (rows, columns) = (rest(left, &inner_left), rest(right, &inner_right));
    let sizes = |tensor: &Tensor, dims: &[usize]| -> Vec<usize> {
        dims.iter().map(|&dim| tensor.shape()[dim]).collect()
    };
    let matrix = |tensor: &Tensor, first: &[usize], second: &[usize]| {
        let order: Vec<usize> = first.iter().chain(second).copied().collect();
        let shape: Vec<i64> = [first, second]
            .iter()
            .map(|dims| sizes(tensor, dims).iter().product::<usize>() as i64)
            .collect();
        let shaped = [
            ("self", tensor.permute(&order)?.into()),
            ("shape", shape.into()),
        ];
        tensor_of(context, "aten.reshape.default", shaped)
    };
    let product = [
        ("self", matrix(left, &rows, &inner_left)?.into()),
        ("mat2", matrix(right, &inner_right, &columns)?.into()),
    ];
    let product = tensor_of(context, "aten.mm.default", product)?;
    let shape: Vec<i64> = sizes(left, &rows)
        .into_iter()
        .chain(sizes(right, &columns))
        .map(|size| size as i64)
        .collect();
    let shaped = [("self", product.into()), ("shape", shape.into())];
    call(context, "aten.reshape.default", shaped)
}
