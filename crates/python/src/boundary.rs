//! Where Python begins: a panic is an exception that `except Exception` catches, not PyO3's PanicException.

use crate::errors::WeightstreamError;
use pyo3::prelude::*;

/// Does `work`.
pub fn caught<T>(work: impl FnOnce() -> T) -> PyResult<T> {
    weightstream::caught(work)
        .map_err(|panic| WeightstreamError::new_err(format!("a bug in weightstream: {panic}")))
}

/// Does `work` without Python's lock.
#[expect(clippy::disallowed_methods, reason = "a panic inside is caught")]
pub fn detached<T: Send>(python: Python<'_>, work: impl FnOnce() -> T + Send) -> PyResult<T> {
    caught(|| python.detach(work))
}

/// Does the last `work` of an object without Python's lock; nobody is there to raise a panic to, so that it is printed.
pub fn finally(python: Python<'_>, work: impl FnOnce() + Send) {
    if let Err(error) = detached(python, work) {
        error.write_unraisable(python, None);
    }
}
