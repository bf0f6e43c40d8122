//! What a disk delivers: the reads of a pass, and nothing else.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Instant;

use crate::{AlignedBuffer, Destination, OpenError, Piece, ReadError, Request, open};

/// A range of a file.
#[derive(Debug, Clone, Copy)]
pub struct Range {
    /// Index into the files.
    pub file: u32,
    /// Bytes from the start of the file.
    pub offset: u64,
    /// Bytes.
    pub length: usize,
}

/// What a sweep has shown.
#[derive(Debug, Clone, Copy)]
pub struct Swept {
    /// Bytes that were read.
    pub bytes: u64,
    /// Seconds that it took.
    pub seconds: f64,
    /// How it was read.
    pub source: &'static str,
}

impl Swept {
    /// Bytes a second.
    pub fn rate(&self) -> f64 {
        self.bytes as f64 / self.seconds.max(1e-9)
    }
}

/// Why a sweep failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SweepError {
    /// A file can't be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A range can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// There is no memory to read to.
    #[error("no memory for {count} buffers of {bytes} bytes")]
    Memory {
        /// Buffers.
        count: usize,
        /// Bytes of each.
        bytes: usize,
    },
}

/// Reads `ranges` in their order, `depth` at a time, past the page cache into huge pages; the bytes are dropped.
///
/// # Errors
/// The first file or range that can't be read.
pub fn sweep(files: &[PathBuf], ranges: &[Range], depth: usize) -> Result<Swept, SweepError> {
    let (sender, completions) = mpsc::channel();
    let source = open(
        files,
        Arc::new(move |completion| drop(sender.send(completion))),
    )?;
    let longest = ranges.iter().map(|range| range.length).max().unwrap_or(0);
    // Rounded up to whole pages of the disk, as a slot of the pool has room for.
    let room = longest.next_multiple_of(4096);
    let mut buffers = AlignedBuffer::several(depth, room).ok_or(SweepError::Memory {
        count: depth,
        bytes: room,
    })?;
    let starts: Vec<*mut u8> = buffers.iter_mut().map(AlignedBuffer::start).collect();
    for &start in &starts {
        // SAFETY: the buffer has `room` bytes. Its pages are there before the clock runs.
        unsafe { start.write_bytes(0, room) };
    }
    let submit = |slot: usize, range: &Range| {
        if let Some(&start) = starts.get(slot) {
            // SAFETY: each buffer takes one request at a time, outlives it, and nobody looks at its bytes.
            let destination = unsafe { Destination::new(start) };
            let piece = Piece {
                file: range.file,
                offset: range.offset,
                destination,
                length: range.length,
                room,
            };
            source.submit(Request {
                token: slot as u64,
                pieces: vec![piece],
            });
        }
    };
    let begin = Instant::now();
    let mut left = ranges.iter();
    let mut in_flight = 0;
    for (slot, range) in left.by_ref().take(depth).enumerate() {
        submit(slot, range);
        in_flight += 1;
    }
    let mut outcome = Ok(());
    while in_flight > 0 {
        let Ok(completion) = completions.recv() else {
            break;
        };
        in_flight -= 1;
        if let Err(error) = completion.result {
            outcome = Err(error);
        }
        if outcome.is_ok()
            && let Some(range) = left.next()
        {
            submit(completion.token as usize, range);
            in_flight += 1;
        }
    }
    outcome?;
    Ok(Swept {
        bytes: ranges.iter().map(|range| range.length as u64).sum(),
        seconds: begin.elapsed().as_secs_f64(),
        source: source.name(),
    })
}
