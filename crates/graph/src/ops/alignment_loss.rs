//! The loss of connectionist temporal classification: how unlikely all alignments of a target are together.

use super::loss::{Reduction, reduced, reduction};
use super::operand::{Results, size, wrong_shape};
use super::shape::index;
use crate::{Arguments, Context, OperatorError, Tensor, Value};
use weightstream::Dtype;

pub(super) const OPERATORS: super::Family = &[
    ("aten.ctc_loss.IntList", |c, a| ctc(c, &a)),
    ("aten.ctc_loss.Tensor", |c, a| ctc(c, &a)),
    ("aten._ctc_loss.default", |c, a| of_samples(c, &a)),
    ("aten._ctc_loss.Tensor", |c, a| of_samples(c, &a)),
];

/// The loss of each sample, and what only a backward pass reads.
fn of_samples(context: &Context, arguments: &Arguments) -> Results {
    let losses = losses(context, arguments)?;
    let nothing = context.empty(losses.dtype(), &[0])?;
    Ok(vec![losses.into(), nothing.into()])
}

/// The losses, or their sum, or the mean of what each is for one entry of its target.
fn ctc(context: &Context, arguments: &Arguments) -> Results {
    let losses = losses(context, arguments)?;
    if reduction(arguments)? != Reduction::Mean {
        return reduced(context, arguments, losses);
    }
    let lengths: Vec<f32> = numbers(context, arguments.value("target_lengths")?)?
        .into_iter()
        .map(|length| length.max(1) as f32)
        .collect();
    let lengths = context.tensor(&lengths, losses.shape())?;
    let shares = [("self", losses.into()), ("other", lengths.into())];
    let shares = super::tensor_of(context, "aten.div.Tensor", shares)?;
    reduced(context, arguments, shares)
}

/// A list of integers, or a tensor of them.
fn numbers(context: &Context, value: &Value) -> Result<Vec<i64>, OperatorError> {
    let named = Arguments::new([("lengths", value.clone())]);
    match value {
        Value::Tensor(tensor) => Ok(context
            .cast(tensor, Dtype::I64)?
            .elements::<i64>()?
            .to_vec()),
        _ => named.ints("lengths"),
    }
}

fn losses(context: &Context, arguments: &Arguments) -> Result<Tensor, OperatorError> {
    let given = arguments.tensor("log_probs")?;
    let (steps, samples, classes) = match *given.shape() {
        [steps, classes] => (steps, 1, classes),
        [steps, samples, classes] => (steps, samples, classes),
        _ => return Err(wrong_shape("(step, sample, class)", given)),
    };
    let blank = index(arguments.int_or("blank", 0)?, classes)?;
    let targets = arguments.tensor("targets")?;
    let input_lengths = numbers(context, arguments.value("input_lengths")?)?;
    let target_lengths = numbers(context, arguments.value("target_lengths")?)?;
    if input_lengths.len() != samples || target_lengths.len() != samples {
        return Err(wrong_shape(format!("lengths for {samples} samples"), given));
    }
    // One row for each sample, or one after the other.
    let row = (targets.rank() == 2).then(|| targets.shape()[1]);
    let wanted = numbers(context, &targets.clone().into())?;
    let wide = context.cast(given, Dtype::F64)?;
    let values = wide.elements::<f64>()?;
    let endless = arguments.bool_or("zero_infinity", false)?;
    let mut losses = Vec::with_capacity(samples);
    let mut start = 0;
    for sample in 0..samples {
        let length = size("target_lengths", target_lengths[sample])?;
        let used = size("input_lengths", input_lengths[sample])?.min(steps);
        let first = row.map_or(start, |row| row * sample);
        start += length;
        let target = wanted
            .get(first..first + length)
            .ok_or_else(|| wrong_shape(format!("at least {} targets", first + length), targets))?;
        let target = target
            .iter()
            .map(|&class| index(class, classes))
            .collect::<Result<Vec<_>, _>>()?;
        let at = |step: usize, class: usize| values[(step * samples + sample) * classes + class];
        let loss = -likelihood(used, &target, blank, at);
        losses.push(if endless && loss.is_infinite() {
            0.0
        } else {
            loss
        });
    }
    let shape: &[usize] = if given.rank() == 2 { &[] } else { &[samples] };
    context.cast(&context.tensor(&losses, shape)?, given.dtype())
}

/// The logarithm of the probability that `steps` steps spell `target`, blanks between its entries or not.
fn likelihood(
    steps: usize,
    target: &[usize],
    blank: usize,
    at: impl Fn(usize, usize) -> f64,
) -> f64 {
    let class = |place: usize| {
        if place.is_multiple_of(2) {
            blank
        } else {
            target[place / 2]
        }
    };
    let places = 2 * target.len() + 1;
    let mut paths = vec![f64::NEG_INFINITY; places];
    if steps == 0 {
        return if target.is_empty() {
            0.0
        } else {
            f64::NEG_INFINITY
        };
    }
    for (place, path) in paths.iter_mut().enumerate().take(2) {
        *path = at(0, class(place));
    }
    for step in 1..steps {
        let before = paths.clone();
        for (place, path) in paths.iter_mut().enumerate() {
            let mut ways = vec![before[place]];
            if place > 0 {
                ways.push(before[place - 1]);
            }
            // A blank may be skipped, but not between two entries that are equal.
            if place > 1 && place % 2 == 1 && class(place) != class(place - 2) {
                ways.push(before[place - 2]);
            }
            *path = sum(&ways) + at(step, class(place));
        }
    }
    sum(&paths[places.saturating_sub(2)..])
}

/// The logarithm of the sum of e^x.
fn sum(logarithms: &[f64]) -> f64 {
    let highest = logarithms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if highest == f64::NEG_INFINITY {
        return highest;
    }
    let total: f64 = logarithms.iter().map(|value| (value - highest).exp()).sum();
    highest + total.ln()
}
