//! A graph ready to be run: values have numbers instead of names, and each argument knows whether it is the last use.

use crate::ops::{self, Implementation};
use crate::schema::{self, OptionalTensor, Symbolic};
use crate::{MemoryFormat, ProgramError, Value};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use weightstream::exported_dtype;

/// Nodes in the order of the trace.
pub struct Graph {
    /// How many values there are.
    pub values: usize,
    /// Which value each input is; None for one that nobody uses.
    pub inputs: Vec<Option<usize>>,
    pub nodes: Vec<Node>,
    pub outputs: Vec<Argument>,
}

pub struct Node {
    pub name: String,
    pub target: String,
    pub operation: Operation,
    pub arguments: Vec<(Arc<str>, Argument)>,
    pub outputs: Vec<Output>,
    /// The module that it belongs to: `model.layers.3.mlp`.
    pub module: String,
    /// The block that begins here, where it is another one than before.
    pub block: Option<u32>,
}

pub enum Operation {
    /// Computed by an operator.
    Operator(Implementation),
    /// Runs the first or the second graph among the arguments.
    Condition,
}

pub enum Argument {
    Constant(Value),
    /// A value, and whether this is its last use.
    Value {
        index: usize,
        last: bool,
    },
    List(Vec<Argument>),
    Graph(Box<Graph>),
}

pub enum Output {
    Value(usize),
    /// Nobody uses it.
    Unused,
    List(Vec<Option<usize>>),
}

/// What `compile` found that can't be run, over all graphs.
#[derive(Default)]
pub struct Missing {
    /// Operators without an implementation, and the nodes that want them.
    pub operators: Vec<(String, String)>,
}

/// Prepares a graph to be run. Graphs that are only wrapped (in a mode of gradients) become part of it.
pub fn compile(graph: &schema::Graph, missing: &mut Missing) -> Result<Graph, ProgramError> {
    let mut compiler = Compiler {
        values: 0,
        nodes: Vec::with_capacity(graph.nodes.len()),
        missing,
    };
    let mut scope = Scope::new();
    let inputs = graph
        .inputs
        .iter()
        .map(|input| name_of_input(input).map(|name| compiler.define(name, &mut scope)))
        .collect();
    compiler.append(graph, &mut scope)?;
    let outputs = graph
        .outputs
        .iter()
        .map(|output| compiler.argument(output, &scope))
        .collect::<Result<_, _>>()?;
    let mut graph = Graph {
        values: compiler.values,
        inputs,
        nodes: compiler.nodes,
        outputs,
    };
    graph.mark_last_uses();
    Ok(graph)
}

/// What the names of a graph stand for.
type Scope = HashMap<String, Bound>;

#[derive(Clone)]
enum Bound {
    Value(usize),
    Constant(Value),
}

struct Compiler<'m> {
    values: usize,
    nodes: Vec<Node>,
    missing: &'m mut Missing,
}

