//! The face of a model's weights on a device.

use crate::cuda::core::{Core, Pass};
use crate::cuda::decoding::Decoder;
use crate::cuda::feed::Feed;
use crate::cuda::fit::{Budgets, HostForm, fit, outside};
use crate::cuda::pager::{self, Shared};
use crate::error::StreamError;
use crate::recorder::{Record, RecordKind};
use crate::stats::Stats;
use crate::stream::{OpenSource, plain_content};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use weightstream_checkpoint::{BlockLayout, Content, Parameter};
use weightstream_memory::cuda::{
    CopyQueue, CudaError, DevicePool, Driver, PinnedPool, Reservation, StreamHandle,
};
use weightstream_memory::current_thread;
use weightstream_source::OnCompletion;

/// How long closing waits for callers that are inside a block.
const PATIENCE: Duration = Duration::from_secs(10);

/// How a stream to a device is opened.
pub struct DeviceOptions {
    /// The device.
    pub driver: Arc<dyn Driver>,
    /// Bytes of device memory for weights.
    pub memory: u64,
    /// Bytes of pinned host memory, at most.
    pub host_memory: u64,
    /// Bytes of one chunk, a multiple of the device's granularity; None lets the budget decide.
    pub chunk_bytes: Option<u64>,
    /// Where bytes come from; None reads the files directly.
    pub source: Option<OpenSource>,
}

/// What is particular to a device, beside [`Stats`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeviceStats {
    /// Bytes of pinned host memory allowed.
    pub host_budget: u64,
    /// Bytes of pinned host memory held.
    pub host_used: u64,
    /// Whether what the device doesn't keep fits the host: nothing is then read from disk twice.
    pub host_holds_all: bool,
    /// Bytes copied to the device.
    pub copied_bytes: u64,
    /// Bytes copied during the last complete pass.
    pub pass_copied_bytes: u64,
    /// Bytes of device memory held.
    pub held: u64,
}

/// The right to use chunks, until it is given back with [`DeviceStream::leave`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ticket(pub u64);

/// The weights of one model at fixed device addresses, behind a pool of limited size.
///
/// Nothing lies at a weight's address but between [`enter`](Self::enter) and [`leave`](Self::leave) of a block that
/// it belongs to, or where it stays for good. The addresses stay reserved until everything that
/// [`reservation`](Self::reservation) was given to is gone.
pub struct DeviceStream {
    shared: Arc<Shared>,
    reservation: Arc<Reservation>,
    layout: Arc<BlockLayout>,
    host: Arc<PinnedPool>,
    host_budget: u64,
    always: Vec<u32>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    name: &'static str,
    pass_copied: Mutex<u64>,
    owner: u32,
}

impl DeviceStream {
    /// Lays `parameters` out, block by block, and begins to fill host and device. `blocks` names the members of block
    /// 1, 2, ... by index; members of none stay on the device for good.
    ///
    /// # Errors
    /// A budget that is too small (names the least), files that can't be opened, a device that refuses.
    pub fn open(
        files: &[PathBuf],
        parameters: Vec<Parameter>,
        blocks: &[Vec<usize>],
        options: DeviceOptions,
    ) -> Result<Self, StreamError> {
        let contents = files.iter().map(plain_content);
        Self::over(
            &contents.collect::<Result<Vec<_>, _>>()?,
            parameters,
            blocks,
            options,
        )
    }

