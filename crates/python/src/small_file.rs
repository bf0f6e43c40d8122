//! `read_small` and `inside`: the one way to read a file that someone else has written, and where its name leads.

use crate::boundary::{caught, detached};
use crate::errors::CheckpointError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::io::Read;
use std::path::PathBuf;

/// The bytes of the regular file at `path`, which has at most `limit` of them; None where there is nothing.
#[pyfunction]
pub fn read_small(
    python: Python<'_>,
    path: PathBuf,
    limit: u64,
) -> PyResult<Option<Bound<'_, PyBytes>>> {
    match detached(python, || weightstream::source::read_small(&path, limit))? {
        Ok(bytes) => Ok(Some(PyBytes::new(python, &bytes))),
        Err(error) if error.is_missing() => Ok(None),
        Err(error) => Err(CheckpointError::new_err(error.to_string())),
    }
}

/// Whether a regular file is at `path` that begins with `start`.
#[pyfunction]
pub fn starts_with(path: PathBuf, start: &[u8]) -> bool {
    let mut bytes = vec![0; start.len()];
    weightstream::source::open_regular(&path)
        .is_ok_and(|(mut file, _)| file.read_exact(&mut bytes).is_ok() && bytes == start)
}

/// What is at `path`, and what to do with it, for errors.
#[pyfunction]
pub fn found_at(path: PathBuf) -> String {
    weightstream::found_at(&path)
}

/// The path of what is called `name` in `folder`.
#[pyfunction]
pub fn inside(folder: PathBuf, name: &str) -> PyResult<PathBuf> {
    caught(|| weightstream::inside(&folder, name))?
        .map_err(|error| CheckpointError::new_err(error.to_string()))
}
