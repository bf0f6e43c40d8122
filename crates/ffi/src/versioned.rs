//! Structures that grow: their first field is the size that the caller's compiler knew.

use crate::Error;
use std::mem::MaybeUninit;

/// A structure whose fields may become more.
///
/// # Safety
/// It is `repr(C)`, begins with its size in bytes as a `usize`, and is valid, and means its defaults, with nothing but
/// zeros after that. Fields leave no padding between them: what is there in a newer caller's would look like a field.
pub(crate) unsafe trait Versioned: Copy {}

/// What the caller has given; the fields that an older caller doesn't know are zero. A newer caller must have left
/// zero what this library doesn't know.
///
/// # Safety
/// `given` is NULL, or as many bytes can be read there as its first field says.
pub(crate) unsafe fn read<T: Versioned>(given: *const T, what: &str) -> Result<T, Error> {
    let mut structure = MaybeUninit::<T>::zeroed();
    if !given.is_null() {
        // SAFETY: the caller's promise; a size is always there.
        let size = unsafe { size_at(given, what)? };
        let known = size.min(size_of::<T>());
        // SAFETY: `known` bytes are within both.
        unsafe {
            given
                .cast::<u8>()
                .copy_to_nonoverlapping(structure.as_mut_ptr().cast(), known);
        }
        for offset in known..size {
            // SAFETY: `offset` is within what the caller has.
            if unsafe { given.cast::<u8>().add(offset).read() } != 0 {
                return Err(Error::argument(format!(
                    "{what}: a field at byte {offset} is set that this version doesn't have"
                )));
            }
        }
    }
    // SAFETY: zeros are valid, and so is what the caller has put into its fields.
    Ok(unsafe { structure.assume_init() })
}

/// Writes as much of `structure` as the caller knows, zeros into what this library doesn't know, and leaves the size.
///
/// # Safety
/// `to` is NULL, or as many bytes can be read and written there as its first field says.
pub(crate) unsafe fn write<T: Versioned>(
    to: *mut T,
    structure: &T,
    what: &str,
) -> Result<(), Error> {
    if to.is_null() {
        return Err(Error::argument(format!("{what}: got NULL")));
    }
    // SAFETY: the caller's promise.
    let size = unsafe { size_at(to, what)? };
    let known = size.min(size_of::<T>());
    let (from, to) = (std::ptr::from_ref(structure).cast::<u8>(), to.cast::<u8>());
    let first = size_of::<usize>();
    // SAFETY: both have `known` bytes, and `to` has `size`.
    unsafe {
        to.add(first)
            .copy_from_nonoverlapping(from.add(first), known - first);
        to.add(known).write_bytes(0, size - known);
    }
    Ok(())
}

/// # Safety
/// A `usize` can be read there.
unsafe fn size_at<T: Versioned>(given: *const T, what: &str) -> Result<usize, Error> {
    // A structure of more bytes than this is none: its size was not set.
    const MOST: usize = 4096;
    // SAFETY: the caller's promise.
    let size = unsafe { given.cast::<usize>().read_unaligned() };
    if (size_of::<usize>()..=MOST).contains(&size) {
        return Ok(size);
    }
    Err(Error::argument(format!(
        "{what}: expected its size in bytes in its first field, got {size}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(C)]
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Older {
        size: usize,
        first: u64,
    }

    #[repr(C)]
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Newer {
        size: usize,
        first: u64,
        second: u64,
    }

    // SAFETY: integers without padding, the size first.
    unsafe impl Versioned for Older {}
    // SAFETY: as above.
    unsafe impl Versioned for Newer {}

    #[test]
    fn older_and_newer_callers_are_understood() {
        let (size, newer) = (size_of::<Older>(), size_of::<Newer>());
        let given = Older { size, first: 5 };
        // SAFETY: the sizes are true, here and below.
        let read_as_newer = unsafe { read((&raw const given).cast::<Newer>(), "it") };
        assert_eq!(
            read_as_newer.unwrap(),
            Newer {
                size,
                first: 5,
                second: 0
            }
        );

        let mut given = Newer {
            size: newer,
            first: 5,
            second: 0,
        };
        let as_older = (&raw mut given).cast::<Older>();
        // SAFETY: as above.
        assert_eq!(unsafe { read(as_older, "it") }.unwrap().first, 5);
        given.second = 1;
        let as_older = (&raw mut given).cast::<Older>();
        // SAFETY: as above.
        let refused = unsafe { read(as_older, "it") }.unwrap_err();
        assert!(refused.to_string().contains("byte 16"), "{refused}");

        // SAFETY: as above.
        unsafe { write(as_older, &Older { size, first: 7 }, "it") }.unwrap();
        assert_eq!((given.size, given.first, given.second), (newer, 7, 0));
    }

    #[test]
    fn nothing_is_the_defaults_and_no_size_is_an_error() {
        // SAFETY: NULL is allowed.
        let defaults = unsafe { read(std::ptr::null::<Older>(), "it") }.unwrap();
        assert_eq!(defaults, Older { size: 0, first: 0 });
        for size in [0, 4, usize::MAX] {
            let mut given = Older { size, first: 0 };
            // SAFETY: a size is there, and nothing else is read.
            assert!(unsafe { read(&given, "it") }.is_err());
            // SAFETY: as above.
            assert!(unsafe { write(&mut given, &defaults, "it") }.is_err());
        }
    }
}
