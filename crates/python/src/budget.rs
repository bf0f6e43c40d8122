//! `Budget` and `Governor`.

use crate::boundary::{caught, detached, finally};
use crate::errors::from_stream;
use crate::stream::Stream;
use pyo3::prelude::*;
use std::sync::{Mutex, PoisonError};
use weightstream::governor::Limits;
#[cfg(target_os = "linux")]
use weightstream::governor::linux::ControlGroups;
use weightstream::{Governed, StreamError};

/// Memory that several streams share.
#[pyclass(module = "weightstream._native", frozen)]
pub struct Budget(pub weightstream::Budget);

#[pymethods]
impl Budget {
    #[new]
    fn new(memory: u64) -> PyResult<Self> {
        caught(|| weightstream::Budget::new(memory))?
            .map(Self)
            .map_err(from_stream)
    }

    fn memory(&self, python: Python<'_>) -> PyResult<u64> {
        detached(python, || self.0.memory())
    }

    fn least(&self, python: Python<'_>) -> PyResult<u64> {
        detached(python, || self.0.least())
    }

    fn resize(&self, python: Python<'_>, memory: u64) -> PyResult<()> {
        detached(python, || self.0.resize(memory))?.map_err(from_stream)
    }
}

/// Has a stream's or a budget's memory follow the pressure on this process' memory.
#[pyclass(module = "weightstream._native", frozen)]
pub struct Governor(Mutex<Option<Governed>>);

#[cfg(target_os = "linux")]
#[pymethods]
impl Governor {
    #[staticmethod]
    fn of_stream(stream: &Stream, least: u64, most: u64) -> PyResult<Self> {
        let source = Box::new(ControlGroups::around_this_process());
        Self::of(|| Governed::stream(&stream.stream, Limits { least, most }, source))
    }

    #[staticmethod]
    fn of_budget(budget: &Budget, least: u64, most: u64) -> PyResult<Self> {
        let source = Box::new(ControlGroups::around_this_process());
        Self::of(|| Governed::budget(&budget.0, Limits { least, most }, source))
    }

    fn stop(&self, python: Python<'_>) -> PyResult<()> {
        detached(python, || self.end())
    }
}

impl Governor {
    fn of(begin: impl FnOnce() -> Result<Governed, StreamError>) -> PyResult<Self> {
        caught(begin)?
            .map(|governed| Self(Mutex::new(Some(governed))))
            .map_err(from_stream)
    }

    fn end(&self) {
        drop(self.0.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl Drop for Governor {
    fn drop(&mut self) {
        // Its thread may be in the middle of a change.
        if Python::try_attach(|python| finally(python, || self.end())).is_none() {
            self.end();
        }
    }
}