impl Compiler<'_> {
    fn define(&mut self, name: &str, scope: &mut Scope) -> usize {
        let number = self.values;
        self.values += 1;
        scope.insert(name.to_owned(), Bound::Value(number));
        number
    }

    fn append(&mut self, graph: &schema::Graph, scope: &mut Scope) -> Result<(), ProgramError> {
        for node in &graph.nodes {
            match node.target.as_str() {
                "torch.ops.higher_order.wrap_with_set_grad_enabled"
                | "torch.ops.higher_order.wrap_with_autocast" => self.unwrap(node, scope)?,
                "torch.ops.higher_order.cond" => self.push(node, Operation::Condition, scope)?,
                target => match ops::find(target) {
                    Some(found) => self.push(node, Operation::Operator(found), scope)?,
                    None => {
                        let name = node.name.clone().unwrap_or_default();
                        self.missing.operators.push((target.to_owned(), name));
                        for output in &node.outputs {
                            self.output(output, scope)?;
                        }
                    }
                },
            }
        }
        Ok(())
    }

    fn push(
        &mut self,
        node: &schema::Node,
        operation: Operation,
        scope: &mut Scope,
    ) -> Result<(), ProgramError> {
        let mut arguments = Vec::with_capacity(node.inputs.len());
        for input in &node.inputs {
            arguments.push((
                input.name.as_str().into(),
                self.argument(&input.arg, scope)?,
            ));
        }
        let outputs = node
            .outputs
            .iter()
            .map(|output| self.output(output, scope))
            .collect::<Result<_, _>>()?;
        self.nodes.push(Node {
            name: node.name.clone().unwrap_or_default(),
            target: node.target.clone(),
            operation,
            arguments,
            outputs,
            module: module_of(node.metadata.nn_module_stack.as_deref().unwrap_or_default()),
            block: None,
        });
        Ok(())
    }

    /// Puts the nodes of the graph that `node` wraps in its place.
    fn unwrap(&mut self, node: &schema::Node, scope: &mut Scope) -> Result<(), ProgramError> {
        let malformed = || ProgramError::Malformed(format!("{} wraps no graph", node.target));
        let position = node
            .inputs
            .iter()
            .position(|input| matches!(input.arg, schema::Argument::AsGraph(_)))
            .ok_or_else(malformed)?;
        let (inputs, operands) = node.inputs.split_at(position + 1);
        let Some(schema::Argument::AsGraph(wrapped)) = inputs.last().map(|input| &input.arg) else {
            return Err(malformed());
        };
        let mut inner = Scope::new();
        for (input, operand) in wrapped.graph.inputs.iter().zip(operands) {
            if let Some(name) = name_of_input(input) {
                inner.insert(name.to_owned(), self.bound(&operand.arg, scope)?);
            }
        }
        self.append(&wrapped.graph, &mut inner)?;
        let names = node.outputs.iter().flat_map(names_of_output);
        for (name, output) in names.zip(&wrapped.graph.outputs) {
            let bound = self.bound(output, &inner)?;
            scope.insert(name.to_owned(), bound);
        }
        Ok(())
    }

    fn bound(&mut self, argument: &schema::Argument, scope: &Scope) -> Result<Bound, ProgramError> {
        match self.argument(argument, scope)? {
            Argument::Value { index, .. } => Ok(Bound::Value(index)),
            Argument::Constant(value) => Ok(Bound::Constant(value)),
            Argument::List(_) | Argument::Graph(_) => Err(ProgramError::Malformed(
                "a wrapped graph takes or gives a list".into(),
            )),
        }
    }

    fn output(
        &mut self,
        output: &schema::Argument,
        scope: &mut Scope,
    ) -> Result<Output, ProgramError> {
        use schema::Argument as A;
        Ok(match output {
            A::AsTensors(_) => Output::List(
                names_of_output(output)
                    .into_iter()
                    .map(|name| Some(self.define(name, scope)))
                    .collect(),
            ),
            A::AsOptionalTensors(tensors) => Output::List(
                tensors
                    .iter()
                    .map(|tensor| match tensor {
                        OptionalTensor::AsTensor(name) => Some(self.define(&name.name, scope)),
                        OptionalTensor::AsNone(_) => None,
                    })
                    .collect(),
            ),
            _ => match names_of_output(output)[..] {
                [name] => Output::Value(self.define(name, scope)),
                _ => Output::Unused,
            },
        })
    }

    fn argument(
        &mut self,
        argument: &schema::Argument,
        scope: &Scope,
    ) -> Result<Argument, ProgramError> {
        use schema::Argument as A;
        let constant = |value: Value| Ok(Argument::Constant(value));
        match argument {
            A::AsNone(_) => constant(Value::None),
            A::AsTensor(name) => find(&name.name, scope),
            A::AsTensors(names) => names
                .iter()
                .map(|name| find(&name.name, scope))
                .collect::<Result<_, _>>()
                .map(Argument::List),
            A::AsInt(value) => constant((*value).into()),
            A::AsInts(values) => constant(values.clone().into()),
            A::AsFloat(value) => constant(value.0.into()),
            A::AsFloats(values) => constant(
                values
                    .iter()
                    .map(|value| value.0)
                    .collect::<Vec<_>>()
                    .into(),
            ),
            A::AsString(text) | A::AsOperator(text) => constant(Value::Text(text.clone())),
            A::AsStrings(texts) => constant(Value::List(
                texts.iter().cloned().map(Value::Text).collect(),
            )),
            A::AsSymInt(value) | A::AsSymFloat(value) | A::AsSymBool(value) => {
                symbolic(value, scope)
            }
            A::AsSymInts(values) | A::AsSymFloats(values) | A::AsSymBools(values) => values
                .iter()
                .map(|value| symbolic(value, scope))
                .collect::<Result<_, _>>()
                .map(Argument::List),
            A::AsScalarType(number) => {
                let dtype = exported_dtype(*number).ok_or_else(|| {
                    ProgramError::Malformed(format!("dtype number {number} is not known"))
                })?;
                constant(Value::Dtype(dtype))
            }
            A::AsMemoryFormat(number) => constant(Value::MemoryFormat(match number {
                2 => MemoryFormat::ChannelsLast,
                3 => MemoryFormat::ChannelsLast3d,
                4 => MemoryFormat::Preserve,
                _ => MemoryFormat::Contiguous,
            })),
            A::AsLayout(_) => constant(Value::Layout),
            A::AsDevice(_) => constant(Value::Device),
            A::AsBool(value) => constant((*value).into()),
            A::AsBools(values) => constant(values.clone().into()),
            A::AsGraph(subgraph) => {
                compile(&subgraph.graph, self.missing).map(|graph| Argument::Graph(Box::new(graph)))
            }
            A::AsOptionalTensors(tensors) => tensors
                .iter()
                .map(|tensor| optional(tensor, scope))
                .collect::<Result<_, _>>()
                .map(Argument::List),
            A::AsOptionalTensor(tensor) => optional(tensor, scope),
            A::AsIntLists(lists) => constant(lists.clone().into()),
            A::AsComplex(value) => constant(Value::Complex([value.real.0, value.imag.0])),
            A::AsCustomObj(_)
            | A::AsNestedTensors(_)
            | A::AsStringToArgument(_)
            | A::AsFloatLists(_) => Err(ProgramError::Malformed(
                "custom objects and nested lists can't be arguments".into(),
            )),
        }
    }
}

