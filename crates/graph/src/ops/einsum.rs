//! Einstein's sum convention, as matrix products of two operands at a time.

use super::matrix::matmul;
use super::operand::{Results, one};
use super::reduction::sum_over;
use crate::{Arguments, Context, OperatorError, Tensor};

/// Labels of a tensor's dimensions. Those that an ellipsis stands for are numbered from a place of their own.
type Labels = Vec<char>;

pub(super) fn einsum(context: &Context, arguments: Arguments) -> Results {
    let equation: String = arguments
        .text_or("equation", "")?
        .chars()
        .filter(|c| !c.is_whitespace())
        .collect();
    let wrong = || {
        OperatorError::Unsupported(format!(
            "the equation {equation:?} of einsum is not understood"
        ))
    };
    let tensors = arguments.tensors("tensors")?;
    let (left, right) = match equation.split_once("->") {
        Some((left, right)) => (left, Some(right)),
        None => (equation.as_str(), None),
    };
    let terms: Vec<&str> = left.split(',').collect();
    if terms.len() != tensors.len() {
        return Err(wrong());
    }
    let mut operands = Vec::new();
    let mut hidden = 0;
    for (term, tensor) in terms.iter().zip(&tensors) {
        let named = term.replace("...", "").chars().count();
        let ellipsis = tensor.rank().checked_sub(named).ok_or_else(wrong)?;
        if !term.contains("...") && ellipsis > 0 {
            return Err(wrong());
        }
        hidden = hidden.max(ellipsis);
        operands.push((*term, (*tensor).clone(), ellipsis));
    }
    let labels = |term: &str, ellipsis: usize| -> Labels {
        let mut labels = Labels::new();
        let (before, after) = term.split_once("...").unwrap_or((term, ""));
        labels.extend(before.chars());
        if term.contains("...") {
            labels.extend((hidden - ellipsis..hidden).map(hidden_label));
        }
        labels.extend(after.chars());
        labels
    };
    let mut operands: Vec<(Labels, Tensor)> = operands
        .into_iter()
        .map(|(term, tensor, ellipsis)| (labels(term, ellipsis), tensor))
        .collect();
    let target = match right {
        Some(right) => labels(right, hidden),
        None => {
            // Without an arrow: what the ellipsis stands for, then what occurs once, in alphabetical order.
            let all: Vec<char> = operands
                .iter()
                .flat_map(|(labels, _)| labels.iter().copied())
                .collect();
            let mut once: Labels = all
                .iter()
                .copied()
                .filter(|c| all.iter().filter(|d| *d == c).count() == 1 && c.is_alphabetic())
                .collect();
            once.sort_unstable();
            (0..hidden).map(hidden_label).chain(once).collect()
        }
    };
    for (labels, tensor) in &mut operands {
        diagonal(labels, tensor)?;
    }
    let mut operands = operands.into_iter();
    let (mut labels, mut tensor) = operands.next().ok_or_else(wrong)?;
    let rest: Vec<_> = operands.collect();
    for (index, (other, right)) in rest.iter().enumerate() {
        let needed: Labels = target
            .iter()
            .copied()
            .chain(
                rest[index + 1..]
                    .iter()
                    .flat_map(|(labels, _)| labels.iter().copied()),
            )
            .collect();
        (labels, tensor) = contract(
            context,
            (labels, tensor),
            (other.clone(), right.clone()),
            &needed,
        )?;
    }
    let (labels, tensor) = summed(context, labels, tensor, &target)?;
    let order = target
        .iter()
        .map(|label| labels.iter().position(|other| other == label))
        .collect::<Option<Vec<_>>>()
        .ok_or_else(wrong)?;
    one(tensor.permute(&order)?)
}

fn hidden_label(index: usize) -> char {
    char::from_digit(index as u32 % 10, 10).unwrap_or('0')
}

