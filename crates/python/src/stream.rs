//! `Stream` and `Parameter`.

use crate::boundary::{caught, detached, finally};
use crate::budget::Budget;
use crate::checkpoint::Contents;
use crate::errors::from_stream;
use crate::{alarm, faults, logging, openmp};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::sync::Arc;
use weightstream::{Options, Part, Statistic, Together, Unit};

/// (kind, start in ns, end in ns, chunk or block, thread)
pub type Row = (&'static str, u64, u64, u32, u32);

/// (index into the contents, offset, length) in bytes
pub fn part((file, offset, length): (u32, u64, u64)) -> Part {
    Part {
        file,
        offset,
        length,
    }
}

/// What the stream must place at one address.
#[pyclass(module = "weightstream._native", frozen, from_py_object)]
#[derive(Clone)]
pub struct Parameter(pub weightstream::Parameter);

#[pymethods]
impl Parameter {
    #[new]
    #[pyo3(signature = (name, parts, itemsize, unit = 0))]
    fn new(name: String, parts: Vec<(u32, u64, u64)>, itemsize: u64, unit: u64) -> Self {
        let parts = parts.into_iter().map(part).collect();
        Self(weightstream::Parameter {
            name,
            parts,
            itemsize,
            unit,
        })
    }
}

/// Weights of one model: fixed addresses, a pool of limited size, a thread that reads ahead.
#[pyclass(module = "weightstream._native", frozen, weakref)]
pub struct Stream {
    pub(crate) stream: Arc<weightstream::Stream>,
    parameters: usize,
    /// Its memory is a share of a budget.
    shares: bool,
}

#[pymethods]
impl Stream {
    #[new]
    #[pyo3(signature = (contents, parameters, memory, budget = None, priority = 1.0, writable = vec![]))]
    fn new(
        python: Python<'_>,
        contents: &Contents,
        parameters: Vec<Parameter>,
        memory: u64,
        budget: Option<&Budget>,
        priority: f64,
        writable: Vec<usize>,
    ) -> PyResult<Self> {
        let budget = budget.map(|budget| budget.0.clone());
        let contents = contents.0.clone();
        let count = parameters.len();
        let parameters = parameters
            .into_iter()
            .map(|parameter| parameter.0)
            .collect();
        let stream = detached(python, || {
            openmp::unblock_team();
            let options = || {
                faults::told(Options {
                    writable: writable.clone(),
                    alarm: Some(alarm::ring),
                    ..Options::with_memory(memory)
                })
            };
            match &budget {
                Some(budget) => budget.open(contents, parameters, options, priority),
                None => weightstream::Stream::over(contents, parameters, options()).map(Arc::new),
            }
        })?
        .map_err(from_stream)?;
        alarm::watch(&stream);
        Ok(Self {
            stream,
            parameters: count,
            shares: budget.is_some(),
        })
    }

    #[staticmethod]
    fn least_memory() -> u64 {
        weightstream::Stream::least_memory()
    }

    fn addresses(&self) -> PyResult<Vec<usize>> {
        let addresses = (0..self.parameters).map(|index| self.stream.address(index));
        caught(|| addresses.collect())
    }

    fn expect(&self, block: u32, parameters: Vec<usize>) -> PyResult<()> {
        caught(|| self.stream.expect(block, &parameters))
    }

    #[pyo3(signature = (block = None))]
    fn enter(&self, python: Python<'_>, block: Option<u32>) -> PyResult<()> {
        detached(python, || {
            match block {
                None | Some(0) => openmp::unblock_team(),
                Some(_) => openmp::unblock_team_once(),
            }
            self.stream.enter(block)
        })?
        .map_err(from_stream)
    }

    #[pyo3(signature = (block = None))]
    fn leave(&self, python: Python<'_>, block: Option<u32>) -> PyResult<bool> {
        let left = detached(python, || self.stream.leave(block))?;
        logging::deliver(python)?;
        left.map_err(from_stream)
    }

    fn begin(&self, block: u32) {
        self.stream.begin(block);
    }

    fn end(&self, block: u32) {
        self.stream.end(block);
    }

    fn mark(&self, python: Python<'_>) -> PyResult<u64> {
        detached(python, || {
            openmp::unblock_team();
            self.stream.mark()
        })?
        .map_err(from_stream)
    }

    #[pyo3(signature = (mark = None))]
    fn check(&self, python: Python<'_>, mark: Option<u64>) -> PyResult<()> {
        let found = detached(python, || match mark {
            Some(mark) => self.stream.check_since(mark),
            None => self.stream.check(),
        })?;
        logging::deliver(python)?;
        found.map_err(from_stream)
    }

    fn fetch(&self, python: Python<'_>, ranges: Vec<(usize, usize)>) -> PyResult<()> {
        detached(python, || self.stream.fetch(ranges))?.map_err(from_stream)
    }

    fn announce(&self, python: Python<'_>, ranges: Vec<(usize, usize)>) -> PyResult<()> {
        detached(python, || self.stream.announce(ranges))?.map_err(from_stream)
    }

    fn resident(&self, ranges: Vec<(usize, usize)>) -> PyResult<Vec<u64>> {
        caught(|| self.stream.resident(ranges))
    }

    fn resize(&self, python: Python<'_>, memory: u64) -> PyResult<()> {
        if self.shares {
            return Err(PyValueError::new_err(
                "the memory of this model is a share of a Budget: resize that",
            ));
        }
        detached(python, || self.stream.resize(memory))?.map_err(from_stream)
    }

    fn stats<'py>(&self, python: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let stats = detached(python, || self.stream.stats())?;
        logging::deliver(python)?;
        counters(python, &stats, self.stream.source_name())
    }

    fn events(&self, python: Python<'_>, record: bool) -> PyResult<Vec<Row>> {
        let records = detached(python, || self.stream.record(record))?.map_err(from_stream)?;
        Ok(records.into_iter().map(row).collect())
    }

    fn close(&self, python: Python<'_>) -> PyResult<()> {
        detached(python, || self.stream.close())?;
        logging::deliver(python)
    }

    #[getter]
    fn closed(&self) -> bool {
        self.stream.is_closed()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // Closing waits for reads under way. Where the interpreter ends there is no lock to let go of.
        if Python::try_attach(|python| finally(python, || self.stream.close())).is_none() {
            self.stream.close();
        }
    }
}

