//! Packed checkpoints that the package writes.

use crate::boundary::detached;
use crate::errors::{CheckpointError, WeightstreamError};
use pyo3::prelude::*;
use std::path::PathBuf;
use weightstream::{Dtype, Tensor};
use weightstream_pack::PackError;

/// (name, dtype, shape, offset)
type Row = (String, String, Vec<u64>, u64);

/// Writes the manifest of a packed checkpoint whose weights lie in its data file already.
#[pyfunction]
pub fn seal(python: Python<'_>, folder: PathBuf, tensors: Vec<Row>) -> PyResult<()> {
    let tensors = tensors.into_iter().map(|(name, dtype, shape, offset)| {
        let dtype = Dtype::from_name(&dtype);
        let length = dtype.and_then(|dtype| dtype.bytes(&shape));
        let (Some(dtype), Some(length)) = (dtype, length) else {
            let words = format!("tensor {name:?}: expected a dtype and shape that can be stored");
            return Err(CheckpointError::new_err(words));
        };
        Ok(Tensor {
            name,
            dtype,
            shape,
            file: 0,
            offset,
            length,
        })
    });
    let tensors = tensors.collect::<PyResult<_>>()?;
    detached(python, || weightstream_pack::seal(&folder, tensors))?.map_err(from_pack)
}

/// How many pieces of the packed checkpoint at `path` are damaged; all of it is read.
#[pyfunction]
pub fn count_damages(python: Python<'_>, path: PathBuf) -> PyResult<u64> {
    let verify = || {
        let checkpoint = weightstream::Checkpoint::open(&path)?;
        let Some(packed) = &checkpoint.packed else {
            return Ok(0);
        };
        let jobs = std::thread::available_parallelism().map_or(1, usize::from);
        weightstream_pack::verify(packed, jobs, &|_| ()).map(|(count, _)| count)
    };
    detached(python, verify)?.map_err(from_pack)
}

fn from_pack(error: PackError) -> PyErr {
    let words = error.to_string();
    match error {
        PackError::Checkpoint(_) => CheckpointError::new_err(words),
        _ => WeightstreamError::new_err(words),
    }
}
