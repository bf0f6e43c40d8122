//! The threads that compute.

use std::error::Error;
use std::io;
use std::sync::OnceLock;
use weightstream::{StreamError, unblock_faults};

/// Starts rayon's threads, once for the process; how many there are.
///
/// # Errors
/// The system has no threads for them. Rayon tries only once, so the process can't run programs then.
pub fn start() -> Result<usize, StreamError> {
    static STARTED: OnceLock<Result<(), i32>> = OnceLock::new();
    let started = STARTED.get_or_init(|| {
        let pool = rayon::ThreadPoolBuilder::new().start_handler(|_| {
            unblock_faults();
        });
        // Where it is left to rayon's first use, that panics.
        let Err(error) = pool.build_global() else {
            return Ok(());
        };
        match error.source().and_then(|cause| cause.downcast_ref()) {
            Some(cause) => Err(io::Error::raw_os_error(cause).unwrap_or_default()),
            // Whoever uses this library from Rust has started them already.
            None => Ok(()),
        }
    });
    match *started {
        Ok(()) => Ok(rayon::current_num_threads()),
        Err(cause) => Err(StreamError::Thread(io::Error::from_raw_os_error(cause))),
    }
}

/// Unblocks the signal of touches where it is not: in the calling thread, and then in those that compute for it, which
/// had its mask if it started them.
pub fn unblock() {
    if unblock_faults() {
        rayon::broadcast(|_| unblock_faults());
    }
}
