//! For tests only: reads that go wrong as told.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use weightstream::source::fault::{Effect, Fault, FaultId, Faulty};
use weightstream::source::{ReadErrorKind, fault, open};
use weightstream::{Options, Residency};

static INSTALLED: Mutex<Option<Installed>> = Mutex::new(None);

#[derive(Clone)]
struct Installed {
    table: fault::Faults,
    residency: Option<Residency>,
}

/// The faults of all streams that are opened while it is installed; see `weightstream_source::fault`.
#[pyclass(module = "weightstream._native", frozen)]
pub struct Faults {
    table: fault::Faults,
    added: Mutex<Vec<FaultId>>,
}

#[pymethods]
impl Faults {
    #[new]
    fn new() -> Self {
        Self {
            table: fault::Faults::default(),
            added: Mutex::default(),
        }
    }

    /// Streams that are opened from now on have these faults, and keep weights as they are stored if `coded` says so.
    #[pyo3(signature = (*, coded = None))]
    fn install(&self, coded: Option<bool>) {
        let residency = coded.map(|coded| match coded {
            true => Residency::Coded,
            false => Residency::Decoded,
        });
        *INSTALLED.lock().unwrap_or_else(PoisonError::into_inner) = Some(Installed {
            table: self.table.clone(),
            residency,
        });
    }

    /// Streams that are opened from now on have none.
    #[staticmethod]
    fn uninstall() {
        *INSTALLED.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Adds a fault and returns its number. `effect` is "fail" (with `errno`), "short", "delay" (by `seconds`) or
    /// "corrupt"; it hits reads of the bytes from `start` to `end` of `file` (None is any), after `skip` of them,
    /// `times` times (None is for ever).
    #[pyo3(signature = (effect, *, errno = 5, seconds = 0.0, file = None, start = 0, end = u64::MAX, skip = 0, times = None))]
    #[expect(clippy::too_many_arguments, reason = "all but one by name")]
    fn add(
        &self,
        effect: &str,
        errno: i32,
        seconds: f64,
        file: Option<u32>,
        start: u64,
        end: u64,
        skip: u64,
        times: Option<u64>,
    ) -> PyResult<usize> {
        let effect = match effect {
            "fail" => Effect::Fail(ReadErrorKind::from(std::io::Error::from_raw_os_error(
                errno,
            ))),
            "short" => Effect::Short,
            "delay" => Effect::Delay(
                Duration::try_from_secs_f64(seconds)
                    .map_err(|error| PyValueError::new_err(error.to_string()))?,
            ),
            "corrupt" => Effect::Corrupt,
            other => return Err(PyValueError::new_err(format!("no such effect: {other:?}"))),
        };
        let id = self.table.add(Fault {
            file,
            range: start..end,
            skip,
            times: times.unwrap_or(u64::MAX),
            effect,
        });
        let mut added = self.added.lock().unwrap_or_else(PoisonError::into_inner);
        added.push(id);
        Ok(added.len() - 1)
    }

    /// Removes a fault by its number.
    fn remove(&self, number: usize) {
        let added = self.added.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(&id) = added.get(number) {
            self.table.remove(id);
        }
    }

    /// Removes all.
    fn clear(&self) {
        self.table.clear();
    }

    /// How often faults took effect.
    #[getter]
    fn hits(&self) -> u64 {
        self.table.hits()
    }
}

/// `options` of a stream that is opened now, while faults are installed.
pub fn told(options: Options) -> Options {
    let installed = INSTALLED
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    let Some(Installed { table, residency }) = installed else {
        return options;
    };
    Options {
        residency,
        source: Some(Box::new(move |files, listener| {
            Faulty::open(files, table, listener, |listener| open(files, listener))
        })),
        ..options
    }
}
