//! Where every parameter lives in the memory of a device, block by block.
//!
//! A device has no faults: the chunks of a block are brought there together, before it computes. So parameters lie
//! together that are used together, each as aligned as a fresh allocation would be, and a chunk is described by what
//! is read from the files into host memory and by what is copied on from there.

use std::collections::HashMap;
use std::ops::Range;

use crate::layout::{LayoutError, Parameter, Part, Piece as Placed, check, merged};

/// Device addresses are multiples of this, as those of PyTorch's own allocations are.
const ALIGNMENT: u64 = 512;
/// Direct reads begin and end at multiples of this.
const BLOCK: u64 = 4096;
/// Bytes between two ranges of a file that are read along rather than skipped.
const GAP: u64 = 64 << 10;

/// A range of a file that is read into a host slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotRead {
    /// Index into the model's files.
    pub file: u32,
    /// Bytes from the start of the file, a multiple of 4096.
    pub offset: u64,
    /// Bytes.
    pub length: usize,
    /// Bytes from the start of the slot, a multiple of 4096.
    pub at: usize,
    /// Bytes from `at` on that may be overwritten.
    pub room: usize,
}

/// A range of a host slot that is copied to the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotCopy {
    /// Bytes from the start of the slot.
    pub from: usize,
    /// Bytes from the start of the chunk.
    pub to: usize,
    /// Bytes.
    pub length: usize,
}

/// What a host slot holds of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotImage {
    /// The ranges of the files that it comes from, as direct reads bring them.
    File,
    /// The chunk as it will be on the device: what is decoded must be put there first.
    Device,
}

/// How a chunk comes to the device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fill {
    /// From the files to a host slot; empty where slots hold the device's image.
    pub reads: Vec<SlotRead>,
    /// From the host slot to the device.
    pub copies: Vec<SlotCopy>,
    /// What the chunk consists of.
    pub pieces: Vec<Placed>,
}

/// The device addresses of a model's parameters, in bytes from the start of a reserved range.
#[derive(Debug, Clone)]
pub struct BlockLayout {
    chunk_bytes: u64,
    parameters: Vec<Parameter>,
    addresses: Vec<Range<u64>>,
    fills: Vec<Fill>,
    slot_bytes: usize,
}

/// A range of device addresses that comes from one range of a file.
#[derive(Debug, Clone, Copy)]
struct Piece {
    address: u64,
    file: u32,
    offset: u64,
    length: u64,
}

impl BlockLayout {
    /// Places `parameters`, whose parts lie in files of `file_lengths` bytes: the members of each of `groups` together,
    /// one group after another, and those of no group first. Chunks are of `chunk_bytes`, a multiple of 4096; host slots
    /// hold the `image` of one.
    ///
    /// # Errors
    /// A part outside its file, an impossible itemsize or chunk size, or more than 2^32 chunks.
    pub fn new(
        file_lengths: &[u64],
        mut parameters: Vec<Parameter>,
        groups: &[Vec<usize>],
        chunk_bytes: u64,
        image: SlotImage,
    ) -> Result<Self, LayoutError> {
        if chunk_bytes == 0 || !chunk_bytes.is_multiple_of(BLOCK) {
            return Err(LayoutError::ChunkBytes {
                got: usize::try_from(chunk_bytes).unwrap_or(usize::MAX),
            });
        }
        for parameter in &mut parameters {
            check(parameter, file_lengths)?;
            parameter.parts = merged(&parameter.parts);
        }
        let mut placer = Placer::default();
        let mut addresses = vec![0..0; parameters.len()];
        for index in order(&parameters, groups) {
            if let (Some(parameter), Some(place)) =
                (parameters.get(index), addresses.get_mut(index))
            {
                *place = placer.place(parameter);
            }
        }
        let chunks = placer.end.div_ceil(chunk_bytes);
        if chunks >= u64::from(u32::MAX) {
            return Err(LayoutError::TooLarge {
                chunk_bytes: usize::try_from(chunk_bytes).unwrap_or(usize::MAX),
            });
        }
        let mut fills = vec![Fill::default(); chunks as usize];
        let mut slot_bytes = BLOCK as usize;
        let mut filled: Vec<u64> = vec![0; chunks as usize];
        for piece in &placer.pieces {
            for cut in cut(*piece, chunk_bytes) {
                let chunk = (cut.address / chunk_bytes) as usize;
                if let (Some(fill), Some(filled), Some(&file_length)) = (
                    fills.get_mut(chunk),
                    filled.get_mut(chunk),
                    file_lengths.get(cut.file as usize),
                ) {
                    let to = cut.address % chunk_bytes;
                    fill.pieces.push(Placed {
                        file: cut.file,
                        file_offset: cut.offset,
                        chunk_offset: to as usize,
                        length: cut.length as usize,
                    });
                    match image {
                        SlotImage::File => add(fill, filled, cut, to, file_length),
                        SlotImage::Device => {
                            *filled = chunk_bytes;
                            fill.copies.push(SlotCopy {
                                from: to as usize,
                                to: to as usize,
                                length: cut.length as usize,
                            });
                        }
                    }
                    slot_bytes = slot_bytes.max(*filled as usize);
                }
            }
        }
        Ok(Self {
            chunk_bytes,
            parameters,
            addresses,
            fills,
            slot_bytes,
        })
    }

