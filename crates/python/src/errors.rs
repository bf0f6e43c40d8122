//! Rust's errors as Python exceptions, with the same words.

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::{PyErr, create_exception};
use weightstream::{StreamError, WeightError};

create_exception!(
    weightstream,
    WeightstreamError,
    PyRuntimeError,
    "Any error of weightstream."
);
create_exception!(
    weightstream,
    CheckpointError,
    WeightstreamError,
    "A checkpoint that can't be used: names file, tensor, what was expected and what was got."
);
create_exception!(
    weightstream,
    BudgetError,
    WeightstreamError,
    "The memory given is too small; the message names the least that works."
);
create_exception!(
    weightstream,
    ReadError,
    WeightstreamError,
    "A weight that could not be read: names tensor, file, offset and cause."
);
create_exception!(
    weightstream,
    WriteError,
    WeightstreamError,
    "A weight that was written to: names the tensor. The write is undone."
);
create_exception!(
    weightstream,
    ClosedError,
    WeightstreamError,
    "The stream was closed."
);

create_exception!(
    weightstream,
    ProgramError,
    WeightstreamError,
    "An exported program that can't be read or run: names node, operator and what was expected."
);

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let python = module.py();
    module.add("WeightstreamError", python.get_type::<WeightstreamError>())?;
    module.add("CheckpointError", python.get_type::<CheckpointError>())?;
    module.add("BudgetError", python.get_type::<BudgetError>())?;
    module.add("ReadError", python.get_type::<ReadError>())?;
    module.add("WriteError", python.get_type::<WriteError>())?;
    module.add("ProgramError", python.get_type::<ProgramError>())?;
    module.add("ClosedError", python.get_type::<ClosedError>())
}

/// The exception that says the same.
pub fn from_stream(error: StreamError) -> PyErr {
    let words = error.to_string();
    match error {
        StreamError::Budget { .. } | StreamError::HostBudget { .. } => BudgetError::new_err(words),
        StreamError::Layout(_)
        | StreamError::File { .. }
        | StreamError::Open(_)
        | StreamError::Read(_) => CheckpointError::new_err(words),
        StreamError::Weight(error) => match *error {
            WeightError::Unread { .. } => ReadError::new_err(words),
            WeightError::Written { .. } | WeightError::Full { .. } => WriteError::new_err(words),
        },
        StreamError::Closed => ClosedError::new_err(words),
        #[cfg(target_os = "linux")]
        StreamError::Device(_) => WeightstreamError::new_err(words),
        StreamError::Buffers { .. }
        | StreamError::Memory(_)
        | StreamError::Thread(_)
        | StreamError::Forked
        | StreamError::Ended(_) => WeightstreamError::new_err(words),
    }
}

/// The exception that says the same.
pub fn from_program(error: weightstream_graph::ProgramError) -> PyErr {
    use weightstream_graph::ProgramError as Error;
    match error {
        Error::Stream(error) => from_stream(error),
        error @ (Error::Checkpoint(_) | Error::File(_) | Error::Io { .. }) => {
            CheckpointError::new_err(error.to_string())
        }
        error => ProgramError::new_err(error.to_string()),
    }
}
