//! Reads byte ranges of files into memory that the caller gives: as fast as the disk allows, past
//! the page cache, without copies.
//!
//! A [`Source`] takes [`Request`]s and never blocks for their data; each completes once, through
//! the function that was given to [`open`]. It knows nothing of tensors, chunks or policy.
//!
//! [`throttle`] and [`fault`] are doubles: they wrap a source for tests and benchmarks.
//!
//! ```
//! use std::sync::{Arc, mpsc};
//! use weightstream_source::{Destination, Piece, Request, open};
//!
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("weights");
//! # std::fs::write(&path, [7; 100])?;
//! let (sender, completions) = mpsc::channel();
//! let source = open(&[path], Arc::new(move |completion| drop(sender.send(completion))))?;
//!
//! let mut memory = [0_u8; 10];
//! // SAFETY: `memory` outlives the request and nobody looks at it before the completion.
//! let destination = unsafe { Destination::new(memory.as_mut_ptr()) };
//! let piece = Piece { file: 0, offset: 50, destination, length: 10, room: 10 };
//! source.submit(Request { token: 1, pieces: vec![piece] });
//!
//! completions.recv()?.result?;
//! assert_eq!(memory, [7; 10]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod aligned;
mod delivery;
mod error;
mod extent;
pub mod fault;
mod file;
mod identity;
mod pread;
mod queue;
mod read;
mod regular_file;
mod request;
pub mod sweep;
pub mod throttle;
mod urgency;
#[cfg(target_os = "linux")]
mod uring;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

pub use aligned::AlignedBuffer;
pub use error::{OpenError, ReadError, ReadErrorKind};
pub use identity::{Identity, Stamp};
pub use regular_file::{FileError, open_regular, read_small};
pub use request::{Completion, Destination, OnCompletion, Piece, Request};
pub use urgency::raise_urgency;

use file::Files;
pub use file::drop_cached as drop_from_page_cache;

/// Where bytes come from.
///
/// Dropping a source waits for the reads that have begun and joins its threads. Requests that had
/// not begun complete with [`ReadErrorKind::Abandoned`].
pub trait Source: Send + Sync {
    /// Starts a request; never blocks for the data. Its completion comes through the function
    /// given at open, from any thread but never from within this call.
    fn submit(&self, request: Request);

    /// How many requests of a few MiB in flight keep this source busy.
    fn depth(&self) -> usize;

    /// How it reads, for reports: "io_uring direct", "pread buffered", ...
    fn name(&self) -> &'static str;
}

/// The system interface that reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// io_uring; Linux 5.6 and later, where it is permitted.
    Uring,
    /// A pool of threads that call `pread`; everywhere.
    Pread,
}

/// Whether reads go through the page cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caching {
    /// Past the page cache. A file whose file system refuses is read `Buffered`.
    Direct,
    /// Through the page cache, from which each range is dropped once read.
    Buffered,
}

/// Requests in flight that keep a disk busy. A probe at open would have nothing to choose: with
/// 4 MiB requests, 1 to 16 in flight read at the same speed to within a virtio disk's noise and the
/// processor time per byte falls up to 8 (`examples/throughput.rs`); SSDs and phones' flash
/// saturate at 2 to 8.
const DEPTH: usize = 8;

/// Opens `files` for reading with the best backend that works here.
///
/// # Errors
/// Names the file that can't be opened.
pub fn open(files: &[PathBuf], on_completion: OnCompletion) -> Result<Box<dyn Source>, OpenError> {
    let files = Arc::new(Files::open(files, Caching::Direct)?);
    match open_files(
        Arc::clone(&files),
        Backend::Uring,
        Arc::clone(&on_completion),
    ) {
        Ok(source) if files.any_direct() => return Ok(source),
        // A ring has one thread, which copies from the page cache at half the speed of a pool.
        Ok(_) => log::debug!("reading through the page cache with a pool of threads"),
        Err(reason) => log::debug!("reading with a pool of threads: {reason}"),
    }
    open_files(files, Backend::Pread, on_completion)
}

/// Opens `files` with one certain backend, for tests and diagnosis.
///
/// # Errors
/// Names the file that can't be opened, or why the backend does not work here.
pub fn open_with(
    files: &[PathBuf],
    backend: Backend,
    caching: Caching,
    on_completion: OnCompletion,
) -> Result<Box<dyn Source>, OpenError> {
    open_files(
        Arc::new(Files::open(files, caching)?),
        backend,
        on_completion,
    )
}

fn open_files(
    files: Arc<Files>,
    backend: Backend,
    on_completion: OnCompletion,
) -> Result<Box<dyn Source>, OpenError> {
    match backend {
        #[cfg(target_os = "linux")]
        Backend::Uring => Ok(Box::new(uring::Uring::start(files, on_completion)?)),
        #[cfg(not(target_os = "linux"))]
        Backend::Uring => Err(OpenError::Unavailable {
            backend,
            reason: "it exists on Linux only".into(),
        }),
        Backend::Pread => Ok(Box::new(pread::Pool::start(files, on_completion)?)),
    }
}

/// Locks; a panic elsewhere does not make the data behind these locks wrong.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn spawn(work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, OpenError> {
    let thread = std::thread::Builder::new()
        .name("weightstream-io".into())
        .stack_size(256 << 10);
    let urgent = move || {
        raise_urgency();
        work();
    };
    thread.spawn(urgent).map_err(OpenError::Thread)
}

/// Joins, unless the thread is this one: a completion may drop the last handle to its source.
fn join(thread: JoinHandle<()>) {
    if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
        log::error!("a reading thread panicked");
    }
}