fn find(name: &str, scope: &Scope) -> Result<Argument, ProgramError> {
    match scope.get(name) {
        Some(Bound::Value(index)) => Ok(Argument::Value {
            index: *index,
            last: false,
        }),
        Some(Bound::Constant(value)) => Ok(Argument::Constant(value.clone())),
        None => Err(ProgramError::Malformed(format!(
            "the value {name:?} is used before it is computed"
        ))),
    }
}

fn optional(tensor: &OptionalTensor, scope: &Scope) -> Result<Argument, ProgramError> {
    match tensor {
        OptionalTensor::AsTensor(name) => find(&name.name, scope),
        OptionalTensor::AsNone(_) => Ok(Argument::Constant(Value::None)),
    }
}

fn symbolic(value: &Symbolic, scope: &Scope) -> Result<Argument, ProgramError> {
    match value {
        Symbolic::AsName(name) => find(name, scope),
        Symbolic::AsInt(value) => Ok(Argument::Constant((*value).into())),
        Symbolic::AsFloat(value) => Ok(Argument::Constant(value.0.into())),
        Symbolic::AsBool(value) => Ok(Argument::Constant((*value).into())),
    }
}

fn name_of_input(input: &schema::Argument) -> Option<&str> {
    names_of_output(input).first().copied()
}

fn names_of_output(output: &schema::Argument) -> Vec<&str> {
    use schema::Argument as A;
    match output {
        A::AsTensor(name) | A::AsOptionalTensor(OptionalTensor::AsTensor(name)) => vec![&name.name],
        A::AsTensors(names) => names.iter().map(|name| name.name.as_str()).collect(),
        A::AsSymInt(Symbolic::AsName(name))
        | A::AsSymFloat(Symbolic::AsName(name))
        | A::AsSymBool(Symbolic::AsName(name)) => vec![name],
        _ => Vec::new(),
    }
}

/// The path of the innermost module in a node's stack: entries `key,path,class` separated by semicolons.
fn module_of(stack: &str) -> String {
    let innermost = stack.rsplit(';').next().unwrap_or_default();
    let mut fields = innermost.split(',');
    match (fields.next(), fields.next(), fields.next()) {
        // What export adds itself has a stack of one word, three times.
        (Some(key), Some(path), Some(class)) if key != class => path.to_owned(),
        _ => String::new(),
    }
}

impl Argument {
    /// Calls `visit` with all values in it.
    pub fn values(&self, visit: &mut impl FnMut(usize)) {
        match self {
            Self::Value { index, .. } => visit(*index),
            Self::List(arguments) => arguments.iter().for_each(|argument| argument.values(visit)),
            Self::Constant(_) | Self::Graph(_) => {}
        }
    }

    fn mark(&mut self, seen: &mut HashSet<usize>) {
        match self {
            Self::Value { index, last } => *last = seen.insert(*index),
            Self::List(arguments) => arguments
                .iter_mut()
                .rev()
                .for_each(|argument| argument.mark(seen)),
            Self::Constant(_) | Self::Graph(_) => {}
        }
    }
}

impl Graph {
    fn mark_last_uses(&mut self) {
        // Backwards: the first use that is seen is the last one.
        let mut seen = HashSet::new();
        for output in self.outputs.iter_mut().rev() {
            output.mark(&mut seen);
        }
        for node in self.nodes.iter_mut().rev() {
            for output in &mut node.outputs {
                match output {
                    Output::Value(index) if !seen.contains(index) => *output = Output::Unused,
                    Output::List(indices) => {
                        for index in indices {
                            index.take_if(|index| !seen.contains(index));
                        }
                    }
                    _ => {}
                }
            }
            for (_, argument) in node.arguments.iter_mut().rev() {
                argument.mark(&mut seen);
            }
        }
        for input in &mut self.inputs {
            input.take_if(|index| !seen.contains(index));
        }
    }
}
