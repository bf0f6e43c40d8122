//! Threads that decode what was read into buffers.

use super::Needs;
use super::decode::{Room, decode};
use super::plan::{Staged, Step};
use crate::error::StreamError;
use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread::JoinHandle;
use weightstream_source::{
    AlignedBuffer, Completion, Destination, OnCompletion, Piece, ReadError, ReadErrorKind, Request,
    Source, raise_urgency,
};

/// What is to be made of a chunk's staged bytes.
pub struct Decoding {
    pub token: u64,
    pub steps: Vec<Step>,
    pub room: Room,
}

/// The buffers and the threads. Dropping it ends the threads; the source must not deliver into buffers any more.
pub struct Workers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    paths: Vec<Arc<Path>>,
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
    waiting: VecDeque<(Request, Vec<Staged>, Decoding)>,
    /// Is being read, by token.
    reading: HashMap<u64, (AlignedBuffer, Decoding)>,
    /// Was read.
    read: VecDeque<(AlignedBuffer, Decoding)>,
    closed: bool,
}

impl Workers {
    pub fn start(
        needs: Needs,
        paths: Vec<PathBuf>,
        on_completion: OnCompletion,
    ) -> Result<Self, StreamError> {
        let free = AlignedBuffer::several(needs.buffers, needs.buffer_bytes).ok_or(
            StreamError::Buffers {
                bytes: needs.memory(),
            },
        )?;
        let shared = Arc::new(Shared {
            paths: paths.into_iter().map(Arc::from).collect(),
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

    /// Reads `staged` together with the pieces of `request`, as soon as a buffer is free, and decodes.
    pub fn read(&self, request: Request, staged: Vec<Staged>, decoding: Decoding) {
        let mut state = self.shared.lock();
        state.waiting.push_back((request, staged, decoding));
        self.shared.read_next(state);
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
        let Some((mut request, staged, decoding)) = state.waiting.pop_front() else {
            state.free.push(buffer);
            return;
        };
        request.pieces.extend(staged.iter().map(|read| Piece {
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
            state.read.push_back((buffer, decoding));
            self.changed.notify_one();
            return;
        }
        state.free.push(buffer);
        self.read_next(state);
        (self.on_completion)(completion);
    }

    fn work(&self) {
        loop {
            let idle = |state: &mut State| state.read.is_empty() && !state.closed;
            let mut state = self
                .changed
                .wait_while(self.lock(), idle)
                .unwrap_or_else(PoisonError::into_inner);
            if state.closed {
                return;
            }
            let Some((buffer, mut decoding)) = state.read.pop_front() else {
                continue;
            };
            drop(state);
            // SAFETY: the read into the buffer has ended, and it filled all that the steps name.
            let staged = unsafe { buffer.bytes(buffer.length()) };
            let result = decode(&decoding.steps, staged, &mut decoding.room)
                .map_err(|(step, reason)| self.damaged(step, reason));
            let mut state = self.lock();
            state.free.push(buffer);
            self.read_next(state);
            (self.on_completion)(Completion {
                token: decoding.token,
                result,
            });
        }
    }

    fn damaged(&self, step: Step, reason: String) -> ReadError {
        let path = self.paths.get(step.file as usize);
        ReadError {
            path: path.map_or_else(|| Arc::from(Path::new("")), Arc::clone),
            offset: step.offset,
            length: step.stored,
            kind: ReadErrorKind::Damaged { reason },
        }
    }
}
