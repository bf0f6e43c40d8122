//! The JSON of `models/*.json` in a `.pt2` archive: `torch/_export/serde/schema.py` of torch 2.15, as far as running a
//! program needs it.

#![allow(clippy::enum_variant_names)] // the schema's own

use serde::de::{Deserializer, Error, Visitor};
use serde::{Deserialize, de};
use std::collections::BTreeMap;
use std::fmt;

/// The schema's major version that this reader knows. Minor versions add what older readers may ignore.
pub const MAJOR: u32 = 8;

#[derive(Deserialize)]
pub struct ExportedProgram {
    pub graph_module: GraphModule,
    #[serde(default)]
    pub range_constraints: BTreeMap<String, Range>,
}

/// What is the same in every version.
#[derive(Deserialize)]
pub struct Versioned {
    pub schema_version: SchemaVersion,
    #[serde(default)]
    pub torch_version: String,
}

#[derive(Deserialize)]
pub struct SchemaVersion {
    pub major: u32,
    pub minor: u32,
}

#[derive(Deserialize)]
pub struct Range {
    pub min_val: Option<i64>,
    pub max_val: Option<i64>,
}

#[derive(Deserialize)]
pub struct GraphModule {
    pub graph: Graph,
    pub signature: Signature,
    pub module_call_graph: Vec<ModuleCall>,
}

#[derive(Deserialize)]
pub struct ModuleCall {
    pub fqn: String,
    pub signature: Option<CallSignature>,
}

#[derive(Deserialize)]
pub struct CallSignature {
    pub in_spec: String,
    pub out_spec: String,
    pub forward_arg_names: Option<Vec<String>>,
}

#[derive(Deserialize)]
pub struct Graph {
    pub inputs: Vec<Argument>,
    pub outputs: Vec<Argument>,
    pub nodes: Vec<Node>,
    pub tensor_values: BTreeMap<String, TensorMeta>,
}

#[derive(Deserialize)]
pub struct Node {
    pub target: String,
    pub inputs: Vec<NamedArgument>,
    pub outputs: Vec<Argument>,
    #[serde(default)]
    pub metadata: Metadata,
    pub name: Option<String>,
}

#[derive(Deserialize, Default)]
pub struct Metadata {
    pub nn_module_stack: Option<String>,
}

#[derive(Deserialize)]
pub struct NamedArgument {
    pub name: String,
    pub arg: Argument,
}

#[derive(Deserialize)]
pub struct TensorMeta {
    pub dtype: u32,
    pub sizes: Vec<Size>,
    pub strides: Vec<Size>,
    pub storage_offset: Size,
}

/// A size: a number, or an expression of symbols in sympy's words.
#[derive(Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Size {
    AsInt(i64),
    AsExpr(Expression),
}

#[derive(Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Expression {
    pub expr_str: String,
}

#[derive(Deserialize)]
pub struct Name {
    pub name: String,
}

#[derive(Deserialize)]
pub struct Subgraph {
    pub graph: Box<Graph>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Symbolic {
    AsName(String),
    AsInt(i64),
    AsFloat(Real),
    AsBool(bool),
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OptionalTensor {
    AsTensor(Name),
    AsNone(de::IgnoredAny),
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Argument {
    AsNone(de::IgnoredAny),
    AsTensor(Name),
    AsTensors(Vec<Name>),
    AsInt(i64),
    AsInts(Vec<i64>),
    AsFloat(Real),
    AsFloats(Vec<Real>),
    AsString(String),
    AsStrings(Vec<String>),
    AsSymInt(Symbolic),
    AsSymInts(Vec<Symbolic>),
    AsSymFloat(Symbolic),
    AsSymFloats(Vec<Symbolic>),
    AsSymBool(Symbolic),
    AsSymBools(Vec<Symbolic>),
    AsScalarType(u32),
    AsMemoryFormat(u32),
    AsLayout(de::IgnoredAny),
    AsDevice(de::IgnoredAny),
    AsBool(bool),
    AsBools(Vec<bool>),
    AsGraph(Subgraph),
    AsOptionalTensors(Vec<OptionalTensor>),
    AsOptionalTensor(OptionalTensor),
    AsOperator(String),
    AsIntLists(Vec<Vec<i64>>),
    AsCustomObj(de::IgnoredAny),
    AsComplex(Complex),
    AsNestedTensors(de::IgnoredAny),
    AsStringToArgument(de::IgnoredAny),
    AsFloatLists(de::IgnoredAny),
}

#[derive(Deserialize)]
pub struct Complex {
    pub real: Real,
    pub imag: Real,
}

#[derive(Deserialize)]
pub struct Signature {
    pub input_specs: Vec<InputSpec>,
    pub output_specs: Vec<OutputSpec>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputSpec {
    UserInput(Unnamed),
    Parameter { parameter_name: String },
    Buffer { buffer_name: String },
    TensorConstant { tensor_constant_name: String },
    ConstantInput { name: String },
    CustomObj(de::IgnoredAny),
    Token(de::IgnoredAny),
}

#[derive(Deserialize)]
pub struct Unnamed {
    pub arg: Argument,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputSpec {
    UserOutput(de::IgnoredAny),
    LossOutput(de::IgnoredAny),
    BufferMutation { buffer_name: String },
    ParameterMutation { parameter_name: String },
    UserInputMutation(de::IgnoredAny),
    GradientToParameter(de::IgnoredAny),
    GradientToUserInput(de::IgnoredAny),
    Token(de::IgnoredAny),
}

/// A number; those that JSON has no digits for are written as words.
#[derive(Clone, Copy)]
pub struct Real(pub f64);

impl<'de> Deserialize<'de> for Real {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Word;
        impl Visitor<'_> for Word {
            type Value = Real;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a number, \"Infinity\", \"-Infinity\" or \"NaN\"")
            }
            fn visit_f64<E: Error>(self, value: f64) -> Result<Real, E> {
                Ok(Real(value))
            }
            fn visit_i64<E: Error>(self, value: i64) -> Result<Real, E> {
                Ok(Real(value as f64))
            }
            fn visit_u64<E: Error>(self, value: u64) -> Result<Real, E> {
                Ok(Real(value as f64))
            }
            fn visit_str<E: Error>(self, value: &str) -> Result<Real, E> {
                match value {
                    "Infinity" => Ok(Real(f64::INFINITY)),
                    "-Infinity" => Ok(Real(f64::NEG_INFINITY)),
                    "NaN" => Ok(Real(f64::NAN)),
                    other => Err(E::invalid_value(de::Unexpected::Str(other), &self)),
                }
            }
        }
        deserializer.deserialize_any(Word)
    }
}
