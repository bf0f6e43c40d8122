//! What the pager and the callers share, under one lock.

use crate::cuda::decoding::Decoder;
use crate::cuda::feed::{Feed, unknown};
use crate::error::WeightError;
use crate::recorder::{Record, RecordKind, Recorder};
use crate::retry;
use crate::stats::Stats;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;
use weightstream_checkpoint::BlockLayout;
use weightstream_engine::tiers::{TierAction, Tiers};
use weightstream_memory::cuda::{
    CopyQueue, CudaError, DevicePool, Driver, Event, PinnedPool, StreamHandle,
};
use weightstream_source::Completion;

/// A read under way.
struct Reading {
    slot: u32,
    bytes: u64,
    since: u64,
    attempts: usize,
}

/// A copy under way.
struct Copying {
    chunk: u32,
    event: Event,
    since: u64,
}

/// Work of the caller that uses chunks, up to an event.
struct Use {
    event: Event,
    chunks: Arc<[u32]>,
}

/// A pass of a caller.
pub struct Pass {
    pub since: u64,
    pub bytes_before: u64,
    pub copied_before: u64,
    pub waited_before: u64,
}

pub struct Core {
    pub driver: Arc<dyn Driver>,
    pub layout: Arc<BlockLayout>,
    pub host: Arc<PinnedPool>,
    pub tiers: Tiers,
    pub pool: DevicePool,
    pub copies: CopyQueue,
    /// Ends all reads when it is dropped.
    pub feed: Option<Feed>,
    /// Decodes chunks that are copied as they are stored.
    pub decoder: Option<Decoder>,
    opened: Instant,
    reading: HashMap<u32, Reading>,
    pauses: Vec<(Instant, u32)>,
    copying: VecDeque<Copying>,
    uses: Vec<Use>,
    /// Waiting tickets that will not be served, and why.
    pub refused: HashMap<u64, Arc<WeightError>>,
    /// The device can't be used any more.
    pub broken: Option<CudaError>,
    pub passes: HashMap<u32, Pass>,
    pub recorder: Recorder,
    pub stats: Stats,
    /// Something has happened that the engine may answer to.
    pub changed: bool,
    /// Bytes copied to the device.
    pub copied_bytes: u64,
    actions: Vec<TierAction>,
}

impl Core {
    #[allow(clippy::too_many_arguments)] // each of them is a part of it
    pub fn new(
        layout: Arc<BlockLayout>,
        host: Arc<PinnedPool>,
        tiers: Tiers,
        pool: DevicePool,
        copies: CopyQueue,
        feed: Feed,
        decoder: Option<Decoder>,
        stats: Stats,
        opened: Instant,
    ) -> Self {
        Self {
            driver: Arc::clone(pool.reservation().driver()),
            layout,
            host,
            tiers,
            pool,
            copies,
            feed: Some(feed),
            decoder,
            opened,
            reading: HashMap::new(),
            pauses: Vec::new(),
            copying: VecDeque::new(),
            uses: Vec::new(),
            refused: HashMap::new(),
            broken: None,
            passes: HashMap::new(),
            recorder: Recorder::default(),
            stats,
            changed: true,
            copied_bytes: 0,
            actions: Vec::new(),
        }
    }

