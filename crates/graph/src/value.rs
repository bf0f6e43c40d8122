use crate::Tensor;
use weightstream::Dtype;

/// What flows along a graph's edges, and what operators take and give.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Value {
    None,
    Tensor(Tensor),
    Int(i64),
    Float(f64),
    Bool(bool),
    /// The real and the imaginary part.
    Complex([f64; 2]),
    Text(String),
    Dtype(Dtype),
    MemoryFormat(MemoryFormat),
    /// Where it is to be computed: always here.
    Device,
    /// Strided, always.
    Layout,
    List(Vec<Value>),
}

/// How the dimensions of a result lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum MemoryFormat {
    Contiguous,
    ChannelsLast,
    ChannelsLast3d,
    Preserve,
}

impl Value {
    /// What it is, in words, for messages.
    pub fn kind(&self) -> String {
        match self {
            Self::None => "none".into(),
            Self::Tensor(tensor) => format!("a tensor of {} {:?}", tensor.dtype(), tensor.shape()),
            Self::Int(value) => format!("the integer {value}"),
            Self::Float(value) => format!("the number {value}"),
            Self::Bool(value) => format!("{value}"),
            Self::Complex([real, imaginary]) => format!("the number {real} + {imaginary}i"),
            Self::Text(value) => format!("{value:?}"),
            Self::Dtype(dtype) => format!("the dtype {dtype}"),
            Self::MemoryFormat(format) => format!("the memory format {format:?}"),
            Self::Device => "a device".into(),
            Self::Layout => "a layout".into(),
            Self::List(values) => format!("a list of {}", values.len()),
        }
    }
}

impl From<Tensor> for Value {
    fn from(tensor: Tensor) -> Self {
        Self::Tensor(tensor)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl<T: Into<Value>> From<Vec<T>> for Value {
    fn from(values: Vec<T>) -> Self {
        Self::List(values.into_iter().map(Into::into).collect())
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::None, Into::into)
    }
}
