//! Brings the bytes of chunks into their slots.
//!
//! Where files hold the weights as they are, a chunk is read into its slot and that is all. What is stored in another
//! form (coded, quantised) is read into a buffer first and decoded into the slot by a thread of its own, before the
//! chunk counts as loaded. Reads and decoding overlap: a buffer that is being decoded is none that is being read.
//! Stored bytes may stay on a shelf, and are decoded again instead of read again.

mod damage;
mod decode;
pub mod plan;
mod read;
mod shelf;
mod workers;

use crate::error::StreamError;
use crate::stream::OpenSource;
pub use damage::Damage;
pub use plan::Contents;
use plan::Plan;
pub use read::{Reader, read};
pub use shelf::Shelf;
use std::path::PathBuf;
use std::sync::Arc;
use weightstream_checkpoint::{Content, Form, Piece as Placed};
use weightstream_source::{
    Completion, Destination, OnCompletion, Piece, ReadError, Request, Source,
};
use workers::{Decoding, Workers};

/// Reads in flight while others are being decoded, and threads that decode.
const READING: usize = 6;

/// Threads that decode at most: two keep up with any one disk.
const DECODERS: usize = 2;

/// The files of a model, how chunks are made of them, and who reads and decodes.
pub struct Loader {
    contents: Arc<Contents>,
    chunk_bytes: usize,
    source: Arc<dyn Source>,
    workers: Option<Workers>,
    shelf: Arc<Shelf>,
    on_completion: OnCompletion,
}

/// What loading takes, known before anything is opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Needs {
    /// Bytes of each buffer; 0 where nothing is decoded.
    pub buffer_bytes: usize,
    /// Buffers.
    pub buffers: usize,
    /// Threads that decode.
    pub decoders: usize,
}

impl Needs {
    /// What chunks of these pieces need.
    ///
    /// # Errors
    /// A piece that no content holds all of.
    pub fn of<P: IntoIterator<Item = Placed>>(
        contents: &[Content],
        chunks: impl IntoIterator<Item = P>,
    ) -> Result<Self, ReadError> {
        let decoded = |content: &Content| {
            let mut extents = content.extents(0..content.length());
            extents.any(|extent| extent.form != Form::Plain)
        };
        if !contents.iter().any(decoded) {
            return Ok(Self::default());
        }
        let contents = Contents::new(contents.to_vec());
        let mut buffer_bytes = 0;
        for pieces in chunks {
            buffer_bytes = contents.plan(pieces)?.staging().max(buffer_bytes);
        }
        if buffer_bytes == 0 {
            return Ok(Self::default());
        }
        Ok(Self {
            buffer_bytes,
            buffers: READING + DECODERS,
            decoders: DECODERS,
        })
    }

    /// Bytes of all buffers.
    pub fn memory(&self) -> u64 {
        self.buffer_bytes as u64 * self.buffers as u64
    }
}

/// What each chunk of these pieces takes on the shelf, in bytes.
///
/// # Errors
/// A piece that no content holds all of.
pub fn stored_bytes<P: IntoIterator<Item = Placed>>(
    contents: &[Content],
    chunks: impl IntoIterator<Item = P>,
) -> Result<Vec<u32>, ReadError> {
    let contents = Contents::new(contents.to_vec());
    let stored = |pieces| {
        let bytes = shelf::footprint(contents.plan(pieces)?.stored());
        Ok(u32::try_from(bytes).unwrap_or(u32::MAX))
    };
    chunks.into_iter().map(stored).collect()
}

impl Loader {
    /// Opens the files. `on_completion` is told when a chunk is in its slot, or why it is not.
    pub fn open(
        contents: Vec<Content>,
        chunk_bytes: usize,
        needs: Needs,
        open: Option<OpenSource>,
        on_completion: OnCompletion,
    ) -> Result<Self, StreamError> {
        let paths: Vec<PathBuf> = contents
            .iter()
            .flat_map(|content| content.files())
            .map(|file| file.path.clone())
            .collect();
        let shelf = Arc::new(Shelf::default());
        let mut workers = None;
        let mut on_read = Arc::clone(&on_completion);
        if needs.buffers > 0 {
            let completed = Arc::clone(&on_completion);
            let started = Workers::start(needs, paths.clone(), Arc::clone(&shelf), completed)?;
            on_read = started.on_read();
            workers = Some(started);
        }
        let source: Arc<dyn Source> = match open {
            Some(open) => open(&paths, on_read)?,
            None => weightstream_source::open(&paths, on_read)?,
        }
        .into();
        if let Some(workers) = &workers {
            workers.read_from(&source);
        }
        Ok(Self {
            contents: Arc::new(Contents::new(contents)),
            chunk_bytes,
            source,
            workers,
            shelf,
            on_completion,
        })
    }

    /// Where chunks stay as they are stored.
    pub fn shelf(&self) -> &Shelf {
        &self.shelf
    }

    /// Bytes of weights a second that one thread decodes, once it is known.
    pub fn decode_rate(&self) -> Option<f64> {
        self.workers.as_ref().and_then(Workers::rate)
    }

    /// Starts to load `chunk`, which is made of these pieces, into the memory from `slot` on; gives the bytes that are
    /// read for it. The completion has `token`. Where something of it is decoded, its stored bytes `keep` lying on the
    /// shelf, if that has room.
    ///
    /// # Safety
    /// Until the completion, the chunk's bytes from `slot` on may be written and nothing else accesses them. The
    /// pieces lie inside the chunk.
    pub unsafe fn load(
        &self,
        chunk: u32,
        pieces: impl IntoIterator<Item = Placed>,
        slot: *mut u8,
        token: u64,
        keep: bool,
    ) -> u64 {
        let plan = match self.contents.plan(pieces) {
            Ok(plan) => plan,
            Err(error) => {
                (self.on_completion)(Completion {
                    token,
                    result: Err(error),
                });
                return 0;
            }
        };
        let bytes = plan.bytes();
        // Only a piece that is alone in its chunk may be rounded up: it has no neighbour to overwrite.
        let alone = plan.direct.len() == 1 && plan.steps.is_empty();
        let pieces = plan.direct.iter().map(|read| Piece {
            file: read.file,
            offset: read.offset,
            // SAFETY: the layout keeps pieces inside the chunk, which is ours until the completion.
            destination: unsafe { Destination::new(slot.add(read.chunk_offset)) },
            length: read.length,
            room: if alone {
                self.chunk_bytes - read.chunk_offset
            } else {
                read.length
            },
        });
        let request = Request {
            token,
            pieces: pieces.collect(),
        };
        let workers = match &self.workers {
            Some(workers) if !plan.steps.is_empty() => workers,
            _ => {
                self.source.submit(request);
                return bytes;
            }
        };
        let Plan {
            direct,
            staged,
            steps,
        } = plan;
        let decoding = Decoding {
            chunk,
            token,
            staged,
            steps,
            direct,
            // SAFETY: as above; direct reads and steps fill different bytes.
            room: unsafe { decode::Room::new(slot, self.chunk_bytes) },
            keep,
        };
        match self.shelf.get(chunk) {
            Some(kept) => {
                workers.restore(kept, decoding);
                0
            }
            None => {
                workers.read(request, decoding);
                bytes
            }
        }
    }

    /// How many chunks in loading keep the disk busy.
    pub fn depth(&self) -> usize {
        self.source.depth()
    }

    /// How it reads.
    pub fn name(&self) -> &'static str {
        self.source.name()
    }
}
