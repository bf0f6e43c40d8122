//! One frame: where it is stored, what it decodes to, and the proof that it is what was written.

use weightstream_codec::{DecodeError, Element};
use xxhash_rust::xxh3::xxh3_64;

use super::format::Code;

/// A run of weights that is stored, checksummed and coded on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// The chunk that it is part of.
    pub chunk: u64,
    /// Where its bytes begin in the address space of the weights; a multiple of 64.
    pub address: u64,
    /// How many bytes of weights it holds.
    pub length: u32,
    /// Index into [`Packed::files`](super::Packed::files).
    pub file: u32,
    /// Where it is stored, from the start of that file; a multiple of 64.
    pub offset: u64,
    /// How many bytes are stored, with the padding behind; a multiple of 64.
    pub stored_length: u32,
    /// How many of these are the code; the rest is padding.
    pub coded_length: u32,
    /// How it is coded.
    pub code: Code,
    /// What its weights are.
    pub element: Element,
    /// XXH3-64 of the stored bytes, with the padding.
    pub checksum: u64,
}

/// A frame whose bytes are not what was written, or not what the manifest says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the fields are what the message says
pub enum FrameError {
    #[error("expected {expected} bytes, got {got}")]
    Length { expected: usize, got: usize },

    #[error("expected the checksum {expected:016x}, got {got:016x}; the bytes are damaged")]
    Checksum { expected: u64, got: u64 },

    #[error(transparent)]
    Code(#[from] DecodeError),
}

/// The checksum of stored bytes: XXH3-64 with seed 0.
pub fn checksum(stored: &[u8]) -> u64 {
    xxh3_64(stored)
}

impl Frame {
    /// Whether `stored`, the frame's bytes with their padding, are those that were written.
    ///
    /// # Errors
    /// Another length, or another checksum.
    pub fn verify(&self, stored: &[u8]) -> Result<(), FrameError> {
        if stored.len() != self.stored_length as usize {
            return Err(FrameError::Length {
                expected: self.stored_length as usize,
                got: stored.len(),
            });
        }
        let got = checksum(stored);
        if got != self.checksum {
            return Err(FrameError::Checksum {
                expected: self.checksum,
                got,
            });
        }
        Ok(())
    }

    /// Verifies `stored` and decodes it to `weights`, which has [`length`](Self::length) bytes. A frame that is
    /// [`Code::Raw`] may as well be read straight to its place: its first `length` stored bytes are the weights.
    ///
    /// # Errors
    /// Damaged bytes, before anything is written to `weights`; or as [`decode_unverified`](Self::decode_unverified).
    pub fn decode(&self, stored: &[u8], weights: &mut [u8]) -> Result<(), FrameError> {
        self.verify(stored)?;
        self.decode_unverified(stored, weights)
    }

    /// [`decode`](Self::decode) of bytes that were verified before.
    ///
    /// # Errors
    /// Lengths that don't fit, or a code that the manifest describes wrongly.
    pub fn decode_unverified(&self, stored: &[u8], weights: &mut [u8]) -> Result<(), FrameError> {
        if weights.len() != self.length as usize {
            return Err(FrameError::Length {
                expected: self.length as usize,
                got: weights.len(),
            });
        }
        let coded = stored
            .get(..self.coded_length as usize)
            .ok_or(FrameError::Length {
                expected: self.coded_length as usize,
                got: stored.len(),
            })?;
        match self.code {
            Code::Raw if coded.len() == weights.len() => {
                weights.copy_from_slice(coded);
                Ok(())
            }
            Code::Raw => Err(FrameError::Length {
                expected: weights.len(),
                got: coded.len(),
            }),
            Code::Exponent => Ok(weightstream_codec::decode(coded, weights)?),
        }
    }
}
