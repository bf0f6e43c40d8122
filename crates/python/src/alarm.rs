//! A weight that can't be read, or is written to, while Python's main thread uses it outside of all blocks is an exception at once.
//!
//! Only a signal does that: its handler in Python runs before the main thread's next instruction, and sending one needs
//! no lock. (A pending call would wait for the main thread to take Python's lock anew, up to and including Python 3.12.)

use crate::errors::from_stream;
use pyo3::prelude::*;
use std::ffi::c_int;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use weightstream::{Stream, StreamError};

static STREAMS: Mutex<Vec<Weak<Stream>>> = Mutex::new(Vec::new());
/// 0 where the main thread has no handler for it.
static SIGNAL: AtomicI32 = AtomicI32::new(0);

/// Streams for which the alarm may ring.
pub fn watch(stream: &Arc<Stream>) {
    let mut streams = STREAMS.lock().unwrap_or_else(PoisonError::into_inner);
    streams.retain(|stream| stream.strong_count() > 0);
    streams.push(Arc::downgrade(stream));
}

/// Has the main thread look as soon as the call that it is in returns. An atomic and a system call, as signal handlers may.
pub fn ring() {
    let signal = SIGNAL.load(Ordering::Relaxed);
    if signal != 0 {
        // SAFETY: no memory is involved. The first thread of a process has its number, and if that is not the one that
        // Python started in, the signal has no handler there and is ignored.
        unsafe {
            let process = libc::getpid();
            libc::syscall(libc::SYS_tgkill, process, process, signal);
        }
    }
}

/// The signal whose handler calls `look`, one that is ignored where it has none.
#[pyfunction]
pub fn use_signal(signal: c_int) {
    SIGNAL.store(signal, Ordering::Relaxed);
}

/// Raises ReadError, WriteError or ClosedError where the calling thread used a weight outside of all blocks that could not
/// be read, wrote to one, or used one that was closed. `only`: there
/// is no other thread of Python's that a library's worker may have worked for.
#[pyfunction]
pub fn look(python: Python<'_>, only: bool) -> PyResult<()> {
    let streams: Vec<_> = {
        let streams = STREAMS.lock().unwrap_or_else(PoisonError::into_inner);
        streams.iter().filter_map(Weak::upgrade).collect()
    };
    for stream in streams {
        let found = python.detach(|| stream.check_outside(only));
        if let Err(error) = found
            && !matches!(error, StreamError::Forked)
        {
            return Err(from_stream(error));
        }
    }
    Ok(())
}
