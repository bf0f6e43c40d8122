//! Recurrent layers, and the running of experts that export leaves whole.

use super::matrix::matmul;
use super::operand::{Results, one, wrong_shape};
use super::shape::joined;
use crate::kernels::{map1, map2, map3, sigmoid, tanh};
use crate::{Arguments, Context, OperatorError, Tensor, Value};
use weightstream::Dtype;

pub(super) const OPERATORS: super::Family = &[
    ("aten.lstm.input", |c, a| recurrent(c, &a, Cell::Lstm)),
    ("aten.gru.input", |c, a| recurrent(c, &a, Cell::Gru)),
    ("aten.rnn_tanh.input", |c, a| recurrent(c, &a, Cell::Tanh)),
    ("aten.rnn_relu.input", |c, a| recurrent(c, &a, Cell::Relu)),
    ("aten.lstm_cell.default", |c, a| single(c, &a, Cell::Lstm)),
    ("aten.gru_cell.default", |c, a| single(c, &a, Cell::Gru)),
    ("aten.rnn_tanh_cell.default", |c, a| {
        single(c, &a, Cell::Tanh)
    }),
    ("aten.rnn_relu_cell.default", |c, a| {
        single(c, &a, Cell::Relu)
    }),
    ("aten._weight_norm.default", weight_norm),
    ("aten._grouped_mm.default", |c, a| {
        grouped(c, &a, "self", "mat2", "offs")
    }),
    ("transformers.grouped_mm_fallback.default", |c, a| {
        grouped(c, &a, "input", "weight", "offs")
    }),
];

#[derive(Clone, Copy, PartialEq)]
enum Cell {
    Lstm,
    Gru,
    Tanh,
    Relu,
}

/// The weights of one layer in one direction.
struct Layer<'a> {
    input: &'a Tensor,
    hidden: &'a Tensor,
    biases: Option<[&'a Tensor; 2]>,
    /// Of an LSTM whose output is smaller than its state.
    projection: Option<&'a Tensor>,
}

/// Results: the output, the last hidden state of each layer, and of an LSTM the last cell state.
fn recurrent(context: &Context, arguments: &Arguments, cell: Cell) -> Results {
    let mut sequence = arguments.tensor("input")?.clone();
    let states = match arguments.value("hx")? {
        Value::Tensor(state) => vec![state],
        _ => arguments.tensors("hx")?,
    };
    let parameters = arguments.tensors("params")?;
    let biased = arguments.bool_or("has_biases", true)?;
    let layers = super::operand::size("num_layers", arguments.int_or("num_layers", 1)?)?;
    let directions = if arguments.bool_or("bidirectional", false)? {
        2
    } else {
        1
    };
    if arguments.bool_or("train", false)? && arguments.float_or("dropout", 0.0)? > 0.0 {
        return Err(OperatorError::Unsupported(
            "dropout in training is random: export the model after model.eval()".into(),
        ));
    }
    let batch_first = arguments.bool_or("batch_first", false)?;
    if batch_first {
        sequence = sequence.transpose(0, 1)?;
    }
    let expected = if cell == Cell::Lstm { 2 } else { 1 };
    let per_layer = parameters.len() / (layers * directions).max(1);
    let least = if biased { 4 } else { 2 };
    if states.len() != expected || sequence.rank() != 3 || !(least..=least + 1).contains(&per_layer)
    {
        return Err(wrong_shape(
            "(steps, batch, size), the states and the weights of all layers",
            &sequence,
        ));
    }
    let mut last: [Vec<Tensor>; 2] = Default::default();
    for layer in 0..layers {
        let mut outputs = Vec::new();
        for direction in 0..directions {
            let number = layer * directions + direction;
            let weights = &parameters[number * per_layer..(number + 1) * per_layer];
            let layer = Layer {
                input: weights[0],
                hidden: weights[1],
                biases: biased.then(|| [weights[2], weights[3]]),
                projection: weights.get(least).copied(),
            };
            let state = states
                .iter()
                .map(|state| state.select(0, number))
                .collect::<Result<Vec<_>, _>>()?;
            let (output, state) = layer.run(context, cell, &sequence, state, direction == 1)?;
            outputs.push(output);
            for (last, state) in last.iter_mut().zip(state) {
                last.push(state.unsqueeze(0)?);
            }
        }
        sequence = joined(context, &outputs.iter().collect::<Vec<_>>(), 2)?;
    }
    if batch_first {
        sequence = sequence.transpose(0, 1)?;
    }
    let mut results: Vec<Value> = vec![sequence.into()];
    for states in last.iter().take(expected) {
        results.push(joined(context, &states.iter().collect::<Vec<_>>(), 0)?.into());
    }
    Ok(results)
}

