//! Runs a graph: node after node, each value dropped at its last use.

use crate::graph::{Argument, Graph, Node, Operation, Output};
use crate::memory::ended;
use crate::{Arguments, Context, OperatorError, ProgramError, Value};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use weightstream::{Stream, caught};

/// What goes on around the nodes.
pub struct Execution<'r, 'p> {
    pub context: &'r Context,
    pub stream: &'r Stream,
    pub cancel: Option<&'r AtomicBool>,
    pub progress: Option<&'p mut dyn FnMut(usize, usize)>,
    /// Time spent in each block.
    pub times: Vec<Duration>,
    block: Option<u32>,
    entered: Instant,
}

impl<'r> Execution<'r, '_> {
    pub fn new(context: &'r Context, stream: &'r Stream, blocks: usize) -> Self {
        Self {
            context,
            stream,
            cancel: None,
            progress: None,
            times: vec![Duration::ZERO; blocks],
            block: None,
            entered: Instant::now(),
        }
    }

    /// Runs the program's graph on its inputs.
    pub fn run(&mut self, graph: &Graph, inputs: Vec<Value>) -> Result<Vec<Value>, ProgramError> {
        let outputs = self.nodes(graph, inputs);
        // Told also after an error: another run may begin in this thread.
        let left = self.switch(None);
        let outputs = outputs?;
        left?;
        Ok(outputs)
    }

    fn nodes(&mut self, graph: &Graph, inputs: Vec<Value>) -> Result<Vec<Value>, ProgramError> {
        let mut values: Vec<Option<Value>> = Vec::new();
        values.resize_with(graph.values, || None);
        for (input, number) in inputs.into_iter().zip(&graph.inputs) {
            if let Some(number) = number {
                values[*number] = Some(input);
            }
        }
        for (done, node) in graph.nodes.iter().enumerate() {
            if self
                .cancel
                .is_some_and(|cancel| cancel.load(Ordering::Relaxed))
            {
                return Err(ProgramError::Cancelled);
            }
            if let Some(block) = node.block {
                self.switch(Some(block))?;
                if let Some(progress) = &mut self.progress {
                    progress(done, graph.nodes.len());
                }
            }
            let results = self.node(node, &mut values)?;
            for (output, result) in node.outputs.iter().zip(results) {
                store(output, result, &mut values);
            }
        }
        if let Some(progress) = &mut self.progress {
            progress(graph.nodes.len(), graph.nodes.len());
        }
        graph
            .outputs
            .iter()
            .map(|output| gather(output, &mut values))
            .collect()
    }

    fn node(
        &mut self,
        node: &Node,
        values: &mut [Option<Value>],
    ) -> Result<Vec<Value>, ProgramError> {
        match node.operation {
            Operation::Operator(implementation) => {
                let mut arguments = Arguments::default();
                for (name, argument) in &node.arguments {
                    arguments.push(name.clone(), gather(argument, values)?);
                }
                // The block that runs has to be left, whatever an operator does.
                caught(|| ended(|| implementation.call(self.context, arguments)))
                    .unwrap_or_else(|panic| Err(panic.into()))
                    .map_err(|cause| failed(node, cause))
            }
            Operation::Condition => self.condition(node, values),
        }
    }

    /// `cond(predicate, if_true, if_false, operands)`.
    fn condition(
        &mut self,
        node: &Node,
        values: &mut [Option<Value>],
    ) -> Result<Vec<Value>, ProgramError> {
        let malformed = || {
            let expected = "a predicate, two graphs and their operands".to_owned();
            failed(
                node,
                OperatorError::Unsupported(format!("expected {expected}")),
            )
        };
        let [
            (_, predicate),
            (_, Argument::Graph(when)),
            (_, Argument::Graph(otherwise)),
            operands @ ..,
        ] = &node.arguments[..]
        else {
            return Err(malformed());
        };
        let holds = match gather(predicate, values)? {
            Value::Bool(value) => value,
            Value::Tensor(tensor) => tensor.item().map_err(|cause| failed(node, cause))? != 0.0,
            _ => return Err(malformed()),
        };
        let mut inputs = Vec::new();
        for (_, operand) in operands {
            match gather(operand, values)? {
                Value::List(list) => inputs.extend(list),
                value => inputs.push(value),
            }
        }
        let outputs = self.nodes(if holds { when } else { otherwise }, inputs)?;
        Ok(match node.outputs[..] {
            [Output::List(_)] => vec![Value::List(outputs)],
            _ => outputs,
        })
    }

    /// Leaves the block that runs and enters another.
    fn switch(&mut self, block: Option<u32>) -> Result<(), ProgramError> {
        let now = Instant::now();
        if let Some(left) = self.block.take() {
            if let Some(time) = self.times.get_mut(left as usize) {
                *time += now - self.entered;
            }
            self.stream.leave(left)?;
        }
        if let Some(entered) = block {
            self.stream.enter(entered)?;
            self.block = block;
        }
        self.entered = now;
        Ok(())
    }
}

fn gather(argument: &Argument, values: &mut [Option<Value>]) -> Result<Value, ProgramError> {
    match argument {
        Argument::Constant(value) => Ok(value.clone()),
        Argument::Value { index, last } => {
            let value = &mut values[*index];
            let value = if *last { value.take() } else { value.clone() };
            value.ok_or_else(|| {
                ProgramError::Malformed(format!("value {index} is used before it is computed"))
            })
        }
        Argument::List(arguments) => arguments
            .iter()
            .map(|argument| gather(argument, values))
            .collect::<Result<_, _>>()
            .map(Value::List),
        Argument::Graph(_) => Ok(Value::None),
    }
}

fn store(output: &Output, result: Value, values: &mut [Option<Value>]) {
    match (output, result) {
        (Output::Value(index), result) => values[*index] = Some(result),
        (Output::List(indices), Value::List(results)) => {
            for (index, result) in indices.iter().zip(results) {
                if let Some(index) = index {
                    values[*index] = Some(result);
                }
            }
        }
        (Output::List(_) | Output::Unused, _) => {}
    }
}

fn failed(node: &Node, cause: OperatorError) -> ProgramError {
    ProgramError::Operator {
        node: node.name.clone(),
        target: node.target.clone(),
        module: node.module.clone(),
        cause: Box::new(cause),
    }
}
