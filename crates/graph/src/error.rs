use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use weightstream::Dtype;

/// Why an operator could not compute its result.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the fields are what the message says
pub enum OperatorError {
    #[error("argument {argument:?}: expected {expected}, got {got}")]
    Argument {
        argument: &'static str,
        expected: &'static str,
        got: String,
    },
    #[error("expected {expected}, got shape {got:?}")]
    Shape { expected: String, got: Vec<usize> },
    #[error("expected elements of {expected}, got {got}")]
    Dtype { expected: String, got: Dtype },
    #[error("{0}")]
    Unsupported(String),
    #[error("expected a contiguous tensor, got shape {shape:?} with strides {strides:?}")]
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
    #[error("a bug in weightstream: {0}")]
    Panicked(#[from] weightstream::Panicked),
}

/// Why a program can't be opened or run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the fields are what the message says
pub enum ProgramError {
    #[error("{}: {cause}", path.display())]
    Io {
        path: PathBuf,
        cause: std::io::Error,
    },
    #[error(transparent)]
    File(#[from] weightstream::source::FileError),
    #[error(transparent)]
    Checkpoint(#[from] weightstream::CheckpointError),
    #[error(transparent)]
    Stream(#[from] weightstream::StreamError),
    #[error("{}: the program can't be read: {cause}", path.display())]
    Json {
        path: PathBuf,
        cause: serde_json::Error,
    },
    #[error(
        "{}: expected a program of schema version {expected}, got {major}.{minor}, which torch {torch} wrote",
        path.display()
    )]
    Version {
        path: PathBuf,
        expected: u32,
        major: u32,
        minor: u32,
        torch: String,
    },
    #[error(
        "{}: {}; it has {}",
        path.display(),
        match wanted {
            Some(wanted) => format!("expected a model {wanted:?}"),
            None => "expected one model, or the name of one".to_owned(),
        },
        if models.is_empty() { "none".to_owned() } else { models.join(", ") }
    )]
    Model {
        path: PathBuf,
        wanted: Option<String>,
        models: Vec<String>,
    },
    #[error("the program is malformed: {0}")]
    Malformed(String),
    #[error("{0}")]
    Unsupported(UnsupportedOperators),
    #[error("weight {name:?} is not in the archive, or was pickled")]
    MissingWeight { name: String },
    #[error("weight {name:?} in the archive is not what the program says it is")]
    WrongWeight { name: String },
    #[error("expected {} inputs ({}), got {got}", expected.len(), expected.join(", "))]
    InputCount { expected: Vec<String>, got: usize },
    #[error("input {name:?}: expected {expected}, got {got}")]
    Input {
        name: String,
        expected: String,
        got: String,
    },
    #[error("{target} (node {node:?}{}): {cause}", in_module(module))]
    Operator {
        node: String,
        target: String,
        module: String,
        cause: Box<OperatorError>,
    },
    #[error(transparent)]
    Tensor(#[from] OperatorError),
    #[error("the run was cancelled")]
    Cancelled,
}

/// Operators that the table doesn't have, with the nodes that want them.
#[derive(Debug)]
pub struct UnsupportedOperators(pub BTreeMap<String, Vec<String>>);

impl fmt::Display for UnsupportedOperators {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} operators of this program are not supported:",
            self.0.len()
        )?;
        for (operator, nodes) in &self.0 {
            let shown = nodes.iter().take(3).cloned().collect::<Vec<_>>();
            let more = nodes.len() - shown.len();
            write!(formatter, "\n  {operator} (node {}", shown.join(", "))?;
            if more > 0 {
                write!(formatter, " and {more} more")?;
            }
            write!(formatter, ")")?;
        }
        write!(
            formatter,
            "\nexport after run_decompositions() may do without them"
        )
    }
}

fn in_module(module: &str) -> String {
    match module {
        "" => String::new(),
        module => format!(" in {module}"),
    }
}
