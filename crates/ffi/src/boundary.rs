//! Where C ends: panics become errors, and pointers become references or errors.

use crate::{Error, Status};
use std::ffi::{CStr, c_char};
use std::ptr;

/// Runs `work`; a panic in it is an error. Everything that C calls goes through here.
fn caught<T>(work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    weightstream::caught(work).unwrap_or_else(|panic| {
        let message = format!("a bug in weightstream: {panic}");
        Err(Error::new(Status::Internal, message))
    })
}

/// For functions that can't fail: what `work` gives, `otherwise` should it panic.
pub(crate) fn answered<T>(otherwise: T, work: impl FnOnce() -> T) -> T {
    caught(|| Ok(work())).unwrap_or(otherwise)
}

/// For functions that can fail: tells in `error` why `work` did, and says so.
///
/// # Safety
/// `error` is NULL or can be written.
pub(crate) unsafe fn told(
    error: *mut *mut Error,
    work: impl FnOnce() -> Result<(), Error>,
) -> Status {
    let failed = caught(work).err();
    let status = failed.as_ref().map_or(Status::Ok, Error::status);
    if !error.is_null() {
        let failed = failed.map_or(ptr::null_mut(), |error| Box::into_raw(Box::new(error)));
        // SAFETY: the caller's promise.
        unsafe { error.write(failed) };
    }
    status
}

/// As [`told`], for functions that make something: it goes to `made`, which is NULL after an error.
///
/// # Safety
/// `made` and `error` are each NULL or can be written.
pub(crate) unsafe fn delivered<T>(
    made: *mut *mut T,
    error: *mut *mut Error,
    work: impl FnOnce() -> Result<T, Error>,
) -> Status {
    let work = || {
        if made.is_null() {
            return Err(null("the place of the result"));
        }
        // SAFETY: the caller's promise.
        unsafe { made.write(ptr::null_mut()) };
        let value = Box::into_raw(Box::new(work()?));
        // SAFETY: as above.
        unsafe { made.write(value) };
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { told(error, work) }
}

/// Ends what [`delivered`] made.
///
/// # Safety
/// `made` is NULL, or comes from `delivered` or `Box::into_raw` and is not used afterwards.
pub(crate) unsafe fn freed<T>(made: *mut T) {
    if !made.is_null() {
        // SAFETY: the caller's promise.
        answered((), || drop(unsafe { Box::from_raw(made) }));
    }
}

/// What has to be there.
///
/// # Safety
/// `pointer` is NULL or points to a `T` that lives for `'a`.
pub(crate) unsafe fn required<'a, T>(pointer: *const T, what: &str) -> Result<&'a T, Error> {
    // SAFETY: the caller's promise.
    unsafe { pointer.as_ref() }.ok_or_else(|| null(what))
}

/// The `count` elements at `pointer`, which may be NULL where there are none.
///
/// # Safety
/// `pointer` is NULL or points to `count` elements that live for `'a`.
pub(crate) unsafe fn listed<'a, T>(
    pointer: *const T,
    count: usize,
    what: &str,
) -> Result<&'a [T], Error> {
    if count == 0 {
        return Ok(&[]);
    }
    if pointer.is_null() {
        return Err(null(what));
    }
    if !pointer.is_aligned() || count.saturating_mul(size_of::<T>()) > isize::MAX as usize {
        return Err(Error::argument(format!(
            "{what}: expected a list in memory, got {count} entries at {pointer:p}"
        )));
    }
    // SAFETY: the caller's promise, and what was checked.
    Ok(unsafe { std::slice::from_raw_parts(pointer, count) })
}

/// Text that ends with a zero.
///
/// # Safety
/// `text` is NULL or points to such text, which lives for `'a`.
pub(crate) unsafe fn text<'a>(text: *const c_char, what: &str) -> Result<&'a str, Error> {
    if text.is_null() {
        return Err(null(what));
    }
    // SAFETY: the caller's promise.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_str().map_err(|_| {
        Error::argument(format!(
            "{what}: expected UTF-8, got {:?}",
            text.to_string_lossy()
        ))
    })
}

/// To be compiled where C may use a `T` from several threads at once.
pub(crate) const fn shared<T: Send + Sync>() {}

fn null(what: &str) -> Error {
    Error::argument(format!("{what}: got NULL"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error() {
        let mut error = ptr::null_mut();
        // SAFETY: `error` can be written.
        let status = unsafe { told(&mut error, || panic!("number {}", 7)) };
        assert_eq!(status, Status::Internal);
        // SAFETY: `told` has written an error.
        let error = unsafe { Box::from_raw(error) };
        let words = error.to_string();
        assert!(
            words.starts_with("a bug in weightstream: number 7, at "),
            "{words}"
        );
        assert_eq!(answered(3, || panic!("words")), 3);
    }
}
