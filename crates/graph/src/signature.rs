//! What a program takes and gives.

use crate::schema::{self, Argument, InputSpec, OutputSpec, Range, Size};
use crate::{ProgramError, Tensor, Value, structure};
use std::collections::{BTreeMap, HashMap};
use weightstream::{Dtype, exported_dtype};

/// An input that the caller gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// The parameter's name, and the way to it in nested containers: `past.0.keys`.
    pub name: String,
    /// What is expected.
    pub kind: InputKind,
}

/// What an input has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InputKind {
    /// A tensor of this dtype and these sizes.
    Tensor {
        /// What one element is.
        dtype: Dtype,
        /// Entries along each dimension.
        shape: Vec<Dimension>,
    },
    /// A number.
    Number,
    /// What it was when the program was exported; whatever is given is ignored.
    Constant,
}

/// How many entries a dimension has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dimension {
    /// So many.
    Fixed(usize),
    /// As many as everywhere where this symbol stands, within a range.
    Symbol {
        /// Its name, as export gave it.
        name: String,
        /// The least.
        least: i64,
        /// The most.
        most: i64,
    },
    /// As many as export computed from symbols; not checked.
    Expression(String),
}

/// Where an input of the graph comes from.
#[derive(Debug)]
pub enum Origin {
    /// A parameter, buffer or constant of this name.
    Weight(String),
    /// The caller's input of this number.
    User(usize),
    /// Nobody: the graph has its value itself.
    Constant,
}

/// What becomes of an output of the graph.
#[derive(Debug, PartialEq, Eq)]
pub enum Destination {
    /// The caller gets it.
    User,
    /// It is the new value of the buffer, parameter or constant of this name.
    Weight(String),
    /// Nothing.
    Dropped,
}

/// A program's interface.
pub struct Signature {
    pub inputs: Vec<Input>,
    pub outputs: Vec<String>,
    pub origins: Vec<Origin>,
    pub destinations: Vec<Destination>,
    /// The serialised pytrees of inputs and outputs.
    pub in_spec: String,
    pub out_spec: String,
}

impl Signature {
    pub fn new(program: &schema::ExportedProgram) -> Result<Self, ProgramError> {
        let module = &program.graph_module;
        let call = module
            .module_call_graph
            .iter()
            .find(|call| call.fqn.is_empty())
            .and_then(|call| call.signature.as_ref())
            .ok_or_else(|| ProgramError::Malformed("it has no signature".into()))?;
        let parameters = call.forward_arg_names.clone().unwrap_or_default();
        let mut names = structure::argument_names(&call.in_spec, &parameters)?.into_iter();

        let (mut inputs, mut origins) = (Vec::new(), Vec::new());
        for (spec, argument) in module
            .signature
            .input_specs
            .iter()
            .zip(&module.graph.inputs)
        {
            origins.push(match spec {
                InputSpec::Parameter {
                    parameter_name: name,
                    ..
                }
                | InputSpec::Buffer {
                    buffer_name: name, ..
                }
                | InputSpec::TensorConstant {
                    tensor_constant_name: name,
                    ..
                } => Origin::Weight(name.clone()),
                InputSpec::UserInput(user) => {
                    inputs.push(Input {
                        name: names.next().unwrap_or_else(|| inputs.len().to_string()),
                        kind: kind(&user.arg, &module.graph, &program.range_constraints)?,
                    });
                    match argument {
                        Argument::AsTensor(_) | Argument::AsSymInt(_) => {
                            Origin::User(inputs.len() - 1)
                        }
                        _ => Origin::Constant,
                    }
                }
                InputSpec::ConstantInput { name } => {
                    inputs.push(Input {
                        name: names.next().unwrap_or_else(|| name.clone()),
                        kind: InputKind::Constant,
                    });
                    Origin::Constant
                }
                InputSpec::CustomObj(_) | InputSpec::Token(_) => {
                    return Err(ProgramError::Malformed("it takes custom objects".into()));
                }
            });
        }
        let destinations: Vec<Destination> = module
            .signature
            .output_specs
            .iter()
            .map(|spec| match spec {
                OutputSpec::UserOutput(_) | OutputSpec::LossOutput(_) => Destination::User,
                OutputSpec::BufferMutation { buffer_name: name }
                | OutputSpec::ParameterMutation {
                    parameter_name: name,
                } => Destination::Weight(name.clone()),
                _ => Destination::Dropped,
            })
            .collect();
        if destinations.len() != module.graph.outputs.len() {
            return Err(ProgramError::Malformed(format!(
                "expected an output for each of {} specifications, got {}",
                destinations.len(),
                module.graph.outputs.len(),
            )));
        }
        let mut outputs = structure::leaf_names(&call.out_spec)?;
        let given = destinations
            .iter()
            .filter(|destination| **destination == Destination::User)
            .count();
        outputs.resize_with(given, String::new);
        Ok(Self {
            inputs,
            outputs,
            origins,
            destinations,
            in_spec: call.in_spec.clone(),
            out_spec: call.out_spec.clone(),
        })
    }

