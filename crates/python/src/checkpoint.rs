//! `Checkpoint` and `Tensor`.

use crate::errors::CheckpointError;
use pyo3::prelude::*;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// One tensor of a checkpoint, as stored.
#[pyclass(module = "weightstream._native", frozen, get_all)]
pub struct Tensor {
    name: String,
    dtype: &'static str,
    shape: Vec<u64>,
    file: u32,
    offset: u64,
    length: u64,
}

#[pymethods]
impl Tensor {
    fn __repr__(&self) -> String {
        format!("Tensor({:?}, {}, {:?})", self.name, self.dtype, self.shape)
    }
}

/// An index of a checkpoint, from headers alone.
#[pyclass(module = "weightstream._native", frozen)]
pub struct Checkpoint(weightstream::Checkpoint);

#[pymethods]
impl Checkpoint {
    #[staticmethod]
    fn open(python: Python<'_>, path: PathBuf) -> PyResult<Self> {
        python
            .detach(|| weightstream::Checkpoint::open(&path))
            .map(Self)
            .map_err(|error| CheckpointError::new_err(error.to_string()))
    }

    #[getter]
    fn files(&self) -> Vec<String> {
        self.0
            .paths()
            .iter()
            .map(|file| file.to_string_lossy().into_owned())
            .collect()
    }

    #[getter]
    fn metadata(&self) -> BTreeMap<String, String> {
        self.0.metadata.clone()
    }

    fn tensors(&self) -> Vec<Tensor> {
        let tensors = self.0.tensors.iter().map(|tensor| Tensor {
            name: tensor.name.clone(),
            dtype: tensor.dtype.name(),
            shape: tensor.shape.clone(),
            file: tensor.file,
            offset: tensor.offset,
            length: tensor.length,
        });
        tensors.collect()
    }
}
