//! One model's weights, streaming.

use crate::budget;
use crate::cut::Cut;
use crate::error::{StreamError, WeightError};
use crate::failures::Failures;
use crate::loader::Loader;
use crate::pager::{Alarm, Command, Pager, Shared};
use crate::recorder::Record;
use crate::residency::{Division, Residency};
use crate::stats::Stats;
use crossbeam_queue::SegQueue;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use weightstream_checkpoint::{Content, Layout, Parameter};
use weightstream_engine::Marker;
use weightstream_memory::{AddressSpace, Backend, Event, Registration, ensure_fault_handler};
use weightstream_source::{OnCompletion, OpenError, Source};

/// Opens the source of a stream's bytes; tests and benchmarks put throttles and faults around it.
pub type OpenSource =
    Box<dyn FnOnce(&[PathBuf], OnCompletion) -> Result<Box<dyn Source>, OpenError> + Send>;

/// How long [`Stream::close`] waits for threads that are inside a block.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often it looks for them.
const LOOK: Duration = Duration::from_millis(1);

/// How a stream is opened.
pub struct Options {
    /// Bytes of memory for weights.
    pub memory: u64,
    /// Bytes of one chunk (a power of two from 64 KiB); None lets the budget decide.
    pub chunk_bytes: Option<u64>,
    /// How pages are published; None takes the best that the kernel offers.
    pub backend: Option<Backend>,
    /// In which form chunks stay in memory; None lets what passes take decide.
    pub residency: Option<Residency>,
    /// Where bytes come from; None reads the files directly.
    pub source: Option<OpenSource>,
    /// Parameters that may be written to, by their index: what is written stays in memory, as a part of the budget, for
    /// as long as the stream is open. A write to another one is undone, and an error as if it could not be read.
    pub writable: Vec<usize>,
    /// Called where a weight that is used outside of all blocks can't be read, or is written to, before whoever uses it
    /// goes on; see [`Stream::check_outside`]. Maybe in a signal handler: it may use atomics and system calls only.
    pub alarm: Option<Alarm>,
}

impl Options {
    /// A budget of `memory` bytes, everything else as it fits.
    pub fn with_memory(memory: u64) -> Self {
        Self {
            memory,
            chunk_bytes: None,
            backend: None,
            residency: None,
            source: None,
            writable: Vec::new(),
            alarm: None,
        }
    }
}

/// The weights of one model at fixed addresses, behind a pool of limited size.
///
/// The addresses stay reserved until the stream is dropped. Any thread may read them at any time; what it reads after
/// [`close`](Self::close) is a substitute, NaN in every floating-point format, and an error at the end of its block.
pub struct Stream {
    shared: Arc<Shared>,
    name: &'static str,
    pager: Mutex<Option<JoinHandle<()>>>,
    closed: AtomicBool,
    /// The process that opened it.
    owner: u32,
    /// Touches are served while this lives; dropped last, when nobody has an address any more.
    _registration: Registration,
}

impl Stream {
    /// Lays `parameters` out over their `files` and starts to serve them.
    ///
    /// # Errors
    /// A budget that is too small (names the least), files that can't be opened, parts outside their files.
    pub fn open(
        files: &[PathBuf],
        parameters: Vec<Parameter>,
        options: Options,
    ) -> Result<Self, StreamError> {
        let contents = files.iter().map(plain_content);
        Self::over(contents.collect::<Result<_, _>>()?, parameters, options)
    }

