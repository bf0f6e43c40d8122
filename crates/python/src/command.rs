//! The command line.

use crate::boundary::detached;
use pyo3::prelude::*;
use std::ffi::OsString;
use std::path::PathBuf;

/// Runs the command `weightstream` with `arguments`, the first of which is its own name; gives its exit code.
#[pyfunction]
pub fn run_command(
    python: Python<'_>,
    arguments: Vec<OsString>,
    executable: PathBuf,
) -> PyResult<u8> {
    detached(python, || {
        weightstream_cli::run(arguments, Some(executable))
    })
}
