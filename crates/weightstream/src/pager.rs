//! The thread that carries out what the engine decides.
//!
//! It alone owns the engine and the slots. Everything else talks to it through queues that ring one bell: touches
//! and notes (from the fault handler and the callers), completions (from the source), commands (from the API).

use crate::budget;
use crate::error::{StreamError, WeightError};
use crate::failures::Failures;
use crate::loader::Loader;
use crate::patience::Patience;
use crate::recorder::{Record, RecordKind, Recorder};
use crate::residency::{Division, Rates, Seen};
use crate::retry;
use crate::stats::Stats;
use crossbeam_queue::SegQueue;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use weightstream_checkpoint::Layout;
use weightstream_engine::{Action, Engine, Marker, Residence};
use weightstream_memory::{AddressSpace, Event, MemoryError};
use weightstream_source::{Completion, ReadError, raise_urgency};

/// In place of a weight that can't be read: NaN in every floating-point format.
const SUBSTITUTE: u8 = 0xFF;

/// Passes at once that are told of.
const PASSES: usize = 256;

/// Nanoseconds of busy reading from which a rate is told.
const LONG_ENOUGH: u64 = 5_000_000;

/// What the API asks of the pager.
pub enum Command {
    /// These chunks will be used soon.
    Announce(Vec<u32>),
    /// A guess of what a block will use, in order.
    Expect(u32, Vec<u32>),
    /// A new budget, in slots and in bytes as it was given; answered when it holds.
    Resize {
        slots: usize,
        memory: u64,
        done: Sender<()>,
    },
    /// Answered when everything that happened before is in the statistics.
    Settle(Sender<()>),
    /// Switch recording on or off, and hand over what there is.
    Record(bool, Sender<Vec<Record>>),
    /// Take substitutes for weights, and what was written to them, away; answered when none is visible.
    Cure(u64, Sender<()>),
    /// Stop.
    Close,
}

/// What the pager shares with the threads that use the stream.
pub struct Shared {
    pub space: Arc<AddressSpace>,
    pub layout: Layout,
    pub completions: SegQueue<Completion>,
    pub commands: SegQueue<Command>,
    pub failures: Failures,
    /// Parameters that may be written to, by index.
    pub writable: HashSet<usize>,
    pub alarm: Option<Alarm>,
    /// The pager has ended: nobody answers any more.
    pub ended: AtomicBool,
    pub stats: Mutex<Stats>,
}

/// Called before a thread that is in no block goes on with a substitute for a weight, or writes to one; by the pager, and
/// where the stream was closed in that thread's signal handler. So it may use atomics and system calls only.
pub type Alarm = fn();

impl Shared {
    pub fn stats(&self) -> Stats {
        *self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// A read has ended; called by the thread that read. Whoever waits for the chunk need not wait for the pager too.
    pub fn complete(&self, completion: Completion) {
        let (chunk, slot) = from_token(completion.token);
        let good = completion.result.is_ok();
        self.completions.push(completion);
        if good {
            self.space.mark_ready(chunk, slot);
        }
        self.space.ring();
    }
}

fn to_token(chunk: u32, slot: u32) -> u64 {
    u64::from(slot) << 32 | u64::from(chunk)
}

fn from_token(token: u64) -> (u32, u32) {
    (token as u32, (token >> 32) as u32)
}

/// When the pager is gone, by whatever way, nobody may wait for it: who touches an absent weight gets a substitute from
/// then on, and the error at the end of its block.
struct Unserved(Arc<Shared>);

impl Drop for Unserved {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::SeqCst);
        self.0.space.close();
    }
}

/// A read under way.
struct Reading {
    slot: u32,
    bytes: u64,
    since: u64,
    attempts: usize,
}

/// A chunk that threads wait for.
struct Awaited {
    since: u64,
    threads: Vec<u32>,
}

/// A caller inside a pass.
struct Pass {
    depth: u32,
    since: u64,
    bytes_before: u64,
    stall_before: u64,
    reading_before: u64,
    blocks: Vec<(u32, u64)>,
}

