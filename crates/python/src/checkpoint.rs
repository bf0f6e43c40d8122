//! `Checkpoint`, its `Tensor`s and their `Contents`.

use crate::boundary::{caught, detached};
use crate::errors::{CheckpointError, ReadError};
use pyo3::prelude::*;
use std::collections::BTreeMap;
use std::path::PathBuf;
use weightstream::{Content, Part};

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

/// What files hold, as tensors have it.
#[pyclass(module = "weightstream._native", frozen)]
pub struct Contents(pub Vec<Content>);

#[pymethods]
impl Contents {
    #[staticmethod]
    fn plain(path: PathBuf) -> PyResult<Self> {
        let (_, length) = caught(|| weightstream::source::open_regular(&path))?
            .map_err(|error| CheckpointError::new_err(error.to_string()))?;
        Ok(Self(vec![Content::plain(path, length)]))
    }

    #[getter]
    fn paths(&self) -> Vec<String> {
        let files = self.0.iter().flat_map(Content::files);
        files
            .map(|file| file.path.to_string_lossy().into_owned())
            .collect()
    }

    fn identity(&self, python: Python<'_>) -> PyResult<String> {
        let identity = detached(python, || weightstream::identity(&self.0))?
            .map_err(|error| CheckpointError::new_err(error.to_string()))?;
        Ok(identity.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    fn __len__(&self) -> usize {
        self.0.len()
    }

    fn joined(&self, other: &Contents) -> Self {
        Self([&self.0[..], &other.0[..]].concat())
    }

    fn cast(
        &self,
        parts: Vec<(u32, u64, u64)>,
        dtype: &str,
    ) -> PyResult<Option<Vec<(u32, u64, u64)>>> {
        caught(|| {
            let dtype = weightstream::Dtype::from_name(dtype)?;
            let mut found = Vec::new();
            for given in parts {
                let cast = weightstream::cast(&self.0, crate::stream::part(given), dtype)?;
                found.extend(
                    cast.iter()
                        .map(|part| (part.file, part.offset, part.length)),
                );
            }
            Some(found)
        })
    }

    fn read(
        &self,
        python: Python<'_>,
        parts: Vec<(u32, u64, u64)>,
        address: usize,
        length: usize,
    ) -> PyResult<()> {
        let parts: Vec<Part> = parts.into_iter().map(crate::stream::part).collect();
        // SAFETY: the package passes memory of its own that nobody else has seen yet.
        let to = unsafe { std::slice::from_raw_parts_mut(address as *mut u8, length) };
        detached(python, || weightstream::read(&self.0, &parts, to))?
            .map_err(|error| ReadError::new_err(error.to_string()))
    }
}

/// An index of a checkpoint, from headers alone.
#[pyclass(module = "weightstream._native", frozen)]
pub struct Checkpoint(weightstream::Checkpoint);

#[pymethods]
impl Checkpoint {
    #[staticmethod]
    fn open(python: Python<'_>, path: PathBuf) -> PyResult<Self> {
        detached(python, || weightstream::Checkpoint::open(&path))?
            .map(Self)
            .map_err(|error| CheckpointError::new_err(error.to_string()))
    }

    #[getter]
    fn contents(&self) -> Contents {
        Contents(self.0.contents.clone())
    }

    #[getter]
    fn metadata(&self) -> BTreeMap<String, String> {
        self.0.metadata.clone()
    }

    /// What is odd about its files and does no harm.
    #[getter]
    fn notes(&self) -> Vec<String> {
        self.0.notes.clone()
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
