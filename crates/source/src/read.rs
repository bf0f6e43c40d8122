//! One system call's worth of a request, and what to do with its result.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use crate::aligned::AlignedBuffer;
use crate::error::{ReadError, ReadErrorKind};
use crate::extent::{Extent, Route, Shape, split};
use crate::file::{Files, SourceFile, is_refusal};
use crate::identity::Stamp;
use crate::request::{Destination, InFlight, OnCompletion, Piece, Request};

/// How often in a row a read that the system is too busy for is tried again.
const PATIENCE: u32 = 10_000;

/// Something for a reading thread.
pub(crate) enum Job {
    Read(Read),
    /// A request that needs no reads: it completes when this is dropped, not within `submit`.
    Settle(#[expect(dead_code, reason = "kept for its drop")] Arc<InFlight>),
}

/// Turns a request into what must be done for it.
pub(crate) fn plan(request: &Request, files: &Files, on_completion: &OnCompletion) -> Vec<Job> {
    let in_flight = InFlight::new(request.token, Arc::clone(on_completion));
    let mut jobs = Vec::new();
    for piece in &request.pieces {
        match check(piece, files) {
            Ok(file) => jobs.extend(reads(piece, file, &in_flight).map(Job::Read)),
            Err(error) => in_flight.fail(piece.offset, error),
        }
    }
    if jobs.is_empty() {
        jobs.push(Job::Settle(in_flight));
    }
    jobs
}

fn check<'a>(piece: &Piece, files: &'a Files) -> Result<&'a Arc<SourceFile>, ReadError> {
    let error = |path, kind| ReadError {
        path,
        offset: piece.offset,
        length: piece.length,
        kind,
    };
    let Some(file) = files.get(piece.file) else {
        let name = format!("(file {})", piece.file);
        let kind = ReadErrorKind::UnknownFile {
            files: files.count(),
        };
        return Err(error(std::path::PathBuf::from(name).into(), kind));
    };
    // No file is that long, and rounding up below can't overflow.
    let end = piece.offset.checked_add(piece.length as u64);
    if end.is_none_or(|end| end > i64::MAX as u64 / 2) {
        return Err(error(file.path(), ReadErrorKind::UnexpectedEnd { got: 0 }));
    }
    Ok(file)
}

fn reads(
    piece: &Piece,
    file: &Arc<SourceFile>,
    request: &Arc<InFlight>,
) -> impl Iterator<Item = Read> {
    let shape = Shape {
        offset: piece.offset,
        address: piece.destination.at(0).addr(),
        length: piece.length,
        room: piece.room.max(piece.length),
    };
    let alignment = file.alignment();
    let block = alignment.map_or(1, |alignment| alignment.offset);
    split(shape, alignment).into_iter().map(move |extent| Read {
        file: Arc::clone(file),
        opened: file.opened(),
        before: None,
        request: Arc::clone(request),
        destination: piece.destination,
        offset: piece.offset,
        length: piece.length,
        extent,
        block,
        progress: 0,
        direct: alignment.is_some(),
        attempts: 0,
        settled: false,
    })
}

/// A part of a piece that one system call reads, or several where one comes up short.
pub(crate) struct Read {
    file: Arc<SourceFile>,
    /// What the last call reads from.
    opened: Arc<File>,
    /// How that was when the call began.
    before: Option<Stamp>,
    request: Arc<InFlight>,
    /// Of the piece, as are `offset` and `length`.
    destination: Destination,
    offset: u64,
    length: usize,
    extent: Extent,
    /// What each call's start in the file is aligned to.
    block: usize,
    /// Bytes of the extent that are there.
    progress: usize,
    /// Whether the last call was made past the page cache.
    direct: bool,
    attempts: u32,
    settled: bool,
}

/// A system call to make.
pub(crate) struct Call {
    pub(crate) descriptor: RawFd,
    pub(crate) offset: u64,
    pub(crate) length: usize,
    pub(crate) memory: *mut u8,
}

/// Whether a read needs another call.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Call,
    Nothing,
}