/// One step of a cell; results: its new states.
fn single(context: &Context, arguments: &Arguments, cell: Cell) -> Results {
    let input = arguments.tensor("input")?;
    let state: Vec<Tensor> = match arguments.value("hx")? {
        Value::Tensor(state) => vec![state.clone()],
        _ => arguments.tensors("hx")?.into_iter().cloned().collect(),
    };
    let biases = arguments
        .optional_tensor("b_ih")?
        .zip(arguments.optional_tensor("b_hh")?);
    let layer = Layer {
        input: arguments.tensor("w_ih")?,
        hidden: arguments.tensor("w_hh")?,
        biases: biases.map(|(input, hidden)| [input, hidden]),
        projection: None,
    };
    let Some(hidden) = state.first() else {
        return Err(wrong_shape("a state", input));
    };
    let inputs = affine(
        context,
        input,
        layer.input,
        layer.biases.map(|biases| biases[0]),
    )?;
    let hidden = affine(
        context,
        hidden,
        layer.hidden,
        layer.biases.map(|biases| biases[1]),
    )?;
    let states = layer.step(context, cell, &inputs, &hidden, state)?;
    Ok(states.into_iter().map(Value::from).collect())
}

impl Layer<'_> {
    /// The outputs of all steps, and the last state.
    fn run(
        &self,
        context: &Context,
        cell: Cell,
        sequence: &Tensor,
        mut state: Vec<Tensor>,
        backwards: bool,
    ) -> Result<(Tensor, Vec<Tensor>), OperatorError> {
        // What comes from the input is computed for all steps at once.
        let inputs = affine(
            context,
            sequence,
            self.input,
            self.biases.map(|biases| biases[0]),
        )?;
        let steps = inputs.shape()[0];
        let mut outputs = crate::memory::filled(None, steps)?;
        for index in 0..steps {
            let step = if backwards { steps - 1 - index } else { index };
            let input = inputs.select(0, step)?;
            let hidden = affine(
                context,
                &state[0],
                self.hidden,
                self.biases.map(|biases| biases[1]),
            )?;
            state = self.step(context, cell, &input, &hidden, state)?;
            outputs[step] = Some(state[0].unsqueeze(0)?);
        }
        let outputs: Vec<&Tensor> = outputs.iter().flatten().collect();
        if outputs.is_empty() {
            return Err(wrong_shape("at least one step", sequence));
        }
        Ok((joined(context, &outputs, 0)?, state))
    }

    fn step(
        &self,
        context: &Context,
        cell: Cell,
        input: &Tensor,
        hidden: &Tensor,
        state: Vec<Tensor>,
    ) -> Result<Vec<Tensor>, OperatorError> {
        let dtype = input.dtype();
        let last = input.rank() - 1;
        let part = |tensor: &Tensor, index: usize, parts: usize| {
            let length = tensor.shape()[last] / parts;
            tensor.narrow(last, index * length, (index + 1) * length, 1)
        };
        match cell {
            Cell::Tanh => Ok(vec![map2::<f32, f32>(
                context,
                dtype,
                input.shape(),
                [input, hidden],
                #[inline(always)]
                |a, b| tanh(a + b),
            )?]),
            Cell::Relu => Ok(vec![map2::<f32, f32>(
                context,
                dtype,
                input.shape(),
                [input, hidden],
                #[inline(always)]
                |a, b| (a + b).max(0.0),
            )?]),
            Cell::Gru => {
                let gate = |index| {
                    let (a, b) = (part(input, index, 3)?, part(hidden, index, 3)?);
                    map2::<f32, f32>(
                        context,
                        dtype,
                        a.shape(),
                        [&a, &b],
                        #[inline(always)]
                        |a, b| sigmoid(a + b),
                    )
                };
                let (reset, update) = (gate(0)?, gate(1)?);
                let (a, b) = (part(input, 2, 3)?, part(hidden, 2, 3)?);
                let new = map3::<f32, f32>(
                    context,
                    dtype,
                    a.shape(),
                    [&a, &b, &reset],
                    #[inline(always)]
                    |a, b, r| tanh(a + r * b),
                )?;
                Ok(vec![map3::<f32, f32>(
                    context,
                    dtype,
                    new.shape(),
                    [&new, &state[0], &update],
                    #[inline(always)]
                    |n, h, z| (h - n) * z + n,
                )?])
            }
            Cell::Lstm => {
                let all = map2::<f32, f32>(
                    context,
                    dtype,
                    input.shape(),
                    [input, hidden],
                    #[inline(always)]
                    |a, b| a + b,
                )?;
                let (forget, candidate) = (part(&all, 1, 4)?, part(&all, 2, 4)?);
                let entered = map2::<f32, f32>(
                    context,
                    Dtype::F32,
                    candidate.shape(),
                    [&part(&all, 0, 4)?, &candidate],
                    #[inline(always)]
                    |i, g| sigmoid(i) * tanh(g),
                )?;
                let kept = map3::<f32, f32>(
                    context,
                    dtype,
                    candidate.shape(),
                    [&forget, &state[1], &entered],
                    #[inline(always)]
                    |f, c, e| sigmoid(f) * c + e,
                )?;
                let mut output = map2::<f32, f32>(
                    context,
                    dtype,
                    kept.shape(),
                    [&part(&all, 3, 4)?, &kept],
                    #[inline(always)]
                    |o, c| sigmoid(o) * tanh(c),
                )?;
                if let Some(projection) = self.projection {
                    output = matmul(context, &output, &projection.transpose(0, 1)?)?;
                }
                Ok(vec![output, kept])
            }
        }
    }
}

