//! Makes weights of stored bytes.

use super::plan::Step;
use std::mem::MaybeUninit;
use weightstream_checkpoint::Form;
use weightstream_codec::{Stores, decode_into};
use xxhash_rust::xxh3::xxh3_64;

/// Bytes of a slot that are being filled.
pub struct Room {
    start: *mut u8,
    length: usize,
}

// SAFETY: by the contract of `new`, its owner alone uses the memory, in whichever thread.
unsafe impl Send for Room {}

impl Room {
    /// # Safety
    /// As long as it lives, the `length` bytes from `start` on may be written, and nothing else accesses them.
    pub unsafe fn new(start: *mut u8, length: usize) -> Self {
        Self { start, length }
    }

    /// `length` bytes from `at` on, where they lie inside.
    fn part(&mut self, at: usize, length: usize) -> Option<&mut [MaybeUninit<u8>]> {
        let end = at.checked_add(length)?;
        // SAFETY: within memory that is ours alone by the contract of `new`; it need not be initialised.
        (end <= self.length)
            .then(|| unsafe { std::slice::from_raw_parts_mut(self.start.add(at).cast(), length) })
    }
}

/// Carries out `steps`, which are in the order of their stored bytes in `staged`.
///
/// # Errors
/// The first step that failed, and what was expected and found.
pub fn decode(steps: &[Step], staged: &[u8], room: &mut Room) -> Result<(), (Step, String)> {
    let mut whole: Vec<u8> = Vec::new();
    let mut previous: Option<&Step> = None;
    for step in steps {
        let failed = |reason: String| (*step, reason);
        let outside = || failed("the plan leaves its buffers".into());
        let stored = step.at..step.at + step.stored;
        let stored = staged.get(stored).ok_or_else(outside)?;
        let to = room
            .part(step.chunk_offset, step.length)
            .ok_or_else(outside)?;
        if step.is_whole() {
            decode_extent(step, stored, to).map_err(failed)?;
            continue;
        }
        if !previous.is_some_and(|previous| step.is_of(previous)) {
            whole.clear();
            whole.reserve(step.decoded);
            let room = &mut whole.spare_capacity_mut()[..step.decoded];
            decode_extent(step, stored, room).map_err(failed)?;
            // SAFETY: decoding initialises all bytes that it is given room for.
            unsafe { whole.set_len(step.decoded) };
        }
        previous = Some(step);
        let wanted = whole
            .get(step.skip..step.skip + step.length)
            .ok_or_else(outside)?;
        copy(wanted, to);
    }
    Ok(())
}

/// Initialises all of `to`, which has room for all decoded bytes of the extent.
fn decode_extent(step: &Step, stored: &[u8], to: &mut [MaybeUninit<u8>]) -> Result<(), String> {
    match step.form {
        Form::Checked { checksum } => {
            verify(stored, checksum)?;
            let bytes = stored
                .get(..to.len())
                .ok_or("fewer bytes than the weights have")?;
            copy(bytes, to);
            Ok(())
        }
        Form::Coded { coded, checksum } => {
            verify(stored, checksum)?;
            let coded = stored
                .get(..coded as usize)
                .ok_or("fewer bytes than were coded")?;
            decode_into(coded, to, Stores::Streaming).map_err(|error| error.to_string())
        }
        form => Err(format!("{form:?} can't be decoded")),
    }
}

/// Of equal lengths.
fn copy(from: &[u8], to: &mut [MaybeUninit<u8>]) {
    for (to, byte) in to.iter_mut().zip(from) {
        to.write(*byte);
    }
}

fn verify(stored: &[u8], expected: u64) -> Result<(), String> {
    let found = xxh3_64(stored);
    if found == expected {
        return Ok(());
    }
    Err(format!(
        "expected checksum {expected:016x}, found {found:016x}"
    ))
}
