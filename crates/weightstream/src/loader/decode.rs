//! Makes weights of stored bytes.

use super::Damage;
use super::plan::Step;
use half::{bf16, f16};
use std::mem::MaybeUninit;
use weightstream_checkpoint::{Dtype, Form};
use weightstream_codec::quantised::dequantise;
use weightstream_codec::{Element, Stores, decode_into};
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

    /// `length` bytes from `at` on, where they lie inside.
    ///
    /// # Safety
    /// They were written.
    pub unsafe fn bytes(&self, at: usize, length: usize) -> Option<&[u8]> {
        let end = at.checked_add(length)?;
        // SAFETY: within memory that is ours alone by the contract of `new`, and written by this function's.
        (end <= self.length)
            .then(|| unsafe { std::slice::from_raw_parts(self.start.add(at), length) })
    }

    /// Writes `bytes` from `at` on; None, and nothing is written, where they don't lie inside.
    #[must_use]
    pub fn write(&mut self, at: usize, bytes: &[u8]) -> Option<()> {
        copy(bytes, self.part(at, bytes.len())?);
        Some(())
    }
}

/// Whether stored bytes are compared with their checksums before they are decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// They were just read.
    All,
    /// They were checked when they were read, and have been in memory since.
    Nothing,
}

/// Carries out `steps`, which are in the order of their stored bytes in `staged`.
///
/// # Errors
/// The first step that failed, and what was expected and found.
pub fn decode(steps: &[Step], staged: &[u8], check: Check, room: &mut Room) -> Result<(), Damage> {
    let mut whole: Vec<u8> = Vec::new();
    let mut previous: Option<&Step> = None;
    for step in steps {
        let failed = |reason: String| Damage {
            file: step.file,
            offset: step.offset,
            length: step.stored,
            reason,
        };
        let outside = || failed("the plan leaves its buffers".into());
        let stored = step.at..step.at + step.stored;
        let stored = staged.get(stored).ok_or_else(outside)?;
        let to = room
            .part(step.chunk_offset, step.length)
            .ok_or_else(outside)?;
        if step.is_whole() {
            decode_extent(step, stored, check, to).map_err(failed)?;
            continue;
        }
        if !previous.is_some_and(|previous| step.is_of(previous)) {
            whole.clear();
            whole.reserve(step.decoded);
            let room = &mut whole.spare_capacity_mut()[..step.decoded];
            decode_extent(step, stored, check, room).map_err(failed)?;
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
fn decode_extent(
    step: &Step,
    stored: &[u8],
    check: Check,
    to: &mut [MaybeUninit<u8>],
) -> Result<(), String> {
    match step.form {
        Form::Checked { checksum } => {
            verify(stored, checksum, check)?;
            let bytes = stored
                .get(..to.len())
                .ok_or("fewer bytes than the weights have")?;
            copy(bytes, to);
            Ok(())
        }
        Form::Coded { coded, checksum } => {
            verify(stored, checksum, check)?;
            let coded = stored
                .get(..coded as usize)
                .ok_or("fewer bytes than were coded")?;
            decode_into(coded, to, Stores::Streaming).map_err(|error| error.to_string())
        }
        Form::Quantised { kind, to: dtype } => {
            let element =
                element(dtype).ok_or_else(|| format!("{kind} can't be read as {dtype}"))?;
            dequantise(kind, stored, element, zeroed(to)).map_err(|error| error.to_string())
        }
        Form::Cast { from, to: dtype } => cast(from, stored, dtype, to),
        form => Err(format!("{form:?} can't be decoded")),
    }
}

/// `to`, initialised.
fn zeroed(to: &mut [MaybeUninit<u8>]) -> &mut [u8] {
    for byte in &mut *to {
        byte.write(0);
    }
    // SAFETY: all of it was just written.
    unsafe { &mut *(std::ptr::from_mut(to) as *mut [u8]) }
}

fn element(dtype: Dtype) -> Option<Element> {
    match dtype {
        Dtype::BF16 => Some(Element::Bf16),
        Dtype::F16 => Some(Element::F16),
        Dtype::F32 => Some(Element::F32),
        _ => None,
    }
}

/// Rounds numbers to another dtype, as `torch.Tensor.to` does.
fn cast(
    from: Dtype,
    stored: &[u8],
    dtype: Dtype,
    to: &mut [MaybeUninit<u8>],
) -> Result<(), String> {
    let values: Vec<f32> = match from {
        Dtype::F32 => stored
            .as_chunks()
            .0
            .iter()
            .map(|&bytes| f32::from_le_bytes(bytes))
            .collect(),
        Dtype::BF16 => stored
            .as_chunks()
            .0
            .iter()
            .map(|&bytes| bf16::from_le_bytes(bytes).to_f32())
            .collect(),
        Dtype::F16 => stored
            .as_chunks()
            .0
            .iter()
            .map(|&bytes| f16::from_le_bytes(bytes).to_f32())
            .collect(),
        _ => return Err(format!("{from} can't be rounded")),
    };
    let rounded: Vec<u8> = match dtype {
        Dtype::F32 => values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect(),
        Dtype::BF16 => values
            .iter()
            .flat_map(|&value| bf16::from_f32(value).to_le_bytes())
            .collect(),
        Dtype::F16 => values
            .iter()
            .flat_map(|&value| f16::from_f32(value).to_le_bytes())
            .collect(),
        _ => return Err(format!("nothing can be rounded to {dtype}")),
    };
    if rounded.len() != to.len() {
        return Err("fewer bytes than the weights have".into());
    }
    copy(&rounded, to);
    Ok(())
}

/// Of equal lengths.
fn copy(from: &[u8], to: &mut [MaybeUninit<u8>]) {
    for (to, byte) in to.iter_mut().zip(from) {
        to.write(*byte);
    }
}

fn verify(stored: &[u8], expected: u64, check: Check) -> Result<(), String> {
    if cfg!(feature = "unchecked") || check == Check::Nothing {
        return Ok(());
    }
    let found = xxh3_64(stored);
    if found == expected {
        return Ok(());
    }
    Err(format!(
        "expected checksum {expected:016x}, found {found:016x}"
    ))
}
