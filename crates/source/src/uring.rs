//! io_uring: one ring and one thread that owns it.
//!
//! Callers hand their reads to the thread through an inbox. Submitting to the ring from their own
//! threads would tie each read to the thread that began it: the kernel ends a read in the context
//! of its submitter, so it interrupts computation (and its `epoll_wait`, with EINTR), and cancels
//! the read where that thread exits. A ring with a single issuer also completes at less cost.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;

use io_uring::{IoUring, Probe, opcode, squeue, types};

use crate::aligned::{AlignedBuffer, BOUNCE};
use crate::error::{OpenError, ReadErrorKind};
use crate::file::Files;
use crate::read::{Call, Job, Next, Read, plan};
use crate::request::{OnCompletion, Request};
use crate::{Backend, DEPTH, Source, lock};

/// Reads in flight at most; the others wait. Twice as many entries never overflow a queue.
const SLOTS: usize = 64;

/// Bounce buffers of full size; reads that find none free wait.
const LARGE_BUFFERS: usize = 8;

/// Bytes of a small bounce buffer, for the edges of pieces.
const SMALL_BUFFER: usize = 64 << 10;

/// The wake-up's mark among completions; those of reads carry the index of their slot.
const WAKE: u64 = u64::MAX;

pub(crate) struct Uring {
    files: Arc<Files>,
    on_completion: OnCompletion,
    inbox: Arc<Inbox>,
    thread: Option<JoinHandle<()>>,
}

impl Uring {
    /// Fails where the kernel does not have or does not permit io_uring.
    pub(crate) fn start(files: Arc<Files>, on_completion: OnCompletion) -> Result<Self, OpenError> {
        let unavailable = |reason| OpenError::Unavailable {
            backend: Backend::Uring,
            reason,
        };
        let inbox =
            Arc::new(Inbox::new().map_err(|error| unavailable(format!("eventfd: {error}")))?);
        let (report, reported) = mpsc::channel();
        let (own_files, own_inbox) = (Arc::clone(&files), Arc::clone(&inbox));
        // The thread that creates a ring is its single issuer.
        let thread = crate::spawn(move || match open_ring(&own_files) {
            Ok(ring) => {
                drop(report.send(Ok(())));
                Engine::new(ring, own_inbox).run();
            }
            Err(reason) => drop(report.send(Err(reason))),
        })?;
        let source = Self {
            files,
            on_completion,
            inbox,
            thread: Some(thread),
        };
        match reported.recv() {
            Ok(Ok(())) => Ok(source),
            Ok(Err(reason)) => Err(unavailable(reason)),
            Err(_) => Err(unavailable("its thread ended".into())),
        }
    }
}

impl Source for Uring {
    fn submit(&self, request: Request) {
        self.inbox
            .push(plan(&request, &self.files, &self.on_completion));
    }

    fn depth(&self) -> usize {
        DEPTH
    }

    fn name(&self) -> &'static str {
        if self.files.any_direct() {
            "io_uring direct"
        } else {
            "io_uring buffered"
        }
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        self.inbox.close();
        self.thread.take().into_iter().for_each(crate::join);
    }
}

/// Jobs on their way to the thread.
struct Inbox {
    jobs: Mutex<VecDeque<Job>>,
    closed: AtomicBool,
    wake: OwnedFd,
}

impl Inbox {
    fn new() -> io::Result<Self> {
        // SAFETY: no arguments to get wrong.
        let wake = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if wake == -1 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a new descriptor that nobody else owns.
        let wake = unsafe { OwnedFd::from_raw_fd(wake) };
        Ok(Self {
            jobs: Mutex::default(),
            closed: AtomicBool::new(false),
            wake,
        })
    }

    fn push(&self, new: Vec<Job>) {
        let was_empty = {
            let mut jobs = lock(&self.jobs);
            let was_empty = jobs.is_empty();
            jobs.extend(new);
            was_empty
        };
        // Otherwise the thread has been woken, or will look once reads complete.
        if was_empty {
            self.wake();
        }
    }

    fn take(&self) -> Option<Job> {
        lock(&self.jobs).pop_front()
    }