/// Puts the handler of touches back in front of one that was installed since, and unblocks its signal in the calling
/// thread.
#[pyfunction]
pub fn ensure_fault_handler(python: Python<'_>) -> PyResult<()> {
    detached(python, weightstream::ensure_fault_handler)
}

/// The counters as a dict.
pub fn counters<'py>(
    python: Python<'py>,
    stats: &weightstream::Stats,
    source: &str,
) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(python);
    dict.set_item("source", source)?;
    dict.set_item("read_rate", stats.read_rate())?;
    for statistic in weightstream::Stats::ALL {
        dict.set_item(statistic.name, (statistic.of)(stats))?;
    }
    Ok(dict)
}

/// (name, unit, over several devices, meaning) of every counter.
#[pyfunction]
pub fn statistics() -> Vec<(&'static str, &'static str, &'static str, &'static str)> {
    let row = |statistic: &Statistic| {
        let unit = match statistic.unit {
            Unit::Bytes => "bytes",
            Unit::Nanoseconds => "ns",
            Unit::Count => "",
        };
        let together = match statistic.together {
            Together::Sum => "sum",
            Together::Largest => "largest",
        };
        (statistic.name, unit, together, statistic.meaning)
    };
    weightstream::Stats::ALL.iter().map(row).collect()
}

/// A record as Python gets it.
pub fn row(record: weightstream::Record) -> Row {
    (
        record.kind.name(),
        record.start_ns,
        record.end_ns,
        record.subject,
        record.thread,
    )
}
