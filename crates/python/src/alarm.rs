//! A weight that can't be read while Python's main thread uses it outside of all blocks is an exception at once.

use crate::errors::from_stream;
use pyo3::ffi;
use pyo3::prelude::*;
use std::ffi::{c_int, c_void};
use std::ptr::null_mut;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use weightstream::Stream;

static STREAMS: Mutex<Vec<Weak<Stream>>> = Mutex::new(Vec::new());

/// Streams for which the alarm may ring.
pub fn watch(stream: &Arc<Stream>) {
    let mut streams = STREAMS.lock().unwrap_or_else(PoisonError::into_inner);
    streams.retain(|stream| stream.strong_count() > 0);
    streams.push(Arc::downgrade(stream));
}

/// Has the main thread look, as soon as the call that it is in returns. Doesn't need Python's lock.
pub fn ring() {
    // SAFETY: may be called from any thread, with or without Python's lock, while there is an interpreter. A full queue
    // is no loss: whatever is in it ends with the same look at the next boundary.
    unsafe {
        if ffi::Py_IsInitialized() != 0 {
            ffi::Py_AddPendingCall(Some(look), null_mut());
        }
    }
}

/// Called by the interpreter in its main thread, with its lock, between two instructions.
extern "C" fn look(_: *mut c_void) -> c_int {
    Python::attach(|python| {
        let streams: Vec<_> = {
            let streams = STREAMS.lock().unwrap_or_else(PoisonError::into_inner);
            streams.iter().filter_map(Weak::upgrade).collect()
        };
        for stream in streams {
            let found = python.detach(|| stream.check_outside());
            if let Err(error @ weightstream::StreamError::Weight(_)) = found {
                from_stream(error).restore(python);
                return -1;
            }
        }
        0
    })
}