    /// Abandons the jobs that wait.
    fn close(&self) {
        self.closed.store(true, Ordering::Release);
        let abandoned = std::mem::take(&mut *lock(&self.jobs));
        self.wake();
        drop(abandoned);
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn wake(&self) {
        let one = 1_u64;
        // SAFETY: writes the 8 bytes of `one`.
        unsafe { libc::write(self.wake.as_raw_fd(), (&raw const one).cast(), 8) };
    }

    fn clear_wake(&self) {
        let mut count = 0_u64;
        // SAFETY: reads 8 bytes into `count`.
        unsafe { libc::read(self.wake.as_raw_fd(), (&raw mut count).cast(), 8) };
    }
}

/// Carries out jobs on the ring. Dropping it waits for the reads in flight, so that the kernel never
/// writes to memory that was given back.
struct Engine {
    ring: IoUring,
    inbox: Arc<Inbox>,
    slots: Vec<Option<Slot>>,
    free: Vec<usize>,
    buffers: Buffers,
    /// The first job in line, where it waits for a bounce buffer.
    held: Option<Read>,
    awaits_wake: bool,
}

/// A read in flight.
struct Slot {
    read: Read,
    buffer: Option<AlignedBuffer>,
}

impl Engine {
    fn new(ring: IoUring, inbox: Arc<Inbox>) -> Self {
        Self {
            ring,
            inbox,
            slots: (0..SLOTS).map(|_| None).collect(),
            free: (0..SLOTS).rev().collect(),
            buffers: Buffers::default(),
            held: None,
            awaits_wake: false,
        }
    }

    fn run(mut self) {
        while !self.inbox.is_closed() {
            self.await_wake();
            self.begin_reads();
            self.wait();
            self.reap();
        }
    }

    fn await_wake(&mut self) {
        if !self.awaits_wake {
            let wake = types::Fd(self.inbox.wake.as_raw_fd());
            let entry = opcode::PollAdd::new(wake, libc::POLLIN as u32)
                .build()
                .user_data(WAKE);
            // SAFETY: the inbox outlives the ring; polling touches no memory.
            self.awaits_wake = unsafe { self.ring.submission().push(&entry) }.is_ok();
        }
    }

    fn begin_reads(&mut self) {
        while let Some(index) = self.free.last().copied() {
            let read = match self.held.take() {
                Some(read) => read,
                None => match self.inbox.take() {
                    Some(Job::Read(read)) => read,
                    Some(Job::Settle(_)) => continue,
                    None => return,
                },
            };
            let buffer = match self.buffers.take(read.bounce()) {
                Take::Unneeded => None,
                Take::Buffer(buffer) => Some(buffer),
                Take::Later => {
                    self.held = Some(read);
                    return;
                }
                Take::OutOfMemory { bytes } => {
                    let mut read = read;
                    read.fail(ReadErrorKind::OutOfMemory { bytes });
                    continue;
                }
            };
            self.free.pop();
            self.call(index, Slot { read, buffer });
        }
    }

    /// Queues the next call of a read.
    fn call(&mut self, index: usize, mut slot: Slot) {
        let start = slot
            .buffer
            .as_mut()
            .map_or(std::ptr::null_mut(), AlignedBuffer::start);
        let entry = entry(&slot.read.call(start)).user_data(index as u64);
        // SAFETY: the memory is the piece's destination, writable until its request completes, or a
        // bounce buffer that the extent fits. The slot keeps the request, the file and the buffer
        // until the call's completion was reaped.
        if unsafe { self.ring.submission().push(&entry) }.is_err() {
            slot.read
                .fail(io::Error::from(io::ErrorKind::QuotaExceeded).into());
            self.release(index, slot);
        } else if let Some(place) = self.slots.get_mut(index) {
            *place = Some(slot);
        }
    }

    fn release(&mut self, index: usize, slot: Slot) {
        self.buffers.give_back(slot.buffer);
        self.free.push(index);
    }