fn affine(
    context: &Context,
    input: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
) -> Result<Tensor, OperatorError> {
    let product = matmul(context, input, &weight.transpose(0, 1)?)?;
    match bias {
        None => Ok(product),
        Some(bias) => map2::<f32, f32>(
            context,
            product.dtype(),
            product.shape(),
            [&product, bias],
            #[inline(always)]
            |a, b| a + b,
        ),
    }
}

/// g · v / |v|, with a norm for each entry of one dimension.
fn weight_norm(context: &Context, arguments: Arguments) -> Results {
    let (direction, length) = (arguments.tensor("v")?, arguments.tensor("g")?);
    let dim = direction.dimension(arguments.int_or("dim", 0)?)?;
    let others: Vec<usize> = (0..direction.rank())
        .filter(|other| *other != dim)
        .collect();
    let squares = map1::<f32, f32>(
        context,
        Dtype::F32,
        direction,
        #[inline(always)]
        |a| a * a,
    )?;
    let sums = super::reduction::sum_over(context, &squares, &others, true, Dtype::F32)?;
    one(map3::<f32, f32>(
        context,
        direction.dtype(),
        direction.shape(),
        [direction, length, &sums],
        #[inline(always)]
        |v, g, sum| v * (g / sum.sqrt()),
    )?)
}

/// Rows of the input up to each offset, times the matrix of that number: the experts of a mixture. The matrix of an
/// expert without rows is not touched.
fn grouped(
    context: &Context,
    arguments: &Arguments,
    input: &'static str,
    weight: &'static str,
    offsets: &'static str,
) -> Results {
    let (input, weights) = (arguments.tensor(input)?, arguments.tensor(weight)?);
    let ends = context.cast(arguments.tensor(offsets)?, Dtype::I64)?;
    let ends = ends.elements::<i64>()?.to_vec();
    if input.rank() != 2 || weights.rank() != 3 || ends.len() != weights.shape()[0] {
        return Err(wrong_shape(
            "rows, and a matrix for each group of them",
            weights,
        ));
    }
    let result = context.empty(input.dtype(), &[input.shape()[0], weights.shape()[2]])?;
    context.assign(&result, &context.scalar(0i64)?)?;
    let mut start = 0;
    for (expert, end) in ends.into_iter().enumerate() {
        let end = super::operand::size("offs", end)?.min(input.shape()[0]);
        if end > start {
            let product = matmul(
                context,
                &input.narrow(0, start, end, 1)?,
                &weights.select(0, expert)?,
            )?;
            context.assign(&result.narrow(0, start, end, 1)?, &product)?;
        }
        start = start.max(end);
    }
    one(result)
}