    /// Lays `parameters` out over `contents`, of whatever form, and starts to serve them.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn over(
        contents: Vec<Content>,
        parameters: Vec<Parameter>,
        options: Options,
    ) -> Result<Self, StreamError> {
        let opened = Instant::now();
        let cut = Cut::new(&contents, parameters, options.memory, options.chunk_bytes)?;
        let engine = cut.engine();
        let (chunks, chunk_size) = (cut.layout.chunks(), cut.layout.chunk_bytes());
        let needs = cut.needs;
        let space = AddressSpace::reserve(chunks, chunks, chunk_size, options.backend)?
            .with_names(names(&cut.layout))
            .with_alarm(options.alarm);
        let space = Arc::new(space);
        let registration = Registration::new(Arc::clone(&space))?;

        let stats = Stats {
            budget: options.memory,
            model_bytes: cut.layout.weight_bytes(),
            chunk_bytes: chunk_size as u64,
            least: cut.least,
            buffers: needs.memory(),
            ..Stats::default()
        };
        let shared = Arc::new(Shared {
            space,
            layout: cut.layout,
            completions: SegQueue::new(),
            commands: SegQueue::new(),
            failures: Failures::default(),
            writable: options.writable.into_iter().collect(),
            alarm: options.alarm,
            ended: AtomicBool::new(false),
            stats: Mutex::new(stats),
        });
        let loader = {
            // Weak: the loader lives inside the pager, which holds the shared part.
            let shared: Weak<Shared> = Arc::downgrade(&shared);
            let on_completion: OnCompletion = Arc::new(move |completion| {
                if let Some(shared) = shared.upgrade() {
                    shared.complete(completion);
                }
            });
            Loader::open(contents, chunk_size, needs, options.source, on_completion)?
        };
        let name = loader.name();
        let division = Division::new(
            options.memory,
            needs.memory(),
            chunk_size as u64,
            cut.slots,
            options.residency,
        );
        let pager = Pager::new(Arc::clone(&shared), engine, loader, division, opened);
        let thread = std::thread::Builder::new()
            .name("weightstream".into())
            .spawn(move || pager.run())
            .map_err(StreamError::Thread)?;
        Ok(Self {
            shared,
            name,
            pager: Mutex::new(Some(thread)),
            closed: AtomicBool::new(false),
            owner: std::process::id(),
            _registration: registration,
        })
    }

    /// The least memory in bytes that any model can stream in on this machine.
    pub fn least_memory() -> u64 {
        budget::least_memory()
    }

    /// Where parameter `index` lies: readable memory for as long as the stream lives.
    pub fn address(&self, index: usize) -> usize {
        self.shared.space.base() + self.shared.layout.address(index) as usize
    }

    /// Where everything lies.
    pub fn layout(&self) -> &Layout {
        &self.shared.layout
    }

    /// How bytes are read: "io_uring direct", "pread buffered", ...
    pub fn source_name(&self) -> &'static str {
        self.name
    }

    /// A guess for first passes, when nothing is known yet: `block` will use these parameters, in about this order.
    /// Parameters of which only slices are used are left out.
    pub fn expect(&self, block: u32, parameters: &[usize]) {
        let layout = &self.shared.layout;
        let chunk_bytes = layout.chunk_bytes() as u64;
        let mut chunks: Vec<u32> = Vec::new();
        for &index in parameters {
            let Some(parameter) = layout.parameters().get(index) else {
                continue;
            };
            let length: u64 = parameter.parts.iter().map(|part| part.length).sum();
            if length == 0 || (parameter.unit != 0 && parameter.unit < length) {
                continue;
            }
            let address = layout.address(index);
            chunks.extend(
                (address / chunk_bytes) as u32..=((address + length - 1) / chunk_bytes) as u32,
            );
        }
        chunks.dedup();
        self.shared.commands.push(Command::Expect(block, chunks));
        self.shared.space.ring();
    }

    /// The calling thread begins block `block`: the engine learns from it where the pass stands. Without a block it
    /// learns nothing, and a weight that can't be read is still told by [`leave`](Self::leave).
    ///
    /// # Errors
    /// The stream is closed; or a weight could not be read, outside of all blocks since the last call, or for another
    /// thread that has not left its block yet. Nothing was entered then.
    pub fn enter(&self, block: impl Into<Option<u32>>) -> Result<(), StreamError> {
        self.usable()?;
        ensure_fault_handler();
        self.cure()?;
        self.shared.failures.enter(current_thread())?;
        if let Some(block) = block.into() {
            self.shared.space.note(Marker::enter(block).number());
        }
        Ok(())
    }

    /// The calling thread has left the block; whether it is in no other one now.
    ///
    /// # Errors
    /// A weight could not be read while the thread was inside, or the stream was closed before it left: what it computed
    /// is not to be used.
    pub fn leave(&self, block: impl Into<Option<u32>>) -> Result<bool, StreamError> {
        self.own()?;
        if let Some(block) = block.into() {
            self.shared.space.note(Marker::leave(block).number());
        }
        let thread = current_thread();
        let left = self.shared.failures.leave(thread);
        self.served()
            .inspect_err(|_| self.shared.failures.told(thread))?;
        Ok(left?)
    }

    /// Where blocks can't be seen: a number that [`check_since`](Self::check_since) takes at the end of what is done
    /// with the weights from now on.
    ///
    /// # Errors
    /// The stream is closed.
    pub fn mark(&self) -> Result<u64, StreamError> {
        self.usable()?;
        ensure_fault_handler();
        self.cure()?;
        Ok(self.shared.failures.mark())
    }

    /// # Errors
    /// A weight could not be read since [`mark`](Self::mark) gave this number: what was computed is not to be used.
    pub fn check_since(&self, mark: u64) -> Result<(), StreamError> {
        self.served()?;
        self.told(self.shared.failures.since(mark))
    }

    /// For work whose beginning could not be seen either.
    ///
    /// # Errors
    /// A weight could not be read that the calling thread has not been told of: what it computed is not to be used.
    pub fn check(&self) -> Result<(), StreamError> {
        self.served()?;
        self.told(self.shared.failures.news(current_thread()))
    }

    /// After [`Options::alarm`], in a thread that it may have been for; whether that is the `only` one in this process
    /// but for libraries' workers.
    ///
    /// # Errors
    /// A weight could not be read, or was closed, that the calling thread used outside of all blocks, or a worker that
    /// must have worked for it.
    pub fn check_outside(&self, only: bool) -> Result<(), StreamError> {
        self.own()?;
        if let Err(ended) = self.served() {
            let thread = current_thread();
            let mine = |event| match event {
                Event::Lost { thread: lost } => {
                    lost == thread || (only && self.shared.failures.is_worker(lost))
                }
                _ => false,
            };
            let events = std::iter::from_fn(|| self.shared.space.take_event());
            // All of them are taken: there is nobody else to do it.
            return match events.filter(|&event| mine(event)).count() {
                0 => Ok(()),
                _ => Err(ended),
            };
        }
        self.told(self.shared.failures.outside(current_thread(), only))
    }

    /// An error that is told outside of all blocks is over with that.
    fn told(&self, found: Result<(), Arc<WeightError>>) -> Result<(), StreamError> {
        if found.is_err() {
            self.cure()?;
            self.shared.failures.told(current_thread());
        }
        Ok(found?)
    }

    /// Has substitutes for weights that could not be read taken away, once that is possible.
    fn cure(&self) -> Result<(), StreamError> {
        match self.shared.failures.curable() {
            Some(failed) => self.ask(|done| Command::Cure(failed, done)),
            None => Ok(()),
        }
    }

    /// The given (address, length in bytes) ranges will be used soon, in this order: what is absent is read, with many
    /// reads at once, and what is there stays. Never needed for correctness.
    ///
    /// # Errors
    /// The stream is closed.
    pub fn announce(
        &self,
        ranges: impl IntoIterator<Item = (usize, usize)>,
    ) -> Result<(), StreamError> {
        self.usable()?;
        self.announce_chunks(self.chunks_of(ranges));
        Ok(())
    }

    /// [`announce`](Self::announce), and returns when the ranges can be touched without waiting.
    ///
    /// # Errors
    /// The stream is closed.
    pub fn fetch(
        &self,
        ranges: impl IntoIterator<Item = (usize, usize)>,
    ) -> Result<(), StreamError> {
        self.usable()?;
        let chunks = self.chunks_of(ranges);
        self.announce_chunks(chunks.clone());
        let (base, chunk_bytes) = (self.shared.space.base(), self.shared.layout.chunk_bytes());
        for chunk in chunks {
            // SAFETY: inside the reserved addresses; a touch of an absent chunk waits for it.
            unsafe { ((base + chunk as usize * chunk_bytes) as *const u8).read_volatile() };
        }
        Ok(())
    }

    /// The chunks in which the ranges lie, in their order, neighbouring ranges' common chunk once.
    fn chunks_of(&self, ranges: impl IntoIterator<Item = (usize, usize)>) -> Vec<u32> {
        let (base, chunk_bytes) = (self.shared.space.base(), self.shared.layout.chunk_bytes());
        let mut chunks: Vec<u32> = ranges
            .into_iter()
            .filter(|&(address, length)| {
                length > 0
                    && address >= base
                    && address - base + length <= self.shared.space.length()
            })
            .flat_map(|(address, length)| {
                let first = (address - base) / chunk_bytes;
                let last = (address - base + length - 1) / chunk_bytes;
                first as u32..last as u32 + 1
            })
            .collect();
        chunks.dedup();
        chunks
    }

    fn announce_chunks(&self, chunks: Vec<u32>) {
        self.shared.commands.push(Command::Announce(chunks));
        self.shared.space.ring();
    }

    /// Changes the budget to `memory` bytes while passes run; returns when it holds.
    ///
    /// # Errors
    /// A budget that is too small (names the least), or a closed stream.
    pub fn resize(&self, memory: u64) -> Result<(), StreamError> {
        let chunk_bytes = self.shared.layout.chunk_bytes() as u64;
        let slots = budget::slots(memory, chunk_bytes, self.shared.stats().buffers)?;
        let slots = slots.min(self.shared.layout.chunks() as usize);
        self.ask(|done| Command::Resize {
            slots,
            memory,
            done,
        })
    }

    /// Bytes of memory allowed for weights.
    pub fn memory(&self) -> u64 {
        self.shared.stats().budget
    }

    /// The least memory in bytes that this stream works in.
    pub fn least(&self) -> u64 {
        self.shared.stats().least
    }

    /// Memory in bytes beyond which more is of no use.
    pub(crate) fn most(&self) -> u64 {
        let layout = &self.shared.layout;
        let used = (0..layout.chunks()).filter(|&chunk| layout.is_used(chunk));
        used.count() as u64 * layout.chunk_bytes() as u64 + self.shared.stats().buffers
    }

    /// Numbers that change while something is done with the weights, but for weights that are all in memory and used
    /// outside of blocks.
    pub(crate) fn done(&self) -> (u64, u64, u64) {
        let stats = self.shared.stats();
        (stats.passes, stats.faults, stats.bytes_read)
    }

    /// Whether a thread is inside a block.
    pub(crate) fn is_inside(&self) -> bool {
        self.shared.failures.anybody_inside()
    }

    /// What happened so far: all that the calling thread has seen is in it.
    pub fn stats(&self) -> Stats {
        // A stream that is closed, or not this process', has its last word in the counters already.
        let _ = self.ask(Command::Settle);
        self.shared.stats()
    }

    /// For each (address, length in bytes) range, how many of its bytes are in memory at this moment.
    pub fn resident(&self, ranges: impl IntoIterator<Item = (usize, usize)>) -> Vec<u64> {
        let (base, chunk_bytes) = (self.shared.space.base(), self.shared.layout.chunk_bytes());
        let of_range = |(address, length): (usize, usize)| {
            let Some(start) = address.checked_sub(base) else {
                return 0;
            };
            let end = (start + length).min(self.shared.space.length());
            (start / chunk_bytes..end.div_ceil(chunk_bytes))
                .filter(|&chunk| self.shared.space.is_resident(chunk as u32))
                .map(|chunk| end.min((chunk + 1) * chunk_bytes) - start.max(chunk * chunk_bytes))
                .map(|bytes| bytes as u64)
                .sum()
        };
        ranges.into_iter().map(of_range).collect()
    }

    /// Switches the recording of a timeline on or off, and returns what was recorded.
    ///
    /// # Errors
    /// The stream is closed.
    pub fn record(&self, on: bool) -> Result<Vec<Record>, StreamError> {
        self.ask(|taken| Command::Record(on, taken))
    }

    /// Asks the pager and waits for its answer.
    fn ask<T>(&self, command: impl FnOnce(Sender<T>) -> Command) -> Result<T, StreamError> {
        self.usable()?;
        let (sender, answer): (Sender<T>, Receiver<T>) = channel();
        self.shared.commands.push(command(sender));
        self.shared.space.ring();
        loop {
            match answer.recv_timeout(Duration::from_millis(100)) {
                Ok(answer) => return Ok(answer),
                // A question that came after the pager's last look is never answered.
                Err(RecvTimeoutError::Timeout) if self.usable().is_ok() => {}
                Err(_) => return Err(self.usable().err().unwrap_or(StreamError::Closed)),
            }
        }
    }

    fn usable(&self) -> Result<(), StreamError> {
        if self.is_closed() {
            return Err(StreamError::Closed);
        }
        self.own()?;
        self.served()
    }

    fn own(&self) -> Result<(), StreamError> {
        match std::process::id() == self.owner {
            true => Ok(()),
            false => Err(StreamError::Forked),
        }
    }

    /// Whether all that was touched up to now were the weights: once the pager has ended, it may have been a substitute.
    fn served(&self) -> Result<(), StreamError> {
        match self.shared.ended.load(Ordering::SeqCst) {
            false => Ok(()),
            true if self.is_closed() => Err(StreamError::Closed),
            true => Err(StreamError::Ended),
        }
    }

    /// Whether [`close`](Self::close) was called.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Ends all reading and gives the memory back. Nobody enters a block any more; threads that are inside one, but for
    /// the calling one, may leave it within two seconds. Who is still there then, or uses a weight later, goes on with
    /// substitutes and gets the error at the end of its block. Returns when the memory is given back; at once where the
    /// calling thread is inside a block and another one is closing already.
    pub fn close(&self) {
        let first = !self.closed.swap(true, Ordering::AcqRel);
        // A child of fork has neither the pager nor the pages, only their numbers.
        if std::process::id() != self.owner {
            return;
        }
        let me = current_thread();
        if !first && self.shared.failures.is_inside(me) {
            return;
        }
        let mut pager = self.pager.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = pager.take() {
            let since = Instant::now();
            while self.shared.failures.others_inside(me) && since.elapsed() < PATIENCE {
                std::thread::sleep(LOOK);
            }
            self.end(thread);
        }
    }

    fn end(&self, pager: JoinHandle<()>) {
        self.shared.commands.push(Command::Close);
        self.shared.space.ring();
        // The pager ends its source first, so nothing writes to a slot after this.
        if pager.join().is_err() {
            log::error!("the reading thread panicked");
        }
        for chunk in 0..self.shared.layout.chunks() {
            if let Err(error) = self.shared.space.withdraw(chunk) {
                log::error!("chunk {chunk} can't be withdrawn: {error}");
            }
        }
        self.shared.space.release_all();
        let mut stats = self
            .shared
            .stats
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        stats.used = 0;
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.close();
    }
}

/// The parameters' names by their first address.
fn names(layout: &Layout) -> Vec<(u64, String)> {
    let parameters = layout.parameters().iter().enumerate();
    let mut names: Vec<_> = parameters
        .map(|(index, parameter)| (layout.address(index), parameter.name.clone()))
        .collect();
    names.sort();
    names
}

pub(crate) fn plain_content(path: &PathBuf) -> Result<Content, StreamError> {
    std::fs::metadata(path)
        .map(|metadata| Content::plain(path.clone(), metadata.len()))
        .map_err(|cause| StreamError::File {
            path: path.display().to_string(),
            cause,
        })
}

fn current_thread() -> u32 {
    weightstream_memory::current_thread()
}
