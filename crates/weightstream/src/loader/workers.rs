//! Threads that decode what was read into buffers.

use super::decode::{Check, Room, decode};
use super::plan::{Direct, Staged, Step};
use super::shelf::{Kept, Shelf};
use super::{Damage, Needs};
use crate::error::StreamError;
use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Instant;
use weightstream_source::{
    AlignedBuffer, Completion, Destination, OnCompletion, Piece, Request, Source, raise_urgency,
};

/// What is to be made of a chunk's stored bytes.
pub struct Decoding {
    pub chunk: u32,
    pub token: u64,
    /// Where the bytes come from that are decoded.
    pub staged: Vec<Staged>,
    pub steps: Vec<Step>,
    /// What is not decoded.
    pub direct: Vec<Direct>,
    pub room: Room,
    /// Whether the stored bytes are to stay on the shelf.
    pub keep: bool,
}

impl Decoding {
    /// Bytes of the chunk that are decoded.
    fn decoded(&self) -> u64 {
        self.steps.iter().map(|step| step.length as u64).sum()
    }

    /// Where the bytes that are not decoded begin among those that are kept.
    fn staged_end(&self) -> usize {
        self.staged.last().map_or(0, |read| read.at + read.length)
    }

    /// Puts on the shelf what was read.
    fn put_on(&self, shelf: &Shelf, staged: &[u8]) {
        let direct: usize = self.direct.iter().map(|read| read.length).sum();
        shelf.put(self.chunk, self.staged_end() + direct, |mut to| {
            for read in &self.staged {
                let bytes = read.at..read.at + read.length;
                to.get_mut(bytes.clone())?
                    .copy_from_slice(staged.get(bytes)?);
            }
            to = to.get_mut(self.staged_end()..)?;
            for read in &self.direct {
                let (part, rest) = to.split_at_mut_checked(read.length)?;
                // SAFETY: this was read straight into the slot, and the read has ended.
                part.copy_from_slice(unsafe { self.room.bytes(read.chunk_offset, read.length) }?);
                to = rest;
            }
            Some(())
        });
    }

    /// Makes the chunk of what lies on the shelf.
    fn restore(&mut self, kept: &[u8]) -> Result<(), Damage> {
        decode(&self.steps, kept, Check::Nothing, &mut self.room)?;
        let mut at = self.staged_end();
        for read in &self.direct {
            kept.get(at..at + read.length)
                .and_then(|bytes| self.room.write(read.chunk_offset, bytes))
                .ok_or_else(|| Damage {
                    file: read.file,
                    offset: read.offset,
                    length: read.length,
                    reason: "the plan leaves its buffers".into(),
                })?;
            at += read.length;
        }
        Ok(())
    }
}

/// Bytes that wait to be decoded.
enum Stored {
    Read(AlignedBuffer),
    Kept(Arc<Kept>),
}

/// The buffers and the threads. Dropping it ends the threads; the source must not deliver into buffers any more.
pub struct Workers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    paths: Vec<PathBuf>,
    shelf: Arc<Shelf>,
    /// Bytes that were decoded, and how long that took, in nanoseconds.
    decoded: AtomicU64,
    decoded_ns: AtomicU64,
    on_completion: OnCompletion,
    /// Weak: the source's threads hold this.
    source: OnceLock<Weak<dyn Source>>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    free: Vec<AlignedBuffer>,
    /// Waits for a free buffer.
    waiting: VecDeque<(Request, Decoding)>,
    /// Is being read, by token.
    reading: HashMap<u64, (AlignedBuffer, Decoding)>,
    /// Was read, or lies on the shelf.
    stored: VecDeque<(Stored, Decoding)>,
    closed: bool,
}

impl Workers {
    pub fn start(
        needs: Needs,
        paths: Vec<PathBuf>,
        shelf: Arc<Shelf>,
        on_completion: OnCompletion,
    ) -> Result<Self, StreamError> {
        let free = AlignedBuffer::several(needs.buffers, needs.buffer_bytes).ok_or(
            StreamError::Buffers {
                bytes: needs.memory(),
            },
        )?;
        let shared = Arc::new(Shared {
            paths,
            shelf,
            decoded: AtomicU64::new(0),
            decoded_ns: AtomicU64::new(0),
            on_completion,
            source: OnceLock::new(),
            state: Mutex::new(State {
                free,
                ..State::default()
            }),
            changed: Condvar::new(),
        });
        let mut workers = Self {
            shared,
            threads: Vec::new(),
        };
        for _ in 0..needs.decoders {
            let shared = Arc::clone(&workers.shared);
            let thread = std::thread::Builder::new()
                .name("weightstream-decode".into())
                .spawn(move || {
                    raise_urgency();
                    shared.work();
                })
                .map_err(StreamError::Thread)?;
            workers.threads.push(thread);
        }
        Ok(workers)
    }

