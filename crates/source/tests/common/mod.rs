//! A source with its completions in a channel, and memory with a margin that must stay untouched.
#![allow(clippy::unwrap_used, clippy::panic, dead_code)]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use weightstream_source::{
    Backend, Caching, Completion, Destination, OnCompletion, OpenError, Piece, ReadError, Request,
    Source, open_with,
};

pub const UNTOUCHED: u8 = 0xEE;

/// Every backend with every caching that works here.
pub const KINDS: [(Backend, Caching); 4] = [
    (Backend::Uring, Caching::Direct),
    (Backend::Uring, Caching::Buffered),
    (Backend::Pread, Caching::Direct),
    (Backend::Pread, Caching::Buffered),
];

pub struct Reader {
    pub source: Box<dyn Source>,
    pub completions: Receiver<Completion>,
}

impl Reader {
    pub fn new<E>(
        open: impl FnOnce(OnCompletion) -> Result<Box<dyn Source>, E>,
    ) -> Result<Self, E> {
        let (sender, completions) = channel();
        let source = open(Arc::new(move |completion| drop(sender.send(completion))))?;
        Ok(Self {
            source,
            completions,
        })
    }

    /// `None` where the kernel forbids io_uring.
    pub fn with(files: &[PathBuf], (backend, caching): (Backend, Caching)) -> Option<Self> {
        match Self::new(|listener| open_with(files, backend, caching, listener)) {
            Ok(reader) => Some(reader),
            Err(OpenError::Unavailable {
                backend: Backend::Uring,
                reason,
            }) => {
                eprintln!("not tested, io_uring is not available: {reason}");
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    pub fn next(&self) -> Completion {
        self.completions
            .recv_timeout(Duration::from_secs(60))
            .unwrap()
    }

    pub fn read(&self, offset: u64, length: usize) -> Result<Vec<u8>, ReadError> {
        let mut memory = Memory::new(0, length, 0);
        self.source.submit(Request {
            token: 5,
            pieces: vec![memory.piece(0, offset)],
        });
        let completion = self.next();
        assert_eq!(completion.token, 5);
        completion.result.map(|()| memory.taken().to_vec())
    }
}

/// Memory for one piece, `misalignment` bytes after a multiple of 4096.
pub struct Memory {
    bytes: Vec<u8>,
    start: usize,
    length: usize,
    room: usize,
}

impl Memory {
    pub fn new(misalignment: usize, length: usize, slack: usize) -> Self {
        let bytes = vec![UNTOUCHED; 3 * 4096 + misalignment + length + slack];
        let start = bytes.as_ptr().align_offset(4096) + 4096 + misalignment;
        Self {
            bytes,
            start,
            length,
            room: length + slack,
        }
    }

    pub fn piece(&mut self, file: u32, offset: u64) -> Piece {
        // SAFETY: the tests look at the memory and drop it after the completion only.
        let destination = unsafe { Destination::new(self.bytes.as_mut_ptr().add(self.start)) };
        Piece {
            file,
            offset,
            destination,
            length: self.length,
            room: self.room,
        }
    }

    pub fn taken(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.length]
    }

    pub fn margin_is_untouched(&self) -> bool {
        let (before, after) = (
            &self.bytes[..self.start],
            &self.bytes[self.start + self.room..],
        );
        before.iter().chain(after).all(|&byte| byte == UNTOUCHED)
    }
}

/// Bytes that differ from place to place.
pub fn pattern(length: usize) -> Vec<u8> {
    (0..length as u64)
        .map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8)
        .collect()
}
