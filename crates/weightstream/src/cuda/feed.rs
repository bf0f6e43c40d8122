//! Who brings chunks into host slots, and in which form.

use crate::cuda::decoding::Stored;
use crate::cuda::fit::HostForm;
use crate::error::StreamError;
use crate::loader::Loader;
use crate::stream::OpenSource;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use weightstream_checkpoint::{Content, Fill};
use weightstream_memory::cuda::PinnedPool;
use weightstream_source::{
    Completion, Destination, OnCompletion, Piece, ReadError, ReadErrorKind, Request, Source,
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
                let paths: Vec<Arc<Path>> = files.iter().map(|path| Arc::from(&**path)).collect();
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
    /// # Safety
    /// The slot is large enough for any chunk, and nothing else accesses it before the completion.
    pub unsafe fn read(&self, fill: &Fill, chunk: u32, slot: u32, start: *mut u8) -> u64 {
        let token = u64::from(slot) << 32 | u64::from(chunk);
        match self {
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
                let Some(stored) = chunks.get(chunk as usize) else {
                    return 0;
                };
                // SAFETY: by the contract of this function.
                let pieces = unsafe { stored.pieces(start) };
                source.submit(Request { token, pieces });
                stored.read_bytes()
            }
        }
    }
}

fn finish(
    completion: &Completion,
    stored: &[Stored],
    host: &PinnedPool,
    paths: &[Arc<Path>],
) -> Result<(), ReadError> {
    let (chunk, slot) = (completion.token as u32, (completion.token >> 32) as u32);
    let Some(stored) = stored.get(chunk as usize) else {
        return Ok(());
    };
    // SAFETY: all of the chunk was read into this slot, and the completion is not delivered yet.
    unsafe { stored.finish(host.start(slot)) }.map_err(|damage| ReadError {
        path: paths
            .get(damage.file as usize)
            .map_or_else(|| Arc::from(Path::new("")), Arc::clone),
        offset: damage.offset,
        length: damage.length,
        kind: ReadErrorKind::Damaged {
            reason: damage.reason,
        },
    })
}
