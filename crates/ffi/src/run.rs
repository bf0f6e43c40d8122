use crate::boundary::{listed, required, told};
use crate::versioned::{self, Versioned};
use crate::{Cancel, Error, Program, State, Status, Tensor, value};
use std::ffi::c_void;
use std::ptr;
use std::sync::PoisonError;
use weightstream_graph::Run;

/// Is told, in the thread that runs, that `done` operators of `total` have run. `user` is the pointer of the run's
/// options. It must return: no exception, no `longjmp`.
pub type Progress = Option<unsafe extern "C" fn(user: *mut c_void, done: usize, total: usize)>;

/// How one run is to go. Begin with `ws_run_options options = {sizeof options};`: fields that are zero have their
/// defaults, and the size tells which fields the caller knows. What it points to stays the caller's.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct RunOptions {
    /// `sizeof(ws_run_options)`.
    pub size: usize,
    /// Ends the run when it is set; may be NULL.
    pub cancel: *mut Cancel,
    /// What earlier runs left; NULL is the program's own.
    pub state: *mut State,
    /// Is told how far the run is; may be NULL.
    pub progress: Progress,
    /// For `progress`.
    pub user: *mut c_void,
}

// SAFETY: an integer and pointers that may be zero, the size first.
unsafe impl Versioned for RunOptions {}

/// Runs the program once. `inputs` are `input_count` tensors, which stay the caller's; NULL stands for what is None in
/// Python. Into `outputs`, which has room for `output_count`, go tensors that the caller frees, NULL where the program
/// gives None or text. Both counts are the program's. `options` may be NULL. After an error all outputs are NULL, and
/// the program can be run again; its state may have a part of what the run wrote.
///
/// # Safety
/// `program` is NULL or a program that was not freed; `inputs` and `outputs` are NULL or have as many entries as is
/// said, inputs that are NULL or tensors that were not freed; `options` is NULL, or has the size that it says and what
/// it points to was not freed; `error` is NULL or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ws_program_run(
    program: *const Program,
    inputs: *const *mut Tensor,
    input_count: usize,
    outputs: *mut *mut Tensor,
    output_count: usize,
    options: *const RunOptions,
    error: *mut *mut Error,
) -> Status {
    let work = || {
        if !outputs.is_null() {
            for number in 0..output_count {
                // SAFETY: the caller's promise.
                unsafe { outputs.add(number).write(ptr::null_mut()) };
            }
        }
        // SAFETY: the caller's promise.
        let program = unsafe { required(program, "the program")? };
        // SAFETY: the caller's promise.
        let inputs = unsafe { listed(inputs, input_count, "the inputs")? };
        let expected = program.program.outputs().len();
        if output_count != expected || (outputs.is_null() && expected > 0) {
            return Err(Error::argument(format!(
                "expected room for {expected} outputs, got {}",
                if outputs.is_null() { 0 } else { output_count }
            )));
        }
        // SAFETY: the caller's promise.
        let results = unsafe { run(program, inputs, options)? };
        for (number, tensor) in results.into_iter().enumerate().take(expected) {
            let tensor = tensor.map_or(ptr::null_mut(), |tensor| Box::into_raw(Box::new(tensor)));
            // SAFETY: the caller's promise.
            unsafe { outputs.add(number).write(tensor) };
        }
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { told(error, work) }
}

/// # Safety
/// As [`ws_program_run`].
unsafe fn run(
    program: &Program,
    inputs: &[*mut Tensor],
    options: *const RunOptions,
) -> Result<Vec<Option<Tensor>>, Error> {
    // SAFETY: the caller's promise.
    let options = unsafe { versioned::read(options, "the run's options")? };
    let program = &program.program;
    let mut values = Vec::with_capacity(inputs.len());
    for (number, &input) in inputs.iter().enumerate() {
        let Some(expected) = program.inputs().get(number) else {
            break;
        };
        // SAFETY: the caller's promise.
        values.push(value::taken(unsafe { input.as_ref() }, &expected.kind)?);
    }
    // One too many are for the program to refuse.
    values.resize(inputs.len(), weightstream_graph::Value::None);
    let mut progress = options.progress.map(|progress| {
        move |done, total| {
            // SAFETY: the caller's promise.
            unsafe { progress(options.user, done, total) }
        }
    });
    // SAFETY: the caller's promise.
    let (cancel, state) = unsafe { (options.cancel.as_ref(), options.state.as_ref()) };
    let mut state = state.map(|state| state.0.lock().unwrap_or_else(PoisonError::into_inner));
    let how = Run {
        state: state.as_deref_mut(),
        cancel: cancel.map(|cancel| &cancel.0),
        progress: progress
            .as_mut()
            .map(|progress| progress as &mut dyn FnMut(usize, usize)),
    };
    let (outputs, _) = program.run_with(&values, how)?;
    outputs
        .into_iter()
        .map(|output| value::given(output, program.context()))
        .collect()
}