    /// Hands over what is queued and waits for a completion.
    fn wait(&self) {
        match self.ring.submit_and_wait(1) {
            Ok(_) => {}
            Err(error) if is_passing(&error) => {}
            Err(error) => {
                log::error!("io_uring: {error}");
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        }
    }

    fn reap(&mut self) {
        while let Some(entry) = self.next_completion() {
            if entry.user_data() == WAKE {
                self.awaits_wake = false;
                self.inbox.clear_wake();
                continue;
            }
            let index = entry.user_data() as usize;
            let Some(mut slot) = self.slots.get_mut(index).and_then(Option::take) else {
                continue;
            };
            match slot
                .read
                .advance(outcome(entry.result()), slot.buffer.as_ref())
            {
                Next::Call => self.call(index, slot),
                Next::Nothing => self.release(index, slot),
            }
        }
    }

    fn next_completion(&mut self) -> Option<io_uring::cqueue::Entry> {
        self.ring.completion().next()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        while self.slots.iter().any(Option::is_some) {
            self.wait();
            self.reap();
        }
    }
}

/// A ring that has read something.
fn open_ring(files: &Files) -> Result<IoUring, String> {
    let mut ring = new_ring().map_err(|error| format!("io_uring_setup: {error}"))?;
    let mut probe = Probe::new();
    let registered = ring.submitter().register_probe(&mut probe);
    registered.map_err(|error| format!("its operations are not known: {error}"))?;
    if !probe.is_supported(opcode::Read::CODE) {
        return Err("it has no read operation".into());
    }
    let Some(file) = files.get(0) else {
        return Ok(ring);
    };
    loop {
        let direct = file.is_direct();
        let length = file.alignment().map_or(1, |alignment| alignment.offset);
        let mut buffer = AlignedBuffer::new(length).ok_or("no memory for a first read")?;
        let opened = file.opened();
        let (descriptor, memory) = (opened.as_raw_fd(), buffer.start());
        match read_now(
            &mut ring,
            &Call {
                descriptor,
                offset: 0,
                length,
                memory,
            },
        ) {
            Ok(_) => return Ok(ring),
            Err(error) if direct && error.raw_os_error() == Some(libc::EINVAL) => {
                file.give_up_direct();
            }
            Err(error) => return Err(format!("a first read: {error}")),
        }
    }
}

/// With the cheapest flags that this kernel knows: those of Linux 6.1, of 5.19, none.
fn new_ring() -> io::Result<IoUring> {
    let entries = 2 * SLOTS as u32;
    let mut single_issuer = IoUring::builder();
    single_issuer
        .dontfork()
        .setup_single_issuer()
        .setup_defer_taskrun();
    let mut cooperative = IoUring::builder();
    cooperative.dontfork().setup_coop_taskrun();
    let mut plain = IoUring::builder();
    plain.dontfork();
    let refused = |error: &io::Error| error.raw_os_error() == Some(libc::EINVAL);
    match single_issuer.build(entries) {
        Err(error) if refused(&error) => match cooperative.build(entries) {
            Err(error) if refused(&error) => plain.build(entries),
            other => other,
        },
        other => other,
    }
}

/// Makes a call on a ring with nothing else in flight, and waits for it.
fn read_now(ring: &mut IoUring, call: &Call) -> io::Result<usize> {
    // SAFETY: the caller's buffer has `length` bytes, and this waits until the call is over. Where
    // waiting fails nothing was submitted.
    unsafe { ring.submission().push(&entry(call)) }.map_err(io::Error::other)?;
    loop {
        match ring.submit_and_wait(1) {
            Ok(_) => {}
            Err(error) if is_passing(&error) => {}
            Err(error) => return Err(error),
        }
        if let Some(entry) = ring.completion().next() {
            return outcome(entry.result());
        }
    }
}

fn entry(call: &Call) -> squeue::Entry {
    // No call is longer than an extent's 16 MiB.
    opcode::Read::new(types::Fd(call.descriptor), call.memory, call.length as u32)
        .offset(call.offset)
        .build()
}

fn outcome(result: i32) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result))
}

/// Whether entering the ring may simply be tried again.
fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINTR | libc::EAGAIN | libc::EBUSY)
    )
}

/// Bounce buffers, made when first needed and kept.
#[derive(Default)]
struct Buffers {
    small: Vec<AlignedBuffer>,
    /// `None` until the first is needed.
    large: Option<Vec<AlignedBuffer>>,
}

enum Take {
    Unneeded,
    Buffer(AlignedBuffer),
    Later,
    OutOfMemory { bytes: usize },
}

impl Buffers {
    fn take(&mut self, bytes: Option<usize>) -> Take {
        let Some(bytes) = bytes else {
            return Take::Unneeded;
        };
        if bytes <= SMALL_BUFFER {
            let buffer = self
                .small
                .pop()
                .or_else(|| AlignedBuffer::new(SMALL_BUFFER));
            return buffer.map_or(
                Take::OutOfMemory {
                    bytes: SMALL_BUFFER,
                },
                Take::Buffer,
            );
        }
        if self.large.is_none() {
            self.large = AlignedBuffer::several(LARGE_BUFFERS, BOUNCE);
        }
        match &mut self.large {
            Some(large) => large.pop().map_or(Take::Later, Take::Buffer),
            None => Take::OutOfMemory {
                bytes: LARGE_BUFFERS * BOUNCE,
            },
        }
    }

    fn give_back(&mut self, buffer: Option<AlignedBuffer>) {
        match (buffer, &mut self.large) {
            (Some(buffer), Some(large)) if buffer.length() > SMALL_BUFFER => large.push(buffer),
            (Some(buffer), _) => self.small.push(buffer),
            (None, _) => {}
        }
    }
}