pub struct Pager {
    shared: Arc<Shared>,
    engine: Engine,
    loader: Loader,
    opened: Instant,
    reading: HashMap<u32, Reading>,
    /// How many of them come from the source, rather than from the shelf.
    from_source: usize,
    /// Failed reads that wait for their next attempt: when, which chunk.
    pauses: Vec<(Instant, u32)>,
    /// Parameters that were written to and stay so.
    written: HashSet<usize>,
    /// Chunks whose bytes are a substitute, or were written to.
    substituted: Vec<u32>,
    /// Chunks that could not be read. Until the failure is cured, whoever needs them again is lost already and gets a
    /// substitute at once: an operator that walks a weight several times would else wait for every retry each time.
    unreadable: HashMap<u32, ReadError>,
    /// Chunks that threads wait for.
    awaited: HashMap<u32, Awaited>,
    stalled_since: u64,
    reading_since: u64,
    busy_since: Option<u64>,
    /// Bytes a second that the source delivered when it was last kept busy; 0 before that is known.
    read_rate: f64,
    passes: HashMap<u32, Pass>,
    patience: Patience,
    division: Division,
    resizing: Vec<Sender<()>>,
    settling: Vec<Sender<()>>,
    recorder: Recorder,
    stats: Stats,
}

impl Pager {
    pub fn new(
        shared: Arc<Shared>,
        engine: Engine,
        loader: Loader,
        division: Division,
        opened: Instant,
    ) -> Self {
        let stats = shared.stats();
        Self {
            shared,
            engine,
            loader,
            opened,
            reading: HashMap::new(),
            from_source: 0,
            pauses: Vec::new(),
            written: HashSet::new(),
            substituted: Vec::new(),
            unreadable: HashMap::new(),
            awaited: HashMap::new(),
            stalled_since: 0,
            reading_since: 0,
            busy_since: None,
            read_rate: 0.0,
            passes: HashMap::new(),
            patience: Patience::default(),
            division,
            resizing: Vec::new(),
            settling: Vec::new(),
            recorder: Recorder::default(),
            stats,
        }
    }