    /// Takes the source's completions.
    pub fn on_read(&self) -> OnCompletion {
        let shared = Arc::downgrade(&self.shared);
        Arc::new(move |completion| {
            if let Some(shared) = shared.upgrade() {
                shared.was_read(completion);
            }
        })
    }

    /// Says where to read from.
    pub fn read_from(&self, source: &Arc<dyn Source>) {
        let _ = self.shared.source.set(Arc::downgrade(source));
    }

    /// Reads what is to be decoded together with the pieces of `request`, as soon as a buffer is free, and decodes.
    pub fn read(&self, request: Request, decoding: Decoding) {
        let mut state = self.shared.lock();
        state.waiting.push_back((request, decoding));
        self.shared.read_next(state);
    }

    /// Decodes what lies on the shelf.
    pub fn restore(&self, kept: Arc<Kept>, decoding: Decoding) {
        let mut state = self.shared.lock();
        state.stored.push_back((Stored::Kept(kept), decoding));
        self.shared.changed.notify_one();
    }

    /// Bytes of weights a second that one thread decodes, once it is known.
    pub fn rate(&self) -> Option<f64> {
        let bytes = self.shared.decoded.load(Ordering::Relaxed);
        let time = self.shared.decoded_ns.load(Ordering::Relaxed);
        (bytes > 0 && time > 0).then(|| bytes as f64 * 1e9 / time as f64)
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                log::error!("a decoding thread panicked");
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Submits the first request that waits, if there is a buffer for it.
    fn read_next(&self, mut state: MutexGuard<'_, State>) {
        let Some(source) = self.source.get().and_then(Weak::upgrade) else {
            return;
        };
        if state.waiting.is_empty() {
            return;
        }
        let Some(mut buffer) = state.free.pop() else {
            return;
        };
        let Some((mut request, decoding)) = state.waiting.pop_front() else {
            state.free.push(buffer);
            return;
        };
        request
            .pieces
            .extend(decoding.staged.iter().map(|read| Piece {
                file: read.file,
                offset: read.offset,
                // SAFETY: buffers are as large as the largest plan. This one belongs to the request until its completion.
                destination: unsafe { Destination::new(buffer.start().add(read.at)) },
                length: read.length,
                room: read.length.next_multiple_of(4096),
            }));
        state.reading.insert(decoding.token, (buffer, decoding));
        // Outside of the lock: it is taken by completions, which may come at once.
        drop(state);
        source.submit(request);
    }

    /// A request has ended; called by the thread that read.
    fn was_read(&self, completion: Completion) {
        let mut state = self.lock();
        let Some((buffer, decoding)) = state.reading.remove(&completion.token) else {
            drop(state);
            return (self.on_completion)(completion);
        };
        if completion.result.is_ok() {
            state.stored.push_back((Stored::Read(buffer), decoding));
            self.changed.notify_one();
            return;
        }
        state.free.push(buffer);
        self.read_next(state);
        (self.on_completion)(completion);
    }

    fn work(&self) {
        loop {
            let idle = |state: &mut State| state.stored.is_empty() && !state.closed;
            let mut state = self
                .changed
                .wait_while(self.lock(), idle)
                .unwrap_or_else(PoisonError::into_inner);
            if state.closed {
                return;
            }
            let Some((stored, mut decoding)) = state.stored.pop_front() else {
                continue;
            };
            drop(state);
            let begin = Instant::now();
            let result = match &stored {
                Stored::Read(buffer) => {
                    // SAFETY: the read into the buffer has ended, and it filled all that the steps name.
                    let staged = unsafe { buffer.bytes(buffer.length()) };
                    let result = decode(&decoding.steps, staged, Check::All, &mut decoding.room);
                    self.count(&decoding, begin);
                    if decoding.keep && result.is_ok() {
                        decoding.put_on(&self.shelf, staged);
                    }
                    result
                }
                Stored::Kept(kept) => {
                    let result = decoding.restore(kept.bytes());
                    self.count(&decoding, begin);
                    if result.is_err() {
                        // The next attempt reads it.
                        self.shelf.remove(decoding.chunk);
                    }
                    result
                }
            };
            if let Stored::Read(buffer) = stored {
                let mut state = self.lock();
                state.free.push(buffer);
                self.read_next(state);
            }
            (self.on_completion)(Completion {
                token: decoding.token,
                result: result.map_err(|damage| damage.in_files(&self.paths)),
            });
        }
    }

    fn count(&self, decoding: &Decoding, begin: Instant) {
        let time = begin.elapsed().as_nanos() as u64;
        self.decoded
            .fetch_add(decoding.decoded(), Ordering::Relaxed);
        self.decoded_ns.fetch_add(time, Ordering::Relaxed);
    }
}