    /// How many chunks there are.
    pub fn chunks(&self) -> u32 {
        self.fills.len() as u32
    }

    /// Bytes of one chunk.
    pub fn chunk_bytes(&self) -> u64 {
        self.chunk_bytes
    }

    /// Bytes that a host slot must have to hold any chunk.
    pub fn slot_bytes(&self) -> usize {
        self.slot_bytes
    }

    /// The parameters, in the order given.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Where a parameter lies; empty for one without bytes.
    pub fn addresses(&self, index: usize) -> Range<u64> {
        self.addresses.get(index).cloned().unwrap_or(0..0)
    }

    /// How each chunk comes to the device.
    pub fn fills(&self) -> &[Fill] {
        &self.fills
    }

    /// How a chunk comes to the device.
    pub fn fill(&self, chunk: u32) -> Option<&Fill> {
        self.fills.get(chunk as usize)
    }

    /// The chunks of some parameters, in order of address.
    pub fn chunks_of(&self, parameters: &[usize]) -> Vec<u32> {
        let mut chunks: Vec<u32> = parameters
            .iter()
            .map(|&index| self.addresses(index))
            .filter(|range| !range.is_empty())
            .flat_map(|range| {
                (range.start / self.chunk_bytes) as u32
                    ..=((range.end - 1) / self.chunk_bytes) as u32
            })
            .collect();
        chunks.sort_unstable();
        chunks.dedup();
        chunks
    }

    /// The names of the parameters that lie in a chunk, in part at least.
    pub fn names_in(&self, chunk: u32) -> Vec<&str> {
        let start = u64::from(chunk) * self.chunk_bytes;
        let end = start + self.chunk_bytes;
        self.parameters
            .iter()
            .zip(&self.addresses)
            .filter(|(_, range)| range.start < end && start < range.end)
            .map(|(parameter, _)| parameter.name.as_str())
            .collect()
    }

    /// Bytes of all weights, those that share their memory counted once.
    pub fn weight_bytes(&self) -> u64 {
        let mut ranges: Vec<(u64, u64)> = self
            .addresses
            .iter()
            .map(|range| (range.start, range.end))
            .collect();
        ranges.sort_unstable();
        let mut end = 0;
        ranges
            .into_iter()
            .map(|(start, stop)| {
                let own = stop.saturating_sub(start.max(end));
                end = end.max(stop);
                own
            })
            .sum()
    }
}

