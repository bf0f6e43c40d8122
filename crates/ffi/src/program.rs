use crate::boundary::{answered, delivered, freed, required, shared, text, told};
use crate::input::name;
use crate::options::options;
use crate::{Error, Input, Options, Status};
use std::ffi::{CString, c_char};
use std::path::Path;
use std::ptr;
use std::sync::Arc;

/// A program that `torch.export.save` wrote, ready to be run. Several threads may run it at once.
pub struct Program {
    pub(crate) program: Arc<weightstream_graph::Program>,
    inputs: Vec<Input>,
    outputs: Vec<CString>,
}

const _: () = shared::<Program>();

/// Opens a `.pt2` file, or the folder that `weightstream pack` made of one. `path` is UTF-8; `options` may be NULL. The
/// caller frees the program.
///
/// # Safety
/// `path` is NULL or ends with a zero, as does the model's name in `options`; `options` is NULL or has the size that it
/// says; `program` and `error` are NULL or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ws_program_open(
    path: *const c_char,
    options: *const Options,
    program: *mut *mut Program,
    error: *mut *mut Error,
) -> Status {
    let work = || {
        // SAFETY: the caller's promise.
        let path = Path::new(unsafe { text(path, "the path")? });
        // SAFETY: the caller's promise.
        let options = unsafe { self::options(options)? };
        let program = weightstream_graph::Program::open(path, options)?;
        Ok(Program {
            inputs: program.inputs().iter().map(Input::from).collect(),
            outputs: program.outputs().iter().map(|text| name(text)).collect(),
            program: Arc::new(program),
        })
    };
    // SAFETY: the caller's promise.
    unsafe { delivered(program, error, work) }
}

/// How many inputs a run takes; 0 for NULL.
///
/// # Safety
/// `program` is NULL or a program that was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ws_program_input_count(program: *const Program) -> usize {
    answered(0, || {
        // SAFETY: the caller's promise.
        unsafe { program.as_ref() }.map_or(0, |program| program.inputs.len())
    })
}

/// What input `number` has to be. It belongs to the program; NULL where there is no such input.
///
/// # Safety
/// `program` is NULL or a program that was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ws_program_input(program: *const Program, number: usize) -> *const Input {
    answered(ptr::null(), || {
        // SAFETY: the caller's promise.
        let input = unsafe { program.as_ref() }.and_then(|program| program.inputs.get(number));
        input.map_or(ptr::null(), ptr::from_ref)
    })
}

/// How many outputs a run gives; 0 for NULL.
///
/// # Safety
/// `program` is NULL or a program that was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ws_program_output_count(program: *const Program) -> usize {
    answered(0, || {
        // SAFETY: the caller's promise.
        unsafe { program.as_ref() }.map_or(0, |program| program.outputs.len())
    })
}

/// The way to output `number` in nested containers, empty for a single result. It belongs to the program; NULL where
/// there is no such output.
///
/// # Safety
/// `program` is NULL or a program that was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ws_program_output_name(
    program: *const Program,
    number: usize,
) -> *const c_char {
    answered(ptr::null(), || {
        // SAFETY: the caller's promise.
        let name = unsafe { program.as_ref() }.and_then(|program| program.outputs.get(number));
        name.map_or(ptr::null(), |name| name.as_ptr())
    })
}

/// Whether a run changes what later runs give, as a KV cache does.
///
/// # Safety
/// `program` is NULL or a program that was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ws_program_has_state(program: *const Program) -> bool {
    answered(false, || {
        // SAFETY: the caller's promise.
        unsafe { program.as_ref() }.is_some_and(|program| program.program.has_state())
    })
}

/// Forgets what earlier runs left in the program's own state; waits for a run that uses it.
///
/// # Safety
/// `program` is NULL or a program that was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ws_program_reset(program: *const Program) {
    answered((), || {
        // SAFETY: the caller's promise.
        if let Some(program) = unsafe { program.as_ref() } {
            program.program.reset();
        }
    });
}

/// Another budget of `memory` bytes for weights, from any thread, also while the program runs: what to call with less
/// when the system asks for memory back.
///
/// # Safety
/// `program` is NULL or a program that was not freed; `error` is NULL or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ws_program_resize(
    program: *const Program,
    memory: u64,
    error: *mut *mut Error,
) -> Status {
    let work = || {
        // SAFETY: the caller's promise.
        let program = unsafe { required(program, "the program")? };
        Ok(program.program.resize(memory)?)
    };
    // SAFETY: the caller's promise.
    unsafe { told(error, work) }
}

/// Frees a program. NULL is fine.
///
/// # Safety
/// `program` is NULL or a program that was not freed, and no other call is using it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ws_program_free(program: *mut Program) {
    // SAFETY: the caller's promise.
    unsafe { freed(program) };
}