/// A label that occurs twice in one operand is its diagonal.
fn diagonal(labels: &mut Labels, tensor: &mut Tensor) -> Result<(), OperatorError> {
    while let Some((first, second)) = (0..labels.len())
        .flat_map(|second| (0..second).map(move |first| (first, second)))
        .find(|&(first, second)| labels[first] == labels[second])
    {
        let (mut shape, mut strides) = (tensor.shape().to_vec(), tensor.strides().to_vec());
        if shape[first] != shape[second] {
            return Err(super::operand::wrong_shape(
                "equal sizes for equal labels",
                tensor,
            ));
        }
        strides[first] += strides[second];
        shape.remove(second);
        strides.remove(second);
        labels.remove(second);
        *tensor = tensor.as_strided(shape, strides, tensor.offset())?;
    }
    Ok(())
}

/// The sum over the dimensions whose labels are not needed.
fn summed(
    context: &Context,
    labels: Labels,
    tensor: Tensor,
    needed: &[char],
) -> Result<(Labels, Tensor), OperatorError> {
    let gone: Vec<usize> = (0..labels.len())
        .filter(|&dim| !needed.contains(&labels[dim]))
        .collect();
    if gone.is_empty() {
        return Ok((labels, tensor));
    }
    let sum = sum_over(context, &tensor, &gone, false, tensor.dtype())?;
    Ok((
        labels
            .into_iter()
            .filter(|label| needed.contains(label))
            .collect(),
        sum,
    ))
}

/// The product of two operands, summed over what both have and nobody needs.
fn contract(
    context: &Context,
    (left, a): (Labels, Tensor),
    (right, b): (Labels, Tensor),
    needed: &[char],
) -> Result<(Labels, Tensor), OperatorError> {
    let keep =
        |own: &[char]| -> Labels { own.iter().copied().chain(needed.iter().copied()).collect() };
    let (left, a) = summed(context, left, a, &keep(&right))?;
    let (right, b) = summed(context, right, b, &keep(&left))?;
    let only = |one: &[char], other: &[char]| -> Labels {
        one.iter()
            .copied()
            .filter(|label| !other.contains(label))
            .collect()
    };
    let (both, rows, columns) = (
        left.iter()
            .copied()
            .filter(|label| right.contains(label))
            .collect::<Labels>(),
        only(&left, &right),
        only(&right, &left),
    );
    let (batch, inner): (Labels, Labels) =
        both.into_iter().partition(|label| needed.contains(label));
    let size = |label: char| {
        let find = |labels: &Labels, tensor: &Tensor| {
            labels
                .iter()
                .position(|other| *other == label)
                .map(|dim| tensor.shape()[dim])
        };
        find(&left, &a)
            .unwrap_or(1)
            .max(find(&right, &b).unwrap_or(1))
    };
    let count = |labels: &Labels| labels.iter().map(|&label| size(label)).product::<usize>();
    let arranged =
        |labels: &Labels, tensor: &Tensor, groups: [&Labels; 3]| -> Result<Tensor, OperatorError> {
            let order: Vec<usize> = groups
                .iter()
                .flat_map(|group| group.iter())
                .filter_map(|label| labels.iter().position(|other| other == label))
                .collect();
            let full: Vec<usize> = groups
                .iter()
                .flat_map(|group| group.iter())
                .map(|&label| size(label))
                .collect();
            let arranged = tensor.permute(&order)?.expand(&full)?;
            let shape = groups.map(count);
            match arranged.view(&shape)? {
                Some(view) => Ok(view),
                None => context
                    .copied(&arranged)?
                    .view(&shape)?
                    .ok_or_else(|| super::operand::wrong_shape("contiguous", tensor)),
            }
        };
    let product = matmul(
        context,
        &arranged(&left, &a, [&batch, &rows, &inner])?,
        &arranged(&right, &b, [&batch, &inner, &columns])?,
    )?;
    let labels: Labels = batch.into_iter().chain(rows).chain(columns).collect();
    let shape: Vec<usize> = labels.iter().map(|&label| size(label)).collect();
    let product = product
        .view(&shape)?
        .ok_or_else(|| super::operand::wrong_shape("contiguous", &product))?;
    Ok((labels, product))
}