    /// Nanoseconds since the stream was opened.
    pub fn now(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Has `stream` wait for those of the chunks that are still on their way.
    pub fn await_copies(
        &self,
        chunks: impl Iterator<Item = u32>,
        stream: StreamHandle,
    ) -> Result<(), CudaError> {
        let wanted: Vec<u32> = chunks
            .filter(|&chunk| self.tiers.is_copying(chunk))
            .collect();
        // Copies end in the order in which they were asked for: the last one stands for those before it.
        match self
            .copying
            .iter()
            .rev()
            .find(|copy| wanted.contains(&copy.chunk))
        {
            Some(copy) => self.driver.wait(stream, copy.event),
            None => Ok(()),
        }
    }

    /// The caller's work up to here uses the chunks.
    pub fn in_use(&mut self, event: Event, chunks: Arc<[u32]>) {
        self.uses.push(Use { event, chunks });
    }

    /// Whether the device works on something that must be asked about.
    pub fn is_busy(&self) -> bool {
        !(self.copying.is_empty() && self.uses.is_empty())
    }

    /// When the next failed read is to be tried again.
    pub fn next_attempt(&self) -> Option<Instant> {
        self.pauses.iter().map(|&(due, _)| due).min()
    }

    /// Looks at what the device has done.
    pub fn poll(&mut self) -> Result<(), CudaError> {
        while let Some(copy) = self.copying.front() {
            if !self.driver.is_done(copy.event)? {
                break;
            }
            if let Some(copy) = self.copying.pop_front() {
                let now = self.now();
                self.recorder.add(|| Record {
                    kind: RecordKind::Copy,
                    start_ns: copy.since,
                    end_ns: now,
                    subject: copy.chunk,
                    thread: 0,
                });
                self.copies.reuse(copy.event);
                self.tiers.copied(copy.chunk);
                self.changed = true;
            }
        }
        let mut index = 0;
        while let Some(using) = self.uses.get(index) {
            if self.driver.is_done(using.event)? {
                let using = self.uses.swap_remove(index);
                self.copies.reuse(using.event);
                self.tiers.done(&using.chunks);
                self.changed = true;
            } else {
                index += 1;
            }
        }
        Ok(())
    }

    /// A read has ended.
    pub fn read(&mut self, completion: Completion) {
        let chunk = completion.token as u32;
        let Some(reading) = self.reading.remove(&chunk) else {
            return;
        };
        let now = self.now();
        self.changed = true;
        match completion.result {
            Ok(()) => {
                self.stats.reads += 1;
                self.stats.bytes_read += reading.bytes;
                self.recorder.add(|| Record {
                    kind: RecordKind::Read,
                    start_ns: reading.since,
                    end_ns: now,
                    subject: chunk,
                    thread: 0,
                });
                self.tiers.read(chunk, true);
            }
            Err(error) => {
                if let Some(pause) = retry::pause(&error, reading.attempts) {
                    self.stats.retries += 1;
                    if self.stats.retries == 1 {
                        log::warn!("{error}; trying again");
                    }
                    self.pauses.push((Instant::now() + pause, chunk));
                    let attempts = reading.attempts + 1;
                    self.reading.insert(
                        chunk,
                        Reading {
                            attempts,
                            ..reading
                        },
                    );
                } else {
                    self.stats.errors += 1;
                    let error = Arc::new(WeightError::unread(self.layout.names_in(chunk), error));
                    log::error!("{error}");
                    for ticket in self.tiers.read(chunk, false) {
                        self.refused.insert(ticket, Arc::clone(&error));
                    }
                }
            }
        }
        if self.reading.is_empty() {
            self.stats.reading_ns += now.saturating_sub(reading.since);
        }
    }

    /// Tries failed reads again whose time has come.
    pub fn resume(&mut self) -> Result<(), CudaError> {
        let now = Instant::now();
        let (due, later) = self.pauses.drain(..).partition(|&(at, _)| at <= now);
        self.pauses = later;
        for (_, chunk) in due {
            if let Some(slot) = self.reading.get(&chunk).map(|reading| reading.slot) {
                self.submit(chunk, slot)?;
            }
        }
        Ok(())
    }

    /// Does what the engine decides.
    pub fn pump(&mut self) -> Result<(), CudaError> {
        self.changed = false;
        let mut actions = std::mem::take(&mut self.actions);
        self.tiers.pump(&mut actions);
        let result = actions.drain(..).try_for_each(|action| self.act(action));
        self.actions = actions;
        result
    }

    fn act(&mut self, action: TierAction) -> Result<(), CudaError> {
        let now = self.now();
        match action {
            TierAction::Read { chunk, slot } => {
                let reading = Reading {
                    slot,
                    bytes: self.submit(chunk, slot)?,
                    since: now,
                    attempts: 0,
                };
                self.reading.insert(chunk, reading);
            }
            TierAction::Withdraw { chunk, .. } => {
                self.pool.withdraw(chunk)?;
                self.recorder.add(|| Record {
                    kind: RecordKind::Withdraw,
                    start_ns: now,
                    end_ns: now,
                    subject: chunk,
                    thread: 0,
                });
            }
            TierAction::Copy { chunk, from, to } => self.copy(chunk, from, to, now)?,
            TierAction::Release { slot } => self.pool.release(slot)?,
        }
        Ok(())
    }

    fn copy(&mut self, chunk: u32, from: u32, to: u32, now: u64) -> Result<(), CudaError> {
        self.pool.publish(chunk, to)?;
        let (start, address) = (self.host.start(from), self.pool.address(chunk));
        if let (Some(decoder), Some(Feed::Stored(_, chunks))) = (&mut self.decoder, &self.feed) {
            let stored = chunks.get(chunk as usize).ok_or_else(|| unknown(chunk))?;
            let chunk_bytes = self.pool.chunk_bytes();
            // SAFETY: the slot was read and finished, and the engine has nothing else done with it or with the chunk,
            // which is mapped, before the event below.
            unsafe { decoder.decode(&self.copies, stored, start, address, chunk_bytes)? };
            self.copied_bytes += stored.copied_bytes();
            let event = self.copies.mark(decoder.stream())?;
            self.copying.push_back(Copying {
                chunk,
                event,
                since: now,
            });
            return Ok(());
        }
        let layout = Arc::clone(&self.layout);
        let fill = layout.fill(chunk).ok_or_else(|| unknown(chunk))?;
        for copy in &fill.copies {
            // SAFETY: the layout keeps copies inside the slot, which is pinned; the engine has it neither read into
            // nor freed before the copy is done.
            unsafe {
                self.copies
                    .copy(address + copy.to as u64, start.add(copy.from), copy.length)?;
            }
            self.copied_bytes += copy.length as u64;
        }
        let event = self.copies.mark(self.copies.stream())?;
        self.copying.push_back(Copying {
            chunk,
            event,
            since: now,
        });
        Ok(())
    }

    /// Starts to read a chunk; gives the bytes that are read for it.
    fn submit(&self, chunk: u32, slot: u32) -> Result<u64, CudaError> {
        let Some(feed) = &self.feed else {
            return Ok(0); // closed: nobody waits for it
        };
        let fill = self.layout.fill(chunk).ok_or_else(|| unknown(chunk))?;
        // SAFETY: the slot is large enough for any chunk, and the engine has nothing else done with it before the
        // completion.
        unsafe { feed.read(fill, chunk, slot, self.host.start(slot)) }
    }

    /// The counters as they are now.
    pub fn counted(&self) -> Stats {
        let chunk_bytes = self.stats.chunk_bytes;
        Stats {
            used: self.tiers.device_used() as u64 * chunk_bytes,
            kept_bytes: self.tiers.kept() as u64 * chunk_bytes,
            faults: self.tiers.counters().waited,
            ..self.stats
        }
    }
}
