//! Who brings chunks into host slots, and in which form.

use crate::cuda::decoding::Stored;
use crate::cuda::fit::HostForm;
use crate::error::StreamError;
use crate::loader::{Damage, Loader};
use crate::stream::OpenSource;
use std::path::PathBuf;
use std::sync::Arc;
use weightstream_checkpoint::{Content, Fill};
use weightstream_memory::cuda::{CudaError, PinnedPool};
use weightstream_source::{
    Completion, Destination, OnCompletion, Piece, ReadError, Request, Source,
};

pub enum Feed {
    /// Reads ranges of the files.
    Files(Box<dyn Source>),
    /// Reads and decodes.
    Decoded(Loader),
    /// Reads what the device decodes.
    Stored(Box<dyn Source>, Arc<Vec<Stored>>),
}

impl Feed {
    pub fn open(
        contents: &[Content],
        form: HostForm,
        chunk_bytes: usize,
        host: &Arc<PinnedPool>,
        open: Option<OpenSource>,
        on_completion: OnCompletion,
    ) -> Result<Self, StreamError> {
        let files: Vec<PathBuf> = contents
            .iter()
            .flat_map(|content| content.files())
            .map(|file| file.path.clone())
            .collect();
        let source = |open: Option<OpenSource>, on_completion| match open {
            Some(open) => open(&files, on_completion),
            None => weightstream_source::open(&files, on_completion),
        };
        Ok(match form {
            HostForm::Files => Feed::Files(source(open, on_completion)?),
            HostForm::Decoded(needs) => {
                let contents = contents.to_vec();
                Feed::Decoded(Loader::open(
                    contents,
                    chunk_bytes,
                    needs,
                    open,
                    on_completion,
                )?)
            }
            HostForm::Stored(chunks) => {
                let (stored, host) = (Arc::clone(&chunks), Arc::clone(host));
                let paths = files.clone();
                // The thread that has read checks too: the pager has callers to serve.
                let checked: OnCompletion = Arc::new(move |mut completion| {
                    if completion.result.is_ok() {
                        completion.result = finish(&completion, &stored, &host, &paths);
                    }
                    on_completion(completion);
                });
                Feed::Stored(source(open, checked)?, chunks)
            }
        })
    }

    /// How it reads.
    pub fn name(&self) -> &'static str {
        match self {
            Feed::Files(source) | Feed::Stored(source, _) => source.name(),
            Feed::Decoded(loader) => loader.name(),
        }
    }

    /// Starts to read a chunk into the slot that begins at `start`; gives the bytes that are read for it.
    ///
    /// # Errors
    /// There is no such chunk; then no completion comes.
    ///
    /// # Safety
    /// The slot is large enough for any chunk, and nothing else accesses it before the completion.
    pub unsafe fn read(
        &self,
        fill: &Fill,
        chunk: u32,
        slot: u32,
        start: *mut u8,
    ) -> Result<u64, CudaError> {
        let token = u64::from(slot) << 32 | u64::from(chunk);
        Ok(match self {
            Feed::Files(source) => {
                let pieces = fill.reads.iter().map(|read| Piece {
                    file: read.file,
                    offset: read.offset,
                    // SAFETY: the layout keeps reads inside the slot and apart from each other.
                    destination: unsafe { Destination::new(start.add(read.at)) },
                    length: read.length,
                    room: read.room,
                });
                source.submit(Request {
                    token,
                    pieces: pieces.collect(),
                });
                fill.reads.iter().map(|read| read.length as u64).sum()
            }
            // SAFETY: by the contract of this function; the layout keeps pieces inside the chunk.
            Feed::Decoded(loader) => unsafe {
                let pieces = fill.pieces.iter().copied();
                loader.load(chunk, pieces, start, token, false)
            },
            Feed::Stored(source, chunks) => {
                let stored = chunks.get(chunk as usize).ok_or_else(|| unknown(chunk))?;
                // SAFETY: by the contract of this function.
                let pieces = unsafe { stored.pieces(start) };
                source.submit(Request { token, pieces });
                stored.read_bytes()
            }
        })
    }
}

/// The error of a chunk that a layout doesn't have.
pub fn unknown(chunk: u32) -> CudaError {
    CudaError::Rule {
        what: format!("chunk {chunk} is none of the layout's"),
    }
}

fn finish(
    completion: &Completion,
    stored: &[Stored],
    host: &PinnedPool,
    paths: &[PathBuf],
) -> Result<(), ReadError> {
    let (chunk, slot) = (completion.token as u32, (completion.token >> 32) as u32);
    let stored = stored.get(chunk as usize).ok_or_else(|| Damage {
        file: u32::MAX,
        offset: 0,
        length: 0,
        reason: unknown(chunk).to_string(),
    });
    stored
        // SAFETY: all of the chunk was read into this slot, and the completion is not delivered yet.
        .and_then(|stored| unsafe { stored.finish(host.start(slot)) })
        .map_err(|damage| damage.in_files(paths))
}
