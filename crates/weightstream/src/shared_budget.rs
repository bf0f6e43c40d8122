//! One budget of memory for several streams.

use crate::budget;
use crate::error::StreamError;
use crate::stream::{Options, Stream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};
use weightstream_checkpoint::{Content, Parameter};
use weightstream_governor::{Member, share};

/// How often it is looked who runs.
const LOOK: Duration = Duration::from_millis(100);
/// A stream that did nothing for so long is idle: what others can use of its memory goes to them.
const IDLE: Duration = Duration::from_secs(1);
/// Shares that differ by less than this part of the budget are not worth a read.
const NOTICED: u64 = 64;

/// Memory that several streams share: at every moment all of them together stay within it.
///
/// Those that run get shares by priority; what they can't use, the idle ones keep. A stream that begins to run gets its
/// share within a moment, while passes go on.
#[derive(Clone)]
pub struct Budget(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
}

struct State {
    total: u64,
    streams: Vec<Shared>,
}

/// A stream with a share.
struct Shared {
    stream: Weak<Stream>,
    priority: f64,
    granted: u64,
    /// What it had done when it was last seen to run, and when that was.
    done: (u64, u64, u64),
    seen: Instant,
}

impl Budget {
    /// A budget of `memory` bytes.
    ///
    /// # Errors
    /// Its thread can't be started.
    pub fn new(memory: u64) -> Result<Self, StreamError> {
        let inner = Arc::new(Inner {
            state: Mutex::new(State {
                total: memory,
                streams: Vec::new(),
            }),
        });
        let weak = Arc::downgrade(&inner);
        std::thread::Builder::new()
            .name("weightstream-budget".into())
            .spawn(move || {
                while let Some(inner) = weak.upgrade() {
                    inner.lock().balance(0);
                    drop(inner);
                    std::thread::sleep(LOOK);
                }
            })
            .map_err(StreamError::Thread)?;
        Ok(Self(inner))
    }

    /// Opens a stream that has a share of this budget, with `options` but for memory and chunks. Among streams that run,
    /// shares are in proportion to `priority`.
    ///
    /// # Errors
    /// As [`Stream::over`]; the budget is too small for one more.
    pub fn open(
        &self,
        contents: Vec<Content>,
        parameters: Vec<Parameter>,
        options: impl Fn() -> Options,
        priority: f64,
    ) -> Result<Arc<Stream>, StreamError> {
        let mut state = self.0.lock();
        // Several models are expected to share it.
        let chunk_bytes = budget::chunk_bytes(state.total / 4, &parameters);
        let mut memory = budget::least(chunk_bytes);
        loop {
            let left = state.balance(memory);
            if left < memory {
                return Err(StreamError::Budget {
                    given: state.total,
                    least: state.total - left + memory,
                });
            }
            let opened = Stream::over(
                contents.clone(),
                parameters.clone(),
                Options {
                    memory,
                    chunk_bytes: Some(chunk_bytes),
                    ..options()
                },
            );
            match opened {
                // Its buffers come on top.
                Err(StreamError::Budget { least, .. }) if least > memory => memory = least,
                Err(error) => return Err(error),
                Ok(stream) => {
                    let stream = Arc::new(stream);
                    state.streams.push(Shared {
                        stream: Arc::downgrade(&stream),
                        priority,
                        granted: memory,
                        done: (0, 0, 0),
                        seen: Instant::now(),
                    });
                    state.balance(0);
                    return Ok(stream);
                }
            }
        }
    }

    /// Bytes that all streams together may use.
    pub fn memory(&self) -> u64 {
        self.0.lock().total
    }

    /// Bytes without which the streams that are open don't work.
    pub fn least(&self) -> u64 {
        let state = self.0.lock();
        state.open().map(|(_, stream)| stream.least()).sum()
    }

    /// Changes the budget while passes run; returns when it holds.
    ///
    /// # Errors
    /// Less than what the open streams need at least.
    pub fn resize(&self, memory: u64) -> Result<(), StreamError> {
        let mut state = self.0.lock();
        let least: u64 = state.open().map(|(_, stream)| stream.least()).sum();
        if memory < least {
            return Err(StreamError::Budget {
                given: memory,
                least,
            });
        }
        state.total = memory;
        state.balance(0);
        Ok(())
    }

    /// A handle that doesn't keep it.
    pub(crate) fn weak(&self) -> impl Fn() -> Option<Self> + Send + use<> {
        let weak = Arc::downgrade(&self.0);
        move || weak.upgrade().map(Self)
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn open(&self) -> impl Iterator<Item = (&Shared, Arc<Stream>)> {
        self.streams
            .iter()
            .filter_map(|shared| shared.stream.upgrade().map(|stream| (shared, stream)))
            .filter(|(_, stream)| !stream.is_closed())
    }

    /// Gives everybody its share of what is not kept aside for one that is to come; who must shrink does so before
    /// anybody grows. Bytes that are in nobody's hands afterwards.
    fn balance(&mut self, aside: u64) -> u64 {
        self.streams.retain(|shared| {
            let stream = shared.stream.upgrade();
            stream.is_some_and(|stream| !stream.is_closed())
        });
        let streams: Vec<Arc<Stream>> = self.open().map(|(_, stream)| stream).collect();
        let now = Instant::now();
        for (shared, stream) in self.streams.iter_mut().zip(&streams) {
            let done = stream.done();
            if done != shared.done || stream.is_inside() {
                (shared.done, shared.seen) = (done, now);
            }
        }
        let members: Vec<Member> = self
            .streams
            .iter()
            .zip(&streams)
            .map(|(shared, stream)| Member {
                least: stream.least(),
                most: stream.most().max(stream.least()),
                priority: shared.priority,
                active: now - shared.seen < IDLE,
            })
            .collect();
        if let Some(shares) = share(self.total.saturating_sub(aside), &members) {
            let noticed = self.total / NOTICED;
            for grows in [false, true] {
                for ((shared, stream), &share) in self.streams.iter_mut().zip(&streams).zip(&shares)
                {
                    let over = !grows && share < shared.granted;
                    let under = grows && share > shared.granted + noticed;
                    // Closed meanwhile, or its pager has ended: it uses nothing any more.
                    if (over || under) && stream.resize(share).is_ok() {
                        shared.granted = share;
                    }
                }
            }
        }
        let granted: u64 = self.streams.iter().map(|shared| shared.granted).sum();
        self.total.saturating_sub(granted)
    }
}