impl Read {
    /// Bytes of the bounce buffer that it needs, if it needs one.
    pub(crate) fn bounce(&self) -> Option<usize> {
        match self.extent.route {
            Route::InPlace { .. } => None,
            Route::Bounce { .. } => Some(self.extent.length),
        }
    }

    /// The next call; `bounce` is the start of a buffer if it needs one.
    pub(crate) fn call(&mut self, bounce: *mut u8) -> Call {
        let start = self.call_start();
        let base = match self.extent.route {
            Route::InPlace { at } => self.destination.at(at),
            Route::Bounce { .. } => bounce,
        };
        self.direct = self.file.is_direct();
        self.opened = self.file.opened();
        let checked = !cfg!(feature = "unchecked");
        let now = checked.then(|| Stamp::of(&self.opened).ok()).flatten();
        // Of several calls, what was read first counts too.
        self.before = if self.progress == 0 {
            now
        } else {
            self.before.filter(|before| now.as_ref() == Some(before))
        };
        Call {
            descriptor: self.opened.as_raw_fd(),
            offset: self.extent.offset + start as u64,
            length: self.extent.length - start,
            memory: base.wrapping_add(start),
        }
    }

    /// Takes the result of the last call. After `Nothing` the read has ended, well or not.
    pub(crate) fn advance(
        &mut self,
        result: io::Result<usize>,
        bounce: Option<&AlignedBuffer>,
    ) -> Next {
        match result {
            Ok(count) => self.received(self.call_start() + count, bounce),
            Err(error) => self.refused(error),
        }
    }

    /// Ends the read without its bytes.
    pub(crate) fn fail(&mut self, kind: ReadErrorKind) -> Next {
        let position = self.extent.offset + self.progress as u64;
        let (path, offset, length) = (self.file.path(), self.offset, self.length);
        self.request.fail(
            position,
            ReadError {
                path,
                offset,
                length,
                kind,
            },
        );
        self.settled = true;
        Next::Nothing
    }

    /// Continues in the middle of a block only where that is allowed.
    fn call_start(&self) -> usize {
        self.progress - self.progress % self.block
    }

    fn received(&mut self, progress: usize, bounce: Option<&AlignedBuffer>) -> Next {
        self.file.forget(self.extent.offset, progress);
        if progress >= self.extent.wanted {
            if let Some(kind) = self.file.distrust(&self.opened, self.before.as_ref()) {
                return self.fail(kind);
            }
            if let (Route::Bounce { skip, at }, Some(bounce)) = (self.extent.route, bounce) {
                // SAFETY: `wanted` bytes were read into the buffer, and the last call is over.
                let bytes = unsafe { bounce.bytes(self.extent.wanted) };
                // SAFETY: an extent lies within its piece; the request is still in flight, as it is
                // held by this read.
                unsafe {
                    self.destination
                        .fill(at, bytes.get(skip..).unwrap_or_default())
                };
            }
            self.settled = true;
            return Next::Nothing;
        }
        if progress <= self.progress {
            let end = self.extent.offset + self.progress as u64;
            let got = end.saturating_sub(self.offset) as usize;
            return self.fail(ReadErrorKind::UnexpectedEnd { got });
        }
        self.progress = progress;
        self.attempts = 0;
        Next::Call
    }

    fn refused(&mut self, error: io::Error) -> Next {
        if self.direct && is_refusal(&error) {
            self.file.give_up_direct();
            return Next::Call;
        }
        match error.raw_os_error() {
            Some(libc::EINTR) => Next::Call,
            Some(libc::EAGAIN | libc::ECANCELED) if self.attempts < PATIENCE => {
                self.attempts += 1;
                std::thread::yield_now();
                Next::Call
            }
            _ => {
                self.file.reopen();
                self.fail(error.into())
            }
        }
    }
}

