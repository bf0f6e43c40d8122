//! Copies to the device, in a stream of their own.

use crate::cuda::{CudaError, Driver, Event, StreamHandle};
use std::sync::Arc;

/// A stream for copies, and events that are used again and again.
///
/// Whoever drops it has seen to it that its work is done.
pub struct CopyQueue {
    driver: Arc<dyn Driver>,
    stream: StreamHandle,
    spare: Vec<Event>,
}

impl CopyQueue {
    /// A new stream.
    ///
    /// # Errors
    /// The driver's.
    pub fn new(driver: Arc<dyn Driver>) -> Result<Self, CudaError> {
        let stream = driver.create_stream()?;
        Ok(Self {
            driver,
            stream,
            spare: Vec::new(),
        })
    }

    /// Its stream.
    pub fn stream(&self) -> StreamHandle {
        self.stream
    }

    /// Copies host memory to the device after all that was asked before.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Safety
    /// `from` is the start of `bytes` of pinned memory that nobody writes to or frees until the copy is done.
    pub unsafe fn copy(&self, to: u64, from: *const u8, bytes: usize) -> Result<(), CudaError> {
        // SAFETY: by the contract of this function.
        unsafe { self.driver.copy_to_device(to, from, bytes, self.stream) }
    }

    /// An event at this point of `stream`; give it back with [`reuse`](Self::reuse).
    ///
    /// # Errors
    /// The driver's.
    pub fn mark(&mut self, stream: StreamHandle) -> Result<Event, CudaError> {
        let event = match self.spare.pop() {
            Some(event) => event,
            None => self.driver.create_event()?,
        };
        match self.driver.record(event, stream) {
            Ok(()) => Ok(event),
            Err(error) => {
                self.spare.push(event);
                Err(error)
            }
        }
    }

    /// Takes an event that nobody waits for any more.
    pub fn reuse(&mut self, event: Event) {
        self.spare.push(event);
    }
}

impl Drop for CopyQueue {
    fn drop(&mut self) {
        for event in self.spare.drain(..) {
            if let Err(error) = self.driver.destroy_event(event) {
                log::debug!("an event is not given back: {error}");
            }
        }
        if let Err(error) = self.driver.destroy_stream(self.stream) {
            log::debug!("a stream is not given back: {error}");
        }
    }
}
