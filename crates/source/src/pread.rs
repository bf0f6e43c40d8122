//! A pool of threads that each read one range at a time: works everywhere.

use std::io;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crate::aligned::{AlignedBuffer, BOUNCE};
use crate::error::{OpenError, ReadErrorKind};
use crate::file::Files;
use crate::queue::Queue;
use crate::read::{Call, Job, Next, Read, plan};
use crate::request::{OnCompletion, Request};
use crate::{DEPTH, Source, lock};

/// Threads, each with one read in flight.
const THREADS: usize = 8;

pub(crate) struct Pool {
    files: Arc<Files>,
    on_completion: OnCompletion,
    queue: Arc<Queue>,
    threads: Vec<JoinHandle<()>>,
}

impl Pool {
    pub(crate) fn start(files: Arc<Files>, on_completion: OnCompletion) -> Result<Self, OpenError> {
        let queue = Arc::<Queue>::default();
        let mut pool = Self {
            files,
            on_completion,
            queue,
            threads: Vec::new(),
        };
        let buffers = Arc::<Buffers>::default();
        for _ in 0..THREADS {
            let (queue, buffers) = (Arc::clone(&pool.queue), Arc::clone(&buffers));
            let thread = crate::spawn(move || work(&queue, &buffers))?;
            pool.threads.push(thread);
        }
        Ok(pool)
    }
}

impl Source for Pool {
    fn submit(&self, request: Request) {
        self.queue
            .push(plan(&request, &self.files, &self.on_completion));
    }

    fn depth(&self) -> usize {
        DEPTH
    }

    fn name(&self) -> &'static str {
        if self.files.any_direct() {
            "pread direct"
        } else {
            "pread buffered"
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.queue.close();
        self.threads.drain(..).for_each(crate::join);
    }
}

/// A bounce buffer for each thread, made when the first needs one. A thread keeps what it took.
type Buffers = Mutex<Option<Vec<AlignedBuffer>>>;

fn work(queue: &Queue, buffers: &Buffers) {
    let mut bounce = None;
    while let Some(job) = queue.take() {
        if let Job::Read(mut read) = job {
            if read.bounce().is_some() && bounce.is_none() {
                bounce = take(buffers);
            }
            carry_out(&mut read, bounce.as_mut());
        }
    }
}

fn take(buffers: &Buffers) -> Option<AlignedBuffer> {
    let mut buffers = lock(buffers);
    if buffers.is_none() {
        *buffers = AlignedBuffer::several(THREADS, BOUNCE);
    }
    buffers.as_mut()?.pop()
}

fn carry_out(read: &mut Read, mut bounce: Option<&mut AlignedBuffer>) {
    if read.bounce().is_some() && bounce.is_none() {
        read.fail(ReadErrorKind::OutOfMemory {
            bytes: THREADS * BOUNCE,
        });
        return;
    }
    loop {
        let start = bounce
            .as_mut()
            .map_or(std::ptr::null_mut(), |buffer| buffer.start());
        let result = pread(&read.call(start));
        if read.advance(result, bounce.as_deref()) == Next::Nothing {
            return;
        }
    }
}

fn pread(call: &Call) -> io::Result<usize> {
    // SAFETY: the memory is the piece's destination, writable until its request completes, or the
    // bounce buffer, which no extent exceeds; the read keeps both the request and the file.
    let count = unsafe {
        libc::pread(
            call.descriptor,
            call.memory.cast(),
            call.length,
            call.offset as libc::off_t,
        )
    };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}
