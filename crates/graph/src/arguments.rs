use crate::{MemoryFormat, OperatorError, Tensor, Value};
use std::sync::Arc;
use weightstream::Dtype;

/// The arguments of one call, by the names of the operator's schema. What the graph leaves out has the schema's
/// default: the operator says which.
///
/// An argument that nobody uses afterwards is *moved* in here, so an operator that takes it with
/// [`take_tensor`](Self::take_tensor) may find that it is the only owner of the memory, and write its result there.
#[derive(Clone, Debug, Default)]
pub struct Arguments {
    named: Vec<(Arc<str>, Value)>,
}

impl Arguments {
    /// Arguments from names and values.
    pub fn new<N: Into<Arc<str>>>(named: impl IntoIterator<Item = (N, Value)>) -> Self {
        Self {
            named: named
                .into_iter()
                .map(|(name, value)| (name.into(), value))
                .collect(),
        }
    }

    /// Adds an argument.
    pub fn push(&mut self, name: impl Into<Arc<str>>, value: Value) {
        self.named.push((name.into(), value));
    }

    /// The argument as it is; None where it was left out or is none.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.named
            .iter()
            .find(|(other, _)| **other == *name)
            .map(|(_, value)| value)
            .filter(|value| !matches!(value, Value::None))
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.named
            .iter()
            .map(|(name, value)| (name.as_ref(), value))
    }

    /// An argument that must be there.
    ///
    /// # Errors
    /// It was left out.
    pub fn value(&self, name: &'static str) -> Result<&Value, OperatorError> {
        self.get(name)
            .ok_or_else(|| wrong(name, "a value", &Value::None))
    }

    /// A tensor that must be there.
    ///
    /// # Errors
    /// It was left out or is something else.
    pub fn tensor(&self, name: &'static str) -> Result<&Tensor, OperatorError> {
        match self.value(name)? {
            Value::Tensor(tensor) => Ok(tensor),
            other => Err(wrong(name, "a tensor", other)),
        }
    }

    /// As [`tensor`](Self::tensor), taken out: where it was its last use, its memory is unique.
    ///
    /// # Errors
    /// It was left out or is something else.
    pub fn take_tensor(&mut self, name: &'static str) -> Result<Tensor, OperatorError> {
        self.tensor(name)?;
        match self.named.iter_mut().find(|(other, _)| **other == *name) {
            Some((_, value)) => match std::mem::replace(value, Value::None) {
                Value::Tensor(tensor) => Ok(tensor),
                other => Err(wrong(name, "a tensor", &other)),
            },
            None => Err(wrong(name, "a tensor", &Value::None)),
        }
    }

    /// A tensor or none.
    ///
    /// # Errors
    /// It is something else.
    pub fn optional_tensor(&self, name: &'static str) -> Result<Option<&Tensor>, OperatorError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Tensor(tensor)) => Ok(Some(tensor)),
            Some(other) => Err(wrong(name, "a tensor or none", other)),
        }
    }

    /// A list of tensors.
    ///
    /// # Errors
    /// It was left out or is something else.
    pub fn tensors(&self, name: &'static str) -> Result<Vec<&Tensor>, OperatorError> {
        self.optional_tensors(name)?
            .into_iter()
            .map(|tensor| tensor.ok_or_else(|| wrong(name, "tensors", &Value::None)))
            .collect()
    }

    /// A list of tensors, some of which may be none.
    ///
    /// # Errors
    /// It was left out or is something else.
    pub fn optional_tensors(
        &self,
        name: &'static str,
    ) -> Result<Vec<Option<&Tensor>>, OperatorError> {
        self.list(name)?
            .iter()
            .map(|value| match value {
                Value::Tensor(tensor) => Ok(Some(tensor)),
                Value::None => Ok(None),
                other => Err(wrong(name, "a list of tensors", other)),
            })
            .collect()
    }

    /// An integer that must be there.
    ///
    /// # Errors
    /// It was left out or is something else.
    pub fn int(&self, name: &'static str) -> Result<i64, OperatorError> {
        as_int(name, self.value(name)?)
    }

    /// An integer, or the schema's default.
    ///
    /// # Errors
    /// It is something else.
    pub fn int_or(&self, name: &'static str, default: i64) -> Result<i64, OperatorError> {
        self.get(name)
            .map_or(Ok(default), |value| as_int(name, value))
    }

    /// An integer or none.
    ///
    /// # Errors
    /// It is something else.
    pub fn optional_int(&self, name: &'static str) -> Result<Option<i64>, OperatorError> {
        self.get(name).map(|value| as_int(name, value)).transpose()
    }

    /// A list of integers; a single one is a list of one.
    ///
    /// # Errors
    /// It was left out or is something else.
    pub fn ints(&self, name: &'static str) -> Result<Vec<i64>, OperatorError> {
        match self.value(name)? {
            Value::List(values) => values.iter().map(|value| as_int(name, value)).collect(),
            value => Ok(vec![as_int(name, value)?]),
        }
    }

    /// A list of integers, or the schema's default.
    ///
    /// # Errors
    /// It is something else.
    pub fn ints_or(&self, name: &'static str, default: &[i64]) -> Result<Vec<i64>, OperatorError> {
        match self.get(name) {
            None => Ok(default.to_vec()),
            Some(_) => self.ints(name),
        }
    }

    /// A number, or the schema's default; an integer or a boolean is a number too.
    ///
    /// # Errors
    /// It is something else.
    pub fn float_or(&self, name: &'static str, default: f64) -> Result<f64, OperatorError> {
        Ok(self.optional_float(name)?.unwrap_or(default))
    }

    /// A number or none; an integer or a boolean is a number too.
    ///
    /// # Errors
    /// It is something else.
    pub fn optional_float(&self, name: &'static str) -> Result<Option<f64>, OperatorError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Float(value)) => Ok(Some(*value)),
            Some(Value::Int(value)) => Ok(Some(*value as f64)),
            Some(Value::Bool(value)) => Ok(Some(f64::from(u8::from(*value)))),
            Some(other) => Err(wrong(name, "a number", other)),
        }
    }

    /// A boolean, or the schema's default.
    ///
    /// # Errors
    /// It is something else.
    pub fn bool_or(&self, name: &'static str, default: bool) -> Result<bool, OperatorError> {
        match self.get(name) {
            None => Ok(default),
            Some(Value::Bool(value)) => Ok(*value),
            Some(Value::Int(value)) => Ok(*value != 0),
            Some(other) => Err(wrong(name, "true or false", other)),
        }
    }

    /// A text, or the schema's default.
    ///
    /// # Errors
    /// It is something else.
    pub fn text_or<'a>(
        &'a self,
        name: &'static str,
        default: &'a str,
    ) -> Result<&'a str, OperatorError> {
        match self.get(name) {
            None => Ok(default),
            Some(Value::Text(value)) => Ok(value),
            Some(other) => Err(wrong(name, "a text", other)),
        }
    }

    /// A dtype or none.
    ///
    /// # Errors
    /// It is something else.
    pub fn optional_dtype(&self, name: &'static str) -> Result<Option<Dtype>, OperatorError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Dtype(dtype)) => Ok(Some(*dtype)),
            Some(other) => Err(wrong(name, "a dtype", other)),
        }
    }

    /// A memory format or none.
    ///
    /// # Errors
    /// It is something else.
    pub fn optional_memory_format(
        &self,
        name: &'static str,
    ) -> Result<Option<MemoryFormat>, OperatorError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::MemoryFormat(format)) => Ok(Some(*format)),
            Some(other) => Err(wrong(name, "a memory format", other)),
        }
    }

    /// A list of anything.
    ///
    /// # Errors
    /// It was left out or is something else.
    pub fn list(&self, name: &'static str) -> Result<&[Value], OperatorError> {
        match self.value(name)? {
            Value::List(values) => Ok(values),
            other => Err(wrong(name, "a list", other)),
        }
    }
}

fn as_int(name: &'static str, value: &Value) -> Result<i64, OperatorError> {
    match value {
        Value::Int(value) => Ok(*value),
        Value::Bool(value) => Ok(i64::from(*value)),
        other => Err(wrong(name, "an integer", other)),
    }
}

fn wrong(argument: &'static str, expected: &'static str, got: &Value) -> OperatorError {
    OperatorError::Argument {
        argument,
        expected,
        got: got.kind(),
    }
}
