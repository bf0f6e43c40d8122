use weightstream::Dtype;

/// Why an operator could not compute its result.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the fields are what the message says
pub enum OperatorError {
    #[error("argument {argument:?}: expected {expected}, came {came}")]
    Argument {
        argument: &'static str,
        expected: &'static str,
        came: String,
    },
    #[error("expected {expected}, came shape {came:?}")]
    Shape { expected: String, came: Vec<usize> },
    #[error("expected elements of {expected}, came {came}")]
    Dtype { expected: String, came: Dtype },
    #[error("{0}")]
    Unsupported(String),
    #[error("expected a contiguous tensor, came shape {shape:?} with strides {strides:?}")]
    NotContiguous {
        shape: Vec<usize>,
        strides: Vec<usize>,
    },
    #[error("a tensor that ends at element {elements} does not fit its {bytes} bytes")]
    OutsideStorage { elements: usize, bytes: usize },
    #[error("index {index} is out of range for {size} entries")]
    Index { index: i64, size: usize },
    #[error("a weight can't be written")]
    ReadOnly,
    #[error("a tensor can't be written while it is read")]
    Aliased,
    #[error("there is no memory for {bytes} bytes of activations")]
    Memory { bytes: usize },
}
