use crate::boundary::{delivered, freed, required, shared};
use crate::{Error, Program, Status};
use std::sync::Mutex;

/// What runs leave for later ones, a conversation's KV cache for one. Runs with the same state wait for each other.
pub struct State(pub(crate) Mutex<weightstream_graph::State>);

const _: () = shared::<State>();

/// The state of a program that has not run yet, to be given to runs of this program only. The caller frees it.
///
/// # Safety
/// `program` is NULL or a program that was not freed; `state` and `error` are NULL or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ws_state_new(
    program: *const Program,
    state: *mut *mut State,
    error: *mut *mut Error,
) -> Status {
    let work = || {
        // SAFETY: the caller's promise.
        let program = unsafe { required(program, "the program")? };
        Ok(State(Mutex::new(program.program.new_state()?)))
    };
    // SAFETY: the caller's promise.
    unsafe { delivered(state, error, work) }
}

/// Frees a state, before or after its program. NULL is fine.
///
/// # Safety
/// `state` is NULL or a state that was not freed, and no run has it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ws_state_free(state: *mut State) {
    // SAFETY: the caller's promise.
    unsafe { freed(state) };
}