    /// As [`open`](Self::open), over `contents` of any form; what is coded is decoded on its way into host memory.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn over(
        contents: &[Content],
        parameters: Vec<Parameter>,
        blocks: &[Vec<usize>],
        options: DeviceOptions,
    ) -> Result<Self, StreamError> {
        let opened = Instant::now();
        let driver = options.driver;
        let budgets = Budgets {
            memory: options.memory,
            host_memory: options.host_memory,
            chunk_bytes: options.chunk_bytes,
        };
        let fitted = fit(contents, &parameters, blocks, &*driver, &budgets)?;
        let layout = fitted.layout;
        let chunk_bytes = layout.chunk_bytes();
        let chunk_size = usize::try_from(chunk_bytes).unwrap_or(usize::MAX);
        let pool = DevicePool::new(
            Arc::clone(&driver),
            layout.chunks(),
            chunk_size,
            fitted.slots,
        )?;
        let copies = CopyQueue::new(Arc::clone(&driver))?;
        let decoder = match &fitted.form {
            HostForm::Stored(_) => Some(Decoder::new(Arc::clone(&driver), fitted.slot_bytes)?),
            _ => None,
        };
        let host = Arc::new(PinnedPool::new(driver, fitted.slot_bytes));
        let stats = Stats {
            budget: options.memory,
            model_bytes: layout.weight_bytes(),
            chunk_bytes,
            least: fitted.least,
            ..Stats::default()
        };

        // The source lives inside what is shared, and is there before it.
        let receiver: Arc<OnceLock<Weak<Shared>>> = Arc::default();
        let told = Arc::clone(&receiver);
        let on_completion: OnCompletion = Arc::new(move |completion| {
            if let Some(shared) = told.get().and_then(Weak::upgrade) {
                shared.completions.push(completion);
                shared.ring();
            }
        });
        let feed = Feed::open(
            contents,
            fitted.form,
            chunk_size,
            &host,
            options.source,
            on_completion,
        )?;
        let name = feed.name();
        let always = layout.chunks_of(&outside(blocks, layout.parameters().len()));
        let layout = Arc::new(layout);
        let reservation = Arc::clone(pool.reservation());
        let core = Core::new(
            Arc::clone(&layout),
            Arc::clone(&host),
            fitted.tiers,
            pool,
            copies,
            feed,
            decoder,
            stats,
            opened,
        );
        let shared = Arc::new(Shared::new(core));
        let _ = receiver.set(Arc::downgrade(&shared));
        let stream = Self {
            shared: Arc::clone(&shared),
            reservation,
            layout,
            host: Arc::clone(&host),
            host_budget: options.host_memory,
            always,
            threads: Mutex::default(),
            name,
            pass_copied: Mutex::default(),
            owner: std::process::id(),
        };
        let serving = Arc::clone(&shared);
        stream.spawn("weightstream", move || pager::run(&serving))?;
        stream.spawn("weightstream-pin", move || {
            pager::pin(&shared, &host, fitted.host_slots);
        })?;
        Ok(stream)
    }

    fn spawn(&self, name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), StreamError> {
        let thread = std::thread::Builder::new()
            .name(name.into())
            .spawn(work)
            .map_err(StreamError::Thread)?;
        self.threads
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(thread);
        Ok(())
    }

    /// The device address of parameter `index`.
    pub fn address(&self, index: usize) -> u64 {
        self.reservation.address() + self.layout.addresses(index).start
    }

    /// Bytes of parameter `index`.
    pub fn length(&self, index: usize) -> u64 {
        let range = self.layout.addresses(index);
        range.end - range.start
    }

    /// The addresses: they stay reserved for as long as anybody holds this.
    pub fn reservation(&self) -> &Arc<Reservation> {
        &self.reservation
    }

    /// How bytes are read: "io_uring direct", "pread buffered", ...
    pub fn source_name(&self) -> &'static str {
        self.name
    }

    /// The calling thread begins a pass (block 0).
    ///
    /// # Errors
    /// The stream is closed, or the device has failed.
    pub fn begin_pass(&self) -> Result<(), StreamError> {
        let mut core = self.usable()?;
        let pass = Pass {
            since: core.now(),
            bytes_before: core.stats.bytes_read,
            copied_before: core.copied_bytes,
            waited_before: core.stats.stall_ns,
        };
        core.stats.passes += 1;
        core.passes.insert(current_thread(), pass);
        Ok(())
    }

    /// The calling thread has ended its pass.
    pub fn end_pass(&self) {
        let mut core = self.shared.lock();
        if let Some(pass) = core.passes.remove(&current_thread()) {
            let now = core.now();
            core.stats.pass_bytes = core.stats.bytes_read - pass.bytes_before;
            core.stats.pass_ns = now - pass.since;
            core.stats.pass_stall_ns = core.stats.stall_ns - pass.waited_before;
            *self
                .pass_copied
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = core.copied_bytes - pass.copied_before;
        }
    }

    /// The calling thread is about to launch the work of a block into `stream`, which will wait for the block's
    /// weights. Returns when they all have their place, which is before they are there.
    ///
    /// # Errors
    /// A weight can't be read; the block doesn't fit beside what this thread holds; the stream is closed.
    pub fn enter(&self, block: u32, stream: StreamHandle) -> Result<Ticket, StreamError> {
        let mut core = self.usable()?;
        let ticket = core.tiers.enter(current_thread(), block);
        let chunks = core.tiers.chunks_of(block);
        self.serve(core, ticket, &chunks, stream)
    }

    /// Like [`enter`](Self::enter) for some parameters by index, as no part of a pass.
    ///
    /// # Errors
    /// As `enter`.
    pub fn hold(&self, parameters: &[usize], stream: StreamHandle) -> Result<Ticket, StreamError> {
        let chunks: Arc<[u32]> = self.layout.chunks_of(parameters).into();
        let mut core = self.usable()?;
        let ticket = core.tiers.ask(current_thread(), Arc::clone(&chunks));
        self.serve(core, ticket, &chunks, stream)
    }

    fn serve(
        &self,
        mut core: MutexGuard<'_, Core>,
        ticket: u64,
        chunks: &Arc<[u32]>,
        stream: StreamHandle,
    ) -> Result<Ticket, StreamError> {
        let since = core.now();
        core.changed = true;
        self.shared.ring();
        let refusal = loop {
            if core.tiers.is_served(ticket) {
                break None;
            }
            if let Some(error) = core.refused.remove(&ticket) {
                break Some(StreamError::Weight(error));
            }
            if let Some(small) = core.tiers.is_hopeless(ticket) {
                break Some(StreamError::Budget {
                    given: core.stats.budget,
                    least: small.least as u64 * core.stats.chunk_bytes,
                });
            }
            if let Some(error) = &core.broken {
                break Some(StreamError::Device(error.clone()));
            }
            if self.is_closed() {
                break Some(StreamError::Closed);
            }
            core = self.shared.wait(core);
        };
        let now = core.now();
        core.stats.stall_ns += now.saturating_sub(since);
        if let Some(error) = refusal {
            core.tiers.cancel(ticket);
            return Err(error);
        }
        let all = || self.always.iter().chain(chunks.iter()).copied();
        // A graph that is being captured can't wait for an event of outside: wait here instead.
        if core.driver.is_capturing(stream)? {
            while all().any(|chunk| core.tiers.is_copying(chunk)) && core.broken.is_none() {
                core = self.shared.wait(core);
            }
        } else if let Err(error) = core.await_copies(all(), stream) {
            core.tiers.leave(ticket, false);
            return Err(error.into());
        }
        Ok(Ticket(ticket))
    }

    /// The work that needed the ticket's weights is launched into `stream`; they stay until it is done.
    ///
    /// # Errors
    /// The device refuses to say when that is.
    pub fn leave(&self, ticket: Ticket, stream: StreamHandle) -> Result<(), StreamError> {
        let mut core = self.shared.lock();
        // Work that is only captured runs later, under a ticket of its own.
        let captured = core.driver.is_capturing(stream).unwrap_or(false);
        let marked = if captured {
            Ok(None)
        } else {
            core.copies.mark(stream).map(Some)
        };
        let chunks = core
            .tiers
            .leave(ticket.0, matches!(marked, Ok(Some(_)) | Err(_)));
        if let (Ok(Some(event)), Some(chunks)) = (&marked, chunks) {
            core.in_use(*event, chunks);
        }
        core.changed = true;
        drop(core);
        self.shared.ring();
        marked?;
        Ok(())
    }

    /// These parameters stay on the device from now on, and may be used outside of blocks, in any stream, once this
    /// has returned.
    ///
    /// # Errors
    /// They don't fit beside the largest block.
    pub fn keep(&self, parameters: &[usize], stream: StreamHandle) -> Result<(), StreamError> {
        let chunks = self.layout.chunks_of(parameters);
        {
            let mut core = self.usable()?;
            let (given, chunk_bytes) = (core.stats.budget, core.stats.chunk_bytes);
            core.tiers
                .keep(&chunks)
                .map_err(|small| StreamError::Budget {
                    given,
                    least: small.least as u64 * chunk_bytes,
                })?;
        }
        let ticket = self.hold(parameters, stream)?;
        let mut core = self.shared.lock();
        while chunks.iter().any(|&chunk| core.tiers.is_copying(chunk)) && core.broken.is_none() {
            core = self.shared.wait(core);
        }
        drop(core);
        self.leave(ticket, stream)
    }

    /// Changes the budget of device memory while passes run; returns when it holds.
    ///
    /// # Errors
    /// Too small (names the least), or more than the device has.
    pub fn resize(&self, memory: u64) -> Result<(), StreamError> {
        let mut core = self.usable()?;
        let chunk_bytes = core.stats.chunk_bytes;
        let slots = usize::try_from(memory / chunk_bytes)
            .unwrap_or(usize::MAX)
            .min(self.layout.chunks() as usize);
        for slot in core.tiers.slots_to_hold(slots) {
            core.pool.hold(slot)?;
        }
        core.tiers
            .resize(slots)
            .map_err(|small| StreamError::Budget {
                given: memory,
                least: small.least as u64 * chunk_bytes,
            })?;
        core.stats.budget = memory;
        core.changed = true;
        self.shared.ring();
        while !core.tiers.fits() && core.broken.is_none() && !self.is_closed() {
            core = self.shared.wait(core);
        }
        Ok(())
    }

    /// What happened so far.
    pub fn stats(&self) -> (Stats, DeviceStats) {
        let core = self.shared.lock();
        let device = DeviceStats {
            host_budget: self.host_budget,
            host_used: (self.host.slots() * self.host.slot_bytes()) as u64,
            host_holds_all: core.tiers.host_holds_all(),
            copied_bytes: core.copied_bytes,
            pass_copied_bytes: *self
                .pass_copied
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
            held: (core.pool.held() + core.decoder.as_ref().map_or(0, Decoder::held)) as u64,
        };
        (core.counted(), device)
    }

    /// Switches the recording of a timeline on or off, and returns what was recorded.
    pub fn record(&self, on: bool) -> Vec<Record> {
        self.shared.lock().recorder.switch(on)
    }

    /// Adds a block to the recording: from then, in nanoseconds as the recording has them, until now.
    pub fn record_block(&self, block: u32, start_ns: u64) {
        let mut core = self.shared.lock();
        let end_ns = core.now();
        core.recorder.add(|| Record {
            kind: RecordKind::Block,
            start_ns,
            end_ns,
            subject: block,
            thread: current_thread(),
        });
    }

    fn usable(&self) -> Result<MutexGuard<'_, Core>, StreamError> {
        if self.is_closed() {
            return Err(StreamError::Closed);
        }
        if std::process::id() != self.owner {
            return Err(StreamError::Forked);
        }
        let core = self.shared.lock();
        match &core.broken {
            Some(error) => Err(StreamError::Device(error.clone())),
            None => Ok(core),
        }
    }

    /// Whether [`close`](Self::close) was called.
    pub fn is_closed(&self) -> bool {
        self.shared.closing.load(Ordering::Acquire)
    }

    /// Ends all reading and copying, and gives host and device memory back; the addresses stay reserved. Waits for
    /// callers that are inside a block and for the device to be done with what they launched. Doing it twice is fine.
    pub fn close(&self) {
        if self.shared.closing.swap(true, Ordering::AcqRel) {
            return;
        }
        // A child of fork has neither the threads nor the device.
        if std::process::id() != self.owner {
            return;
        }
        self.shared.ring();
        self.shared.news.notify_all();
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            if thread.join().is_err() {
                log::error!("a streaming thread panicked");
            }
        }
        // Ends the reads: nothing writes to host memory after this.
        let feed = self.shared.lock().feed.take();
        drop(feed);
        if let Err(error) = self.settle() {
            // Memory that the device may still use is better lost than given to somebody else.
            log::error!("device memory is not given back: {error}");
            return;
        }
        let mut core = self.shared.lock();
        core.pool.clear();
        if let Some(decoder) = &mut core.decoder {
            decoder.clear();
        }
        // SAFETY: reads have ended with the source, copies were waited for.
        unsafe { self.host.clear() };
        core.stats.used = 0;
    }

    /// Waits until neither a caller nor the device uses anything.
    fn settle(&self) -> Result<(), CudaError> {
        let deadline = Instant::now() + PATIENCE;
        let (driver, stream) = {
            let core = self.shared.lock();
            (Arc::clone(&core.driver), core.copies.stream())
        };
        driver.synchronize(stream)?;
        loop {
            let mut core = self.shared.lock();
            core.poll()?;
            if !core.is_busy() && !core.tiers.is_held() {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(CudaError::Rule {
                    what: "it was closed by a caller inside a block".into(),
                });
            }
            drop(core);
            std::thread::sleep(Duration::from_micros(100));
        }
    }
}

impl Drop for DeviceStream {
    fn drop(&mut self) {
        self.close();
    }
}
