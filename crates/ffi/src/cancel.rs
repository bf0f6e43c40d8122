use crate::boundary::{answered, freed};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

/// A flag that ends runs, once it is set, from any thread. It stays set.
#[derive(Debug, Default)]
pub struct Cancel(pub(crate) AtomicBool);

/// A flag that is not set. The caller frees it, after the last run that was given it has ended.
#[unsafe(no_mangle)]
pub extern "C" fn ws_cancel_new() -> *mut Cancel {
    answered(ptr::null_mut(), || Box::into_raw(Box::default()))
}

/// Ends the runs that were given this flag, each before its next operator, with `WS_STATUS_CANCELLED`. From any thread;
/// NULL is fine.
///
/// # Safety
/// `cancel` is NULL or a flag that was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ws_cancel_set(cancel: *mut Cancel) {
    answered((), || {
        // SAFETY: the caller's promise.
        if let Some(cancel) = unsafe { cancel.as_ref() } {
            cancel.0.store(true, Ordering::Relaxed);
        }
    });
}

/// Frees a flag. NULL is fine.
///
/// # Safety
/// `cancel` is NULL or a flag that was not freed, and no run has it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ws_cancel_free(cancel: *mut Cancel) {
    // SAFETY: the caller's promise.
    unsafe { freed(cancel) };
}