/// The order of placement: members of no group, then group by group, each by file and offset.
fn order(parameters: &[Parameter], groups: &[Vec<usize>]) -> Vec<usize> {
    let mut group_of: HashMap<usize, usize> = HashMap::new();
    for (number, group) in groups.iter().enumerate() {
        for &index in group {
            group_of.entry(index).or_insert(number + 1);
        }
    }
    let mut order: Vec<usize> = (0..parameters.len()).collect();
    order.sort_by_key(|&index| {
        let first = parameters
            .get(index)
            .and_then(|parameter| parameter.parts.first());
        (
            group_of.get(&index).copied().unwrap_or(0),
            first.map(|part| (part.file, part.offset)),
        )
    });
    order
}

#[derive(Default)]
struct Placer {
    end: u64,
    pieces: Vec<Piece>,
    known: HashMap<Vec<Part>, Range<u64>>,
}

impl Placer {
    fn place(&mut self, parameter: &Parameter) -> Range<u64> {
        if parameter.parts.is_empty() {
            return self.end..self.end;
        }
        if let Some(range) = self.known.get(&parameter.parts) {
            return range.clone();
        }
        let start = self.beside(parameter).unwrap_or_else(|| {
            let start = self.end.next_multiple_of(ALIGNMENT);
            self.end = start;
            for part in &parameter.parts {
                self.pieces.push(Piece {
                    address: self.end,
                    file: part.file,
                    offset: part.offset,
                    length: part.length,
                });
                self.end += part.length;
            }
            start
        });
        let range = start..self.end;
        self.known.insert(parameter.parts.clone(), range.clone());
        range
    }

    /// What follows in the file on what was placed last may follow in memory too, where it is as aligned there:
    /// then both come with one read and one copy.
    fn beside(&mut self, parameter: &Parameter) -> Option<u64> {
        let &[part] = parameter.parts.as_slice() else {
            return None;
        };
        let last = self.pieces.last_mut()?;
        let gap = part.offset.checked_sub(last.offset + last.length)?;
        let start = self.end + gap;
        if last.file != part.file || gap > BLOCK || !start.is_multiple_of(ALIGNMENT) {
            return None;
        }
        last.length += gap + part.length;
        self.end = start + part.length;
        Some(start)
    }
}

/// The piece, chunk by chunk.
fn cut(piece: Piece, chunk_bytes: u64) -> impl Iterator<Item = Piece> {
    let end = piece.address + piece.length;
    let first = piece.address / chunk_bytes;
    (first..end.div_ceil(chunk_bytes)).map(move |chunk| {
        let start = piece.address.max(chunk * chunk_bytes);
        let stop = end.min((chunk + 1) * chunk_bytes);
        Piece {
            address: start,
            file: piece.file,
            offset: piece.offset + (start - piece.address),
            length: stop - start,
        }
    })
}

/// Adds a piece, which goes to `to` in its chunk, to what is read and copied; `filled` bytes of the slot are taken.
fn add(fill: &mut Fill, filled: &mut u64, piece: Piece, to: u64, file_length: u64) {
    let begin = piece.offset - piece.offset % BLOCK;
    let end = (piece.offset + piece.length).next_multiple_of(BLOCK);
    let joined = match fill.reads.last_mut() {
        Some(last)
            if last.file == piece.file
                && begin >= last.offset
                && begin <= last.offset + last.length as u64 + GAP =>
        {
            let end = end.max(last.offset + last.room as u64);
            *filled = last.at as u64 + (end - last.offset);
            last.room = (end - last.offset) as usize;
            last.length = (end.min(file_length) - last.offset) as usize;
            Some(last.at as u64 + (piece.offset - last.offset))
        }
        _ => None,
    };
    let from = joined.unwrap_or_else(|| {
        let at = *filled;
        *filled += end - begin;
        fill.reads.push(SlotRead {
            file: piece.file,
            offset: begin,
            length: (end.min(file_length) - begin) as usize,
            at: at as usize,
            room: (end - begin) as usize,
        });
        at + (piece.offset - begin)
    });
    fill.copies.push(SlotCopy {
        from: from as usize,
        to: to as usize,
        length: piece.length as usize,
    });
}
