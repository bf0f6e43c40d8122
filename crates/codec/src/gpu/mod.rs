//! The decoder for GPUs: its code, and the list of work that it takes.
//!
//! `decode.cu` is the source, `decode.ptx` what a driver loads, made of it by `ptx.py`. A launch of [`FUNCTION`] has
//! [`THREADS`] threads in each of as many thread blocks as there are [`Part`]s, and four arguments: where the stored
//! bytes are (`u64`), how far behind that the list of parts is (`u32`), where decoded bytes go (`u64`), and how many
//! parts there are (`u32`).

/// The code, for compute capability 7.0 and later.
pub const PTX: &str = include_str!("decode.ptx");
/// The entry point.
pub const FUNCTION: &str = "decode";
/// Threads of a thread block.
pub const THREADS: u32 = 256;

/// Decoded bytes of a frame that one part covers.
const RANGE: u32 = 64 << 10;

/// What one thread block does: a part of the decoded bytes of one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Where the frame's stored bytes are.
    pub from: u32,
    /// How many.
    pub stored: u32,
    /// Decoded bytes of the frame that precede the wanted ones.
    pub skip: u32,
    /// Wanted bytes.
    pub length: u32,
    /// Where the first wanted byte goes.
    pub to: u32,
    /// Whether the stored bytes are coded, or the frame as it is.
    pub coded: bool,
    /// Which 64 KiB of the decoded bytes.
    range: u32,
}

impl Part {
    /// Bytes of a part in the list.
    pub const BYTES: usize = 32;

    /// All parts of a frame of which bytes are wanted.
    pub fn of(
        from: u32,
        stored: u32,
        skip: u32,
        length: u32,
        to: u32,
        coded: bool,
    ) -> impl Iterator<Item = Part> {
        let last = (skip + length.max(1) - 1) / RANGE;
        (skip / RANGE..=last).map(move |range| Part {
            from,
            stored,
            skip,
            length,
            to,
            coded,
            range,
        })
    }

    /// As the list has it.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let words = [
            self.from,
            self.stored,
            self.skip,
            self.length,
            self.to,
            self.range,
            u32::from(self.coded),
            0,
        ];
        let mut bytes = [0; Self::BYTES];
        for (place, word) in bytes.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// What [`to_bytes`](Self::to_bytes) has written.
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let mut words = [0; 8];
        for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<4>().0) {
            *word = u32::from_le_bytes(*bytes);
        }
        let [from, stored, skip, length, to, range, coded, _] = words;
        Part {
            from,
            stored,
            skip,
            length,
            to,
            range,
            coded: coded != 0,
        }
    }

    /// The frame's decoded bytes that this part writes.
    pub fn decoded(&self) -> std::ops::Range<u32> {
        let begin = self.range * RANGE;
        begin.max(self.skip)..(begin + RANGE).min(self.skip + self.length)
    }
}
