use crate::boundary::{required, told};
use crate::versioned::{self, Versioned};
use crate::{Error, Program, Status};

/// What a program has done since it was opened, in bytes and nanoseconds. Begin with `ws_stats stats = {sizeof stats};`:
/// the size tells which fields the caller knows.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Stats {
    /// `sizeof(ws_stats)`.
    pub size: usize,
    /// Memory allowed for weights.
    pub budget: u64,
    /// Memory in use for weights.
    pub used: u64,
    /// The least budget that works.
    pub least: u64,
    /// All weights.
    pub model_bytes: u64,
    /// The most that activations and state took at once.
    pub activation_peak: u64,
    /// Runs begun.
    pub passes: u64,
    /// Bytes read from the files.
    pub bytes_read: u64,
    /// Time in which at least one read was under way.
    pub reading_time: u64,
    /// Time in which at least one thread waited for a weight.
    pub stall_time: u64,
    /// Reads tried again after an error.
    pub retries: u64,
    /// Weights that could not be read.
    pub errors: u64,
}

// SAFETY: integers, the size first.
unsafe impl Versioned for Stats {}

/// What the program has done so far. `stats->size` is set by the caller.
///
/// # Safety
/// `program` is NULL or a program that was not freed; `stats` is NULL or has the size that it says; `error` is NULL or
/// can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ws_program_stats(
    program: *const Program,
    stats: *mut Stats,
    error: *mut *mut Error,
) -> Status {
    let work = || {
        // SAFETY: the caller's promise.
        let program = unsafe { required(program, "the program")? };
        let counted = program.program.stats();
        let known = Stats {
            size: size_of::<Stats>(),
            budget: counted.budget,
            used: counted.used,
            least: counted.least,
            model_bytes: counted.model_bytes,
            activation_peak: program.program.activation_peak() as u64,
            passes: counted.passes,
            bytes_read: counted.bytes_read,
            reading_time: counted.reading_ns,
            stall_time: counted.stall_ns,
            retries: counted.retries,
            errors: counted.errors,
        };
        // SAFETY: the caller's promise.
        unsafe { versioned::write(stats, &known, "the statistics") }
    };
    // SAFETY: the caller's promise.
    unsafe { told(error, work) }
}