    /// Checks what the caller gave.
    pub fn check(&self, given: &[Value]) -> Result<(), ProgramError> {
        if given.len() != self.inputs.len() {
            return Err(ProgramError::InputCount {
                expected: self.inputs.iter().map(|input| input.name.clone()).collect(),
                got: given.len(),
            });
        }
        let mut symbols = HashMap::new();
        for (input, value) in self.inputs.iter().zip(given) {
            let fail = |expected: String| ProgramError::Input {
                name: input.name.clone(),
                expected,
                got: value.kind(),
            };
            match (&input.kind, value) {
                (InputKind::Tensor { dtype, shape }, Value::Tensor(tensor)) => {
                    if tensor.dtype() != *dtype {
                        return Err(fail(format!("a tensor of {dtype}")));
                    }
                    check_shape(shape, tensor, &mut symbols).map_err(fail)?;
                }
                (InputKind::Tensor { dtype, .. }, _) => {
                    return Err(fail(format!("a tensor of {dtype}")));
                }
                (InputKind::Number, Value::Int(_) | Value::Float(_) | Value::Bool(_)) => {}
                (InputKind::Number, _) => return Err(fail("a number".into())),
                (InputKind::Constant, _) => {}
            }
        }
        Ok(())
    }
}

fn check_shape<'s>(
    expected: &'s [Dimension],
    tensor: &Tensor,
    symbols: &mut HashMap<&'s str, usize>,
) -> Result<(), String> {
    if tensor.rank() != expected.len() {
        return Err(format!("a tensor of {} dimensions", expected.len()));
    }
    for (dim, (expected, &size)) in expected.iter().zip(tensor.shape()).enumerate() {
        match expected {
            Dimension::Fixed(expected) if *expected != size => {
                return Err(format!("{expected} entries in dimension {dim}"));
            }
            Dimension::Symbol { name, least, most } => {
                if (size as i64) < *least || size as i64 > *most {
                    return Err(format!("{least} to {most} entries in dimension {dim}"));
                }
                let first = *symbols.entry(name).or_insert(size);
                if first != size {
                    return Err(format!(
                        "{first} entries in dimension {dim}, as elsewhere for the same symbol"
                    ));
                }
            }
            Dimension::Fixed(_) | Dimension::Expression(_) => {}
        }
    }
    Ok(())
}

fn kind(
    argument: &Argument,
    graph: &schema::Graph,
    ranges: &BTreeMap<String, Range>,
) -> Result<InputKind, ProgramError> {
    let Argument::AsTensor(name) = argument else {
        return Ok(match argument {
            Argument::AsSymInt(_) | Argument::AsSymFloat(_) | Argument::AsSymBool(_) => {
                InputKind::Number
            }
            _ => InputKind::Constant,
        });
    };
    let meta = graph
        .tensor_values
        .get(&name.name)
        .ok_or_else(|| ProgramError::Malformed(format!("{:?} has no shape", name.name)))?;
    Ok(InputKind::Tensor {
        dtype: exported_dtype(meta.dtype).ok_or_else(|| {
            ProgramError::Malformed(format!("dtype number {} is not known", meta.dtype))
        })?,
        shape: meta
            .sizes
            .iter()
            .map(|size| dimension(size, ranges))
            .collect(),
    })
}

fn dimension(size: &Size, ranges: &BTreeMap<String, Range>) -> Dimension {
    match size {
        Size::AsInt(size) => Dimension::Fixed(usize::try_from(*size).unwrap_or(0)),
        Size::AsExpr(expression) => match symbol(&expression.expr_str) {
            Some(name) => {
                let range = ranges.get(name);
                Dimension::Symbol {
                    name: name.to_owned(),
                    least: range.and_then(|range| range.min_val).unwrap_or(0),
                    most: range.and_then(|range| range.max_val).unwrap_or(i64::MAX),
                }
            }
            None => Dimension::Expression(expression.expr_str.clone()),
        },
    }
}

/// The name in `Symbol('s77', positive=True, integer=True)`, where the expression is nothing else.
fn symbol(expression: &str) -> Option<&str> {
    let rest = expression.strip_prefix("Symbol('")?;
    let (name, rest) = rest.split_once('\'')?;
    (rest.find(')')? + 1 == rest.len()).then_some(name)
}