impl Drop for Read {
    fn drop(&mut self) {
        if !self.settled {
            self.fail(ReadErrorKind::Abandoned);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::mpsc::{Receiver, channel};

    use super::*;
    use crate::request::Completion;
    use crate::{Caching, Destination};

    /// A read of 100,000 bytes in place, of a file that allows direct I/O where this one's file
    /// system does.
    fn read() -> (tempfile::NamedTempFile, Files, Read, Receiver<Completion>) {
        let file = tempfile::NamedTempFile::new().unwrap();
        let files = Files::open(&[file.path().to_owned()], Caching::Direct).unwrap();
        let (sender, completions) = channel();
        let listener: OnCompletion = Arc::new(move |completion| drop(sender.send(completion)));
        // SAFETY: nothing carries out the calls.
        let destination = unsafe { Destination::new(std::ptr::without_provenance_mut(1 << 20)) };
        let (length, room) = (100_000, 1 << 20);
        let pieces = vec![Piece {
            file: 0,
            offset: 1 << 20,
            destination,
            length,
            room,
        }];
        let Some(Job::Read(read)) = plan(&Request { token: 1, pieces }, &files, &listener).pop()
        else {
            unreachable!("the piece has bytes")
        };
        (file, files, read, completions)
    }

    fn refusal(errno: i32) -> io::Result<usize> {
        Err(io::Error::from_raw_os_error(errno))
    }

    #[test]
    fn a_short_read_goes_on_where_a_block_starts() {
        let (_file, _files, mut read, completions) = read();
        assert_eq!(read.call(std::ptr::null_mut()).offset, 1 << 20);
        assert_eq!(read.advance(Ok(65_536 + 10), None), Next::Call);
        let call = read.call(std::ptr::null_mut());
        let (done, block) = (call.offset as usize - (1 << 20), read.block);
        assert_eq!(done, 65_546 - 65_546 % block);
        assert_eq!(call.memory.addr(), (1 << 20) + done);
        assert_eq!(read.advance(Ok(100_000 - done), None), Next::Nothing);
        drop(read);
        assert_eq!(completions.recv().unwrap().result, Ok(()));
    }

    #[test]
    fn interruptions_are_tried_again_and_other_errors_are_reported() {
        let (_file, _files, mut read, completions) = read();
        for errno in [libc::EINTR, libc::EAGAIN, libc::ECANCELED, libc::EINTR] {
            read.call(std::ptr::null_mut());
            assert_eq!(read.advance(refusal(errno), None), Next::Call);
        }
        assert_eq!(read.advance(refusal(libc::EIO), None), Next::Nothing);
        drop(read);
        let error = completions.recv().unwrap().result.unwrap_err();
        assert!(
            matches!(
                error.kind,
                ReadErrorKind::Io {
                    errno: Some(libc::EIO),
                    ..
                }
            ),
            "{error}"
        );
    }

    #[test]
    fn a_file_system_that_is_always_busy_is_an_error() {
        let (_file, _files, mut read, _completions) = read();
        assert!((0..=PATIENCE).any(|_| read.advance(refusal(libc::EAGAIN), None) == Next::Nothing));
    }

    #[test]
    fn where_direct_reads_are_refused_the_page_cache_is_used() {
        let (_file, files, mut read, completions) = read();
        if !files.any_direct() {
            return;
        }
        read.call(std::ptr::null_mut());
        assert!(read.direct);
        assert_eq!(read.advance(refusal(libc::EINVAL), None), Next::Call);
        read.call(std::ptr::null_mut());
        assert!(!files.any_direct() && !read.direct);
        assert_eq!(read.advance(refusal(libc::EINVAL), None), Next::Nothing);
        drop(read);
        let error = completions.recv().unwrap().result.unwrap_err();
        assert!(matches!(
            error.kind,
            ReadErrorKind::Io {
                errno: Some(libc::EINVAL),
                ..
            }
        ));
    }

    #[test]
    fn a_read_that_is_dropped_is_abandoned() {
        let (_file, _files, read, completions) = read();
        drop(read);
        let error = completions.recv().unwrap().result.unwrap_err();
        assert_eq!(error.kind, ReadErrorKind::Abandoned);
    }
}
