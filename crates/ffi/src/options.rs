use crate::Error;
use crate::boundary::text;
use crate::versioned::{self, Versioned};
use std::ffi::c_char;

/// How a program is opened. Begin with `ws_options options = {sizeof options};`: fields that are zero have their
/// defaults, and the size tells which fields the caller knows.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// `sizeof(ws_options)`.
    pub size: usize,
    /// Bytes of memory for weights; 0 keeps all of them, once read.
    pub memory: u64,
    /// Which model, in UTF-8, where the file has several; else NULL.
    pub model: *const c_char,
    /// Threads that multiply matrices; 0 takes as many as there are processors.
    pub threads: usize,
}

// SAFETY: integers and a pointer that may be zero, the size first.
unsafe impl Versioned for Options {}

/// # Safety
/// As `ws_program_open` wants its options.
pub(crate) unsafe fn options(given: *const Options) -> Result<weightstream_graph::Options, Error> {
    // SAFETY: the caller's promise.
    let given = unsafe { versioned::read(given, "options")? };
    let model = if given.model.is_null() {
        None
    } else {
        // SAFETY: the caller's promise.
        Some(unsafe { text(given.model, "the model's name")? }.to_owned())
    };
    Ok(weightstream_graph::Options {
        memory: (given.memory != 0).then_some(given.memory),
        model,
        threads: (given.threads != 0).then_some(given.threads),
        source: None,
    })
}