    /// Serves until it is told to close.
    pub fn run(mut self) {
        let _unserved = Unserved(Arc::clone(&self.shared));
        raise_urgency();
        let mut actions = Vec::new();
        let mut events = Vec::new();
        loop {
            let rings = self.shared.space.rings();
            let now = self.now();
            let before = self.stats.bytes_read;
            // A chunk may be touched as soon as its completion lies in the queue. Taking the events before the
            // completions, and looking at them after, keeps cause before effect.
            while let Some(event) = self.shared.space.take_event() {
                events.push(event);
            }
            while let Some(completion) = self.shared.completions.pop() {
                self.completed(completion, now);
            }
            self.measure(now, before);
            for event in events.drain(..) {
                if let Err(error) = self.happened(event, now) {
                    log::error!("streaming ends: {error}");
                    return;
                }
            }
            while let Some(command) = self.shared.commands.pop() {
                if matches!(command, Command::Close) {
                    return;
                }
                if let Err(error) = self.obey(command, &mut actions) {
                    log::error!("streaming ends: {error}");
                    return;
                }
            }
            self.resume_paused();
            self.division.apply(&mut self.engine, self.loader.shelf());
            let patience = self.patience.decide(&mut self.engine, &mut actions, now);
            for action in actions.drain(..) {
                if let Err(error) = self.act(action, now) {
                    log::error!("streaming ends: {error}");
                    return;
                }
            }
            let depth = self.loader.depth().min(self.engine.depth());
            if self.from_source + (depth / 3).min(2) >= depth {
                self.busy_since = Some(now);
            }
            self.publish_stats(now);
            // After the counters: whoever asked sees the news in them. Who asked may have given up waiting.
            for done in self.settling.drain(..) {
                let _ = done.send(());
            }
            if self.division.holds(&self.engine, self.loader.shelf()) {
                for done in self.resizing.drain(..) {
                    let _ = done.send(());
                }
            }
            let paused = self.pauses.iter().map(|&(due, _)| due).min();
            let paused = paused.map(|due| due.saturating_duration_since(Instant::now()));
            let timeout = paused.into_iter().chain(patience).min();
            self.shared.space.wait(rings, timeout);
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn completed(&mut self, completion: Completion, now: u64) {
        let (chunk, _) = from_token(completion.token);
        let Some(reading) = self.reading.remove(&chunk) else {
            return;
        };
        self.from_source -= usize::from(reading.bytes > 0);
        if reading.bytes > 0 && self.from_source == 0 {
            self.stats.reading_ns += now.saturating_sub(self.reading_since);
        }
        match completion.result {
            Ok(()) => {
                self.stats.reads += u64::from(reading.bytes > 0);
                self.stats.bytes_read += reading.bytes;
                self.recorder.add(|| Record {
                    kind: RecordKind::Read,
                    start_ns: reading.since,
                    end_ns: now,
                    subject: chunk,
                    thread: 0,
                });
                self.engine.loaded(chunk);
                self.served(chunk, now);
            }
            Err(error) => self.failed(chunk, reading, error, now),
        }
    }

    fn failed(&mut self, chunk: u32, reading: Reading, error: ReadError, now: u64) {
        let lost = !self.unreadable.is_empty();
        if let (false, Some(pause)) = (lost, retry::pause(&error, reading.attempts)) {
            self.stats.retries += 1;
            if self.stats.retries == 1 {
                log::warn!("{error}; trying again");
            }
            self.pauses.push((Instant::now() + pause, chunk));
            self.reading.insert(
                chunk,
                Reading {
                    attempts: reading.attempts + 1,
                    ..reading
                },
            );
            return;
        }
        let Some(slot) = self.engine.failed(chunk) else {
            self.stats.errors += 1;
            return;
        };
        let first = self.unreadable.is_empty();
        let known = self.unreadable.insert(chunk, error.clone()).is_some();
        let error = self.error_of(chunk, error);
        self.stats.errors += u64::from(!known);
        if first {
            log::error!("{error}");
        }
        let waiting = self.awaited.get(&chunk).map(|awaited| &awaited.threads[..]);
        let outside = self
            .shared
            .failures
            .report(error, waiting.unwrap_or_default());
        self.warn(outside);
        // SAFETY: the slot belongs to this chunk, which is absent: nobody sees the slot, and its read has ended.
        unsafe {
            self.shared
                .space
                .slot(slot)
                .write_bytes(SUBSTITUTE, self.shared.layout.chunk_bytes())
        };
        self.substituted.push(chunk);
        self.engine.loaded(chunk);
        self.shared.space.mark_ready(chunk, slot);
        self.served(chunk, now);
    }

    /// Has the stream's user look for an error where somebody meets it `outside` of all blocks.
    fn warn(&self, outside: bool) {
        if let (true, Some(alarm)) = (outside, self.shared.alarm) {
            alarm();
        }
    }

    /// A thread waits to write to a visible chunk. What its module may write stays as written; anything else is undone
    /// once everybody knows who may have read it.
    fn asked_to_write(&mut self, offset: u64, thread: u32) -> Result<(), MemoryError> {
        let chunk = (offset / self.shared.layout.chunk_bytes() as u64) as u32;
        if !matches!(
            self.engine.residence(chunk),
            Residence::Ready { .. } | Residence::Touched { .. }
        ) {
            // It has left meanwhile: whoever waits asks again.
            return Ok(());
        }
        if self.substituted.contains(&chunk) {
            // It goes when it is cured, and who uses it is told already.
            return self.shared.space.permit_writes(chunk);
        }
        let refused = match self.shared.layout.parameter_at(offset) {
            Some(index) if self.shared.writable.contains(&index) => self.keep_written(chunk, index),
            index => Some(WeightError::written(self.name_of(index))),
        };
        if let Some(error) = refused {
            self.substituted.push(chunk);
            let outside = self.shared.failures.report(error, &[thread]);
            self.warn(outside);
        }
        self.shared.space.permit_writes(chunk)
    }

    /// Makes a chunk stay for good, for what is about to be written to the parameter at `index`.
    fn keep_written(&mut self, chunk: u32, index: usize) -> Option<WeightError> {
        let chunk_bytes = self.stats.chunk_bytes;
        let buffers = self.stats.buffers + chunk_bytes;
        if let Err(StreamError::Budget { given, least }) =
            budget::slots(self.stats.budget, chunk_bytes, buffers)
        {
            return Some(WeightError::Full {
                tensor: self.name_of(Some(index)).to_owned(),
                memory: given,
                least,
            });
        }
        if self.engine.pin(chunk) {
            self.division.pinned();
            self.stats.buffers = buffers;
            self.stats.least += chunk_bytes;
        }
        if self.written.insert(index) {
            let name = self.name_of(Some(index));
            log::warn!(
                "{name:?} is written to: what is written stays in memory, as part of the budget"
            );
        }
        None
    }

    fn name_of(&self, index: Option<usize>) -> &str {
        let parameters = self.shared.layout.parameters();
        let parameter = index.and_then(|index| parameters.get(index));
        parameter.map_or("", |parameter| &parameter.name)
    }

    /// The error of a chunk that can't be read.
    fn error_of(&self, chunk: u32, cause: ReadError) -> WeightError {
        let placed = self.shared.layout.parameters_in(chunk);
        WeightError::unread(placed.map(|placed| placed.parameter.name.as_str()), cause)
    }

    /// Whoever waited for the chunk goes on.
    fn served(&mut self, chunk: u32, now: u64) {
        if let Some(Awaited { since, .. }) = self.awaited.remove(&chunk) {
            self.recorder.add(|| Record {
                kind: RecordKind::Stall,
                start_ns: since,
                end_ns: now,
                subject: chunk,
                thread: 0,
            });
            if self.awaited.is_empty() {
                self.stats.stall_ns += now.saturating_sub(self.stalled_since);
            }
        }
    }

    fn happened(&mut self, event: Event, now: u64) -> Result<(), MemoryError> {
        match event {
            Event::Touched { chunk, thread } => {
                self.engine.touched(thread, chunk);
                self.recorder.add(|| Record {
                    kind: RecordKind::Publish,
                    start_ns: now,
                    end_ns: now,
                    subject: chunk,
                    thread,
                });
            }
            Event::Missing { offset, thread } => {
                let chunk = (offset / self.shared.layout.chunk_bytes() as u64) as u32;
                if matches!(
                    self.engine.residence(chunk),
                    Residence::Absent | Residence::Loading { .. }
                ) {
                    if self.awaited.is_empty() {
                        self.stalled_since = now;
                    }
                    let awaited = self.awaited.entry(chunk).or_insert_with(|| Awaited {
                        since: now,
                        threads: Vec::new(),
                    });
                    awaited.threads.push(thread);
                }
                self.engine
                    .missing(thread, chunk, self.shared.layout.unit_at(offset));
            }
            Event::Writing { offset, thread } => return self.asked_to_write(offset, thread),
            // After the end.
            Event::Lost { .. } => {}
            Event::Note { value, thread } => self.passed(Marker::from_number(value), thread, now),
        }
        Ok(())
    }

    fn passed(&mut self, marker: Marker, thread: u32, now: u64) {
        self.engine.passed(thread, marker);
        let reading_ns = self.reading_ns(now);
        let stats = &self.stats;
        if let Some(block) = marker.entered() {
            if self.passes.len() >= PASSES && !self.passes.contains_key(&thread) {
                // Of a thread that ended inside of its pass.
                let oldest = self.passes.iter().min_by_key(|(_, pass)| pass.since);
                if let Some(oldest) = oldest.map(|(&oldest, _)| oldest) {
                    self.passes.remove(&oldest);
                }
            }
            let pass = self.passes.entry(thread).or_insert_with(|| Pass {
                depth: 0,
                since: now,
                bytes_before: stats.bytes_read,
                stall_before: stats.stall_ns,
                reading_before: reading_ns,
                blocks: Vec::new(),
            });
            pass.depth += 1;
            pass.blocks.push((block, now));
        } else if let Some(pass) = self.passes.get_mut(&thread) {
            if let Some((block, since)) = pass.blocks.pop() {
                self.recorder.add(|| Record {
                    kind: RecordKind::Block,
                    start_ns: since,
                    end_ns: now,
                    subject: block,
                    thread,
                });
            }
            pass.depth = pass.depth.saturating_sub(1);
            if pass.depth == 0 {
                self.patience.passed(thread);
                let pass_bytes = stats.bytes_read - pass.bytes_before;
                let (pass_ns, pass_stall_ns) =
                    (now - pass.since, stats.stall_ns - pass.stall_before);
                self.stats = Stats {
                    pass_bytes,
                    pass_ns,
                    pass_stall_ns,
                    ..self.stats
                };
                let reading_ns = reading_ns - pass.reading_before;
                self.passes.remove(&thread);
                self.judge(reading_ns);
                // The source's rate changes with what else it serves: the past counts less and less.
                self.stats.busy_bytes /= 2;
                self.stats.busy_ns /= 2;
            }
        }
    }

    fn obey(&mut self, command: Command, actions: &mut Vec<Action>) -> Result<(), MemoryError> {
        match command {
            Command::Announce(chunks) => self.engine.announce(&chunks),
            Command::Expect(block, chunks) => self.engine.expect(block, chunks),
            Command::Resize {
                slots,
                memory,
                done,
            } => {
                self.division.resize(memory, slots);
                self.stats.budget = memory;
                self.resizing.push(done);
            }
            Command::Settle(done) => self.settling.push(done),
            Command::Record(on, taken) => drop(taken.send(self.recorder.switch(on))),
            Command::Cure(failed, done) => {
                self.unreadable.clear();
                for chunk in std::mem::take(&mut self.substituted) {
                    self.engine.forget(chunk, actions);
                }
                for action in actions.drain(..) {
                    self.act(action, self.now())?;
                }
                self.shared.failures.cure(failed);
                let _ = done.send(());
            }
            Command::Close => {}
        }
        Ok(())
    }

    fn act(&mut self, action: Action, now: u64) -> Result<(), MemoryError> {
        match action {
            Action::Read { chunk, slot } => {
                let bytes = match self.unreadable.get(&chunk) {
                    Some(error) => {
                        self.shared.complete(Completion {
                            token: to_token(chunk, slot),
                            result: Err(error.clone()),
                        });
                        0
                    }
                    None => self.submit(chunk, slot),
                };
                self.reads_from_source(bytes, now);
                self.reading.insert(
                    chunk,
                    Reading {
                        slot,
                        bytes,
                        since: now,
                        attempts: 0,
                    },
                );
            }
            Action::Withdraw { chunk, .. } => {
                // Refused only where the kernel runs out of mappings. The chunk is still there and its slot not free:
                // going on would read into memory that is in use.
                self.shared.space.reclaim(chunk)?;
                self.recorder.add(|| Record {
                    kind: RecordKind::Withdraw,
                    start_ns: now,
                    end_ns: now,
                    subject: chunk,
                    thread: 0,
                });
            }
            Action::Release { slot } => self.shared.space.release(slot),
        }
        Ok(())
    }

    /// Starts to load a chunk; gives the bytes that are read for it.
    fn submit(&self, chunk: u32, slot: u32) -> u64 {
        let Shared { space, layout, .. } = &*self.shared;
        let keep = self.engine.is_shelved(chunk);
        // SAFETY: the slot is this chunk's, the chunk is absent, and the engine gives the slot to nobody else before
        // the completion.
        unsafe {
            self.loader.load(
                chunk,
                layout.pieces(chunk),
                space.slot(slot),
                to_token(chunk, slot),
                keep,
            )
        }
    }

    fn resume_paused(&mut self) {
        let now = Instant::now();
        let (due, later) = self.pauses.drain(..).partition(|&(due, _)| due <= now);
        self.pauses = later;
        for (_, chunk) in due {
            let Some(slot) = self.reading.get(&chunk).map(|reading| reading.slot) else {
                continue;
            };
            let bytes = self.submit(chunk, slot);
            self.reads_from_source(bytes, self.now());
            if let Some(reading) = self.reading.get_mut(&chunk) {
                reading.bytes = bytes;
            }
        }
    }

    /// A read has begun; of no bytes if what is loaded lies on the shelf.
    fn reads_from_source(&mut self, bytes: u64, now: u64) {
        if bytes > 0 {
            if self.from_source == 0 {
                self.reading_since = now;
            }
            self.from_source += 1;
        }
    }

    /// Time in which at least one read was under way, until now.
    fn reading_ns(&self, now: u64) -> u64 {
        let current = match self.from_source {
            0 => 0,
            _ => now.saturating_sub(self.reading_since),
        };
        self.stats.reading_ns + current
    }

    /// The residency is judged by each pass.
    fn judge(&mut self, reading_ns: u64) {
        let stats = &self.stats;
        if stats.busy_ns > LONG_ENOUGH {
            self.read_rate = stats.busy_bytes as f64 * 1e9 / stats.busy_ns as f64;
        }
        let Some(decode) = self.loader.decode_rate() else {
            return;
        };
        if self.read_rate == 0.0 {
            return;
        }
        let seconds = |nanoseconds: u64| nanoseconds as f64 / 1e9;
        let seen = Seen {
            time: seconds(stats.pass_ns),
            stalled: seconds(stats.pass_stall_ns),
            idle: seconds(stats.pass_ns.saturating_sub(reading_ns)),
            bytes: stats.pass_bytes as f64,
        };
        let rates = Rates {
            read: self.read_rate,
            decode,
        };
        let before = self.division.residency();
        self.division.passed(&self.engine, seen, rates);
        if self.division.residency() != before {
            log::debug!("chunks stay {:?} from now on", self.division.residency());
        }
    }

    /// Measures the source's rate, only while it has as much to do as it can take.
    fn measure(&mut self, now: u64, bytes_before: u64) {
        if let Some(since) = self.busy_since {
            self.stats.busy_ns += now.saturating_sub(since);
            self.stats.busy_bytes += self.stats.bytes_read - bytes_before;
        }
        self.busy_since = None;
    }

    fn publish_stats(&mut self, now: u64) {
        let counters = self.engine.counters();
        let chunk_bytes = self.stats.chunk_bytes;
        let shelf = self.loader.shelf();
        self.stats.used = self.division.used(&self.engine, shelf);
        self.stats.coded_bytes = shelf.used();
        self.stats.kept_bytes = (self.engine.kept() + shelf.count()) as u64 * chunk_bytes;
        self.stats.passes = counters.passes;
        self.stats.faults = counters.misses;
        self.stats.wasted = counters.wasted;
        let mut visible = self.stats;
        visible.reading_ns = self.reading_ns(now);
        *self
            .shared
            .stats
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = visible;
    }
}
