//! What is asked for, and what comes back.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use crate::error::ReadError;
use crate::lock;

/// The start of memory that takes bytes read.
#[derive(Debug, Clone, Copy)]
pub struct Destination(*mut u8);

// SAFETY: by the contract of `new`, the memory belongs to the request alone until it completes,
// whichever thread carries it out.
unsafe impl Send for Destination {}

impl Destination {
    /// Memory that starts at `start`.
    ///
    /// # Safety
    /// From the submission of a request with this destination until its completion was delivered,
    /// the [`Piece::room`] bytes (or [`Piece::length`], if greater) from `start` on are valid for
    /// writes and nothing else accesses them.
    pub unsafe fn new(start: *mut u8) -> Self {
        Self(start)
    }

    /// The address `bytes` after the start; not necessarily one that may be written.
    pub(crate) fn at(self, bytes: usize) -> *mut u8 {
        self.0.wrapping_add(bytes)
    }

    /// Copies `bytes` to `at` bytes after the start.
    ///
    /// # Safety
    /// The request has not completed, and the range lies within the piece's length or room.
    pub(crate) unsafe fn fill(self, at: usize, bytes: &[u8]) {
        // SAFETY: writable and ours alone by the contracts of `new` and of this function; `bytes`
        // can't overlap memory that nothing else may access.
        unsafe {
            self.at(at)
                .copy_from_nonoverlapping(bytes.as_ptr(), bytes.len())
        }
    }

    /// Inverts the bits of these bytes, counted from the start.
    ///
    /// # Safety
    /// They were read, lie within the piece, and its request's completion was not delivered.
    pub(crate) unsafe fn invert(self, range: Range<usize>) {
        for at in range {
            // SAFETY: ours alone and initialised, by the contracts of `new` and of this function.
            unsafe { *self.at(at) = !*self.at(at) };
        }
    }
}

/// A contiguous range of one file and the memory that takes it.
#[derive(Debug, Clone, Copy)]
pub struct Piece {
    /// Index into the files given at open.
    pub file: u32,
    /// Bytes from the start of the file.
    pub offset: u64,
    /// Where the first byte goes.
    pub destination: Destination,
    /// Bytes to read.
    pub length: usize,
    /// Bytes from the destination's start that may be overwritten (at least `length`): lets the
    /// last, ragged read of a file be rounded up.
    pub room: usize,
}

/// Pieces that are read together; completes once, when all of them did.
#[derive(Debug)]
pub struct Request {
    /// The caller's name for it, handed back in the [`Completion`].
    pub token: u64,
    /// In any order; their destinations don't overlap.
    pub pieces: Vec<Piece>,
}

/// The end of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    /// The request's token.
    pub token: u64,
    /// Every piece is at its destination, or the error of the first one (in its file) that failed;
    /// then the destinations hold anything.
    pub result: Result<(), ReadError>,
}

/// Takes completions, from any thread. It should return soon: the thread that calls it reads.
pub type OnCompletion = Arc<dyn Fn(Completion) + Send + Sync>;

/// A request that is being carried out. Its reads share it, and when the last of them is gone, done
/// or not, the completion is delivered: exactly once by construction.
pub(crate) struct InFlight {
    token: u64,
    failure: Mutex<Option<Failure>>,
    on_completion: OnCompletion,
}

struct Failure {
    position: u64,
    error: ReadError,
}

impl InFlight {
    pub(crate) fn new(token: u64, on_completion: OnCompletion) -> Arc<Self> {
        Arc::new(Self {
            token,
            failure: Mutex::new(None),
            on_completion,
        })
    }

    /// Notes that the byte at `position` of the error's file could not be read. The first position
    /// is kept: of several reads past a file's end only that one knows where the end is.
    pub(crate) fn fail(&self, position: u64, error: ReadError) {
        let mut failure = lock(&self.failure);
        if failure
            .as_ref()
            .is_none_or(|known| position < known.position)
        {
            *failure = Some(Failure { position, error });
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let failure = lock(&self.failure).take();
        let result = failure.map_or(Ok(()), |failure| Err(failure.error));
        let completion = Completion {
            token: self.token,
            result,
        };
        // A reading thread must survive its listener: other reads may be in flight into memory that
        // is freed once the thread is gone.
        if catch_unwind(AssertUnwindSafe(|| (self.on_completion)(completion))).is_err() {
            log::error!(
                "the listener for completions panicked at request {}",
                self.token
            );
        }
    }
}
