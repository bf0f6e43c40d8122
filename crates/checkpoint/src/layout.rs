//! Where every parameter of a model lives in the address space of its weights.
//!
//! A parameter that is one aligned range of a file lives in that file's *linear* region, which
//! mirrors the file: one long read fills a chunk, and tied names share an address. What has to be
//! put together from several ranges, or moved to be aligned, lives in the *gathered* region behind.

use std::collections::HashMap;
use std::ops::Range;

/// A range of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Part {
    /// Index into the model's files.
    pub file: u32,
    /// Bytes from the start of the file.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
}

/// What must lie at one address: the parts' bytes one after another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Its name in the model.
    pub name: String,
    /// Where its bytes come from.
    pub parts: Vec<Part>,
    /// Bytes of one element; its address is a multiple of this.
    pub itemsize: u64,
    /// Bytes that are used together: 0 = the whole, a row of an embedding, one expert of a 3-D
    /// parameter.
    pub unit: u64,
}

/// What to read to fill a part of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Index into the model's files.
    pub file: u32,
    /// Bytes from the start of the file.
    pub file_offset: u64,
    /// Bytes from the start of the chunk.
    pub chunk_offset: usize,
    /// Bytes.
    pub length: usize,
}

/// A parameter and where it lives.
#[derive(Debug, Clone)]
pub struct Placement<'l> {
    /// Its position in the parameters given to [`Layout::new`].
    pub index: usize,
    /// The parameter.
    pub parameter: &'l Parameter,
    /// Its range in the address space, in bytes.
    pub addresses: Range<u64>,
}

/// Parameters that cannot be laid out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the fields are what the message says
pub enum LayoutError {
    #[error("expected chunks of a power of two of at least 65536 bytes, got {got}")]
    ChunkBytes { got: usize },

    #[error(
        "parameter {parameter:?}: expected an itemsize that is a power of two up to 4096, got {got}"
    )]
    ItemSize { parameter: String, got: u64 },

    #[error("parameter {parameter:?}: expected one of the {files} files, got a part in file {got}")]
    UnknownFile {
        parameter: String,
        files: usize,
        got: u32,
    },

    #[error(
        "parameter {parameter:?}: expected a part within the {file_length} bytes of file {file}, \
         got {length} bytes at {offset}"
    )]
    OutsideFile {
        parameter: String,
        file: u32,
        file_length: u64,
        offset: u64,
        length: u64,
    },

    #[error("expected weights that fit 2^32 chunks of {chunk_bytes} bytes, got more")]
    TooLarge { chunk_bytes: usize },
}

/// Addresses are kept congruent to file offsets modulo this, so that direct reads stay possible.
const DIRECT_ALIGNMENT: u64 = 4096;

/// Where gathered parameters begin whose file offset can't be kept.
const GATHERED_ALIGNMENT: u64 = 64;

/// More than any machine can address; below it sums of addresses can't overflow.
const MAX_LENGTH: u64 = 1 << 62;

/// The least chunk.
const MIN_CHUNK: usize = 64 << 10;

/// A file's bytes in the address space, from and to whole chunks.
#[derive(Debug, Clone, Copy)]
struct Region {
    address: u64,
    end: u64,
    file: u32,
    /// The file offset at `address`, a multiple of the chunk.
    file_offset: u64,
    file_length: u64,
}

/// A range of the gathered region that comes from one range of a file.
#[derive(Debug, Clone, Copy)]
struct Segment {
    address: u64,
    file: u32,
    file_offset: u64,
    length: u64,
}

/// Where every parameter of a model lives, and from which file ranges each chunk is filled.
///
/// Addresses are bytes from the base of the address space. Queries take time logarithmic in the
/// number of parameters and allocate nothing.
#[derive(Debug, Clone)]
pub struct Layout {
    chunk_bytes: usize,
    chunks: u32,
    parameters: Vec<Parameter>,
    /// Of each parameter; empty for one without bytes.
    addresses: Vec<Range<u64>>,
    /// Sorted by address, disjoint.
    regions: Vec<Region>,
    /// Sorted by address, disjoint.
    segments: Vec<Segment>,
    /// Address ranges that hold parameters: sorted, disjoint, merged.
    used: Vec<Range<u64>>,
    /// Parameters with bytes, sorted by address.
    order: Vec<usize>,
    /// The greatest end address among `order[..=i]`: bounds the search where parameters overlap.
    reach: Vec<u64>,
}

impl Layout {
    /// Places `parameters`, whose parts lie in files of `file_lengths` bytes, in an address space of
    /// chunks of `chunk_bytes` (a power of two of at least 64 KiB).
    ///
    /// # Errors
    /// A part outside its file, an impossible itemsize or chunk size, or more than 2^32 chunks.
    pub fn new(
        file_lengths: &[u64],
        mut parameters: Vec<Parameter>,
        chunk_bytes: usize,
    ) -> Result<Layout, LayoutError> {
        if !chunk_bytes.is_power_of_two() || chunk_bytes < MIN_CHUNK {
            return Err(LayoutError::ChunkBytes { got: chunk_bytes });
        }
        for parameter in &mut parameters {
            check(parameter, file_lengths)?;
            parameter.parts = merged(&parameter.parts);
        }
        let too_large = LayoutError::TooLarge { chunk_bytes };
        let mut builder = Builder::new(chunk_bytes as u64);
        let addresses = builder
            .place_all(file_lengths, &parameters)
            .ok_or_else(|| too_large.clone())?;
        let Builder {
            end,
            regions,
            segments,
            ..
        } = builder;
        let chunks = u32::try_from(end.div_ceil(chunk_bytes as u64))
            .ok()
            .filter(|_| end <= MAX_LENGTH)
            .ok_or(too_large)?;

        let mut order: Vec<usize> = (0..parameters.len())
            .filter(|&index| !addresses[index].is_empty())
            .collect();
        order.sort_by_key(|&index| (addresses[index].start, index));
        let mut used: Vec<Range<u64>> = Vec::new();
        let mut reach = Vec::with_capacity(order.len());
        for &index in &order {
            let range = addresses[index].clone();
            match used.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => used.push(range.clone()),
            }
            let farthest = reach.last().copied().unwrap_or(0);
            reach.push(range.end.max(farthest));
        }
        Ok(Layout {
            chunk_bytes,
            chunks,
            parameters,
            addresses,
            regions,
            segments,
            used,
            order,
            reach,
        })
    }

    /// Bytes of one chunk.
    pub fn chunk_bytes(&self) -> usize {
        self.chunk_bytes
    }

    /// How many chunks the address space has, used or not.
    pub fn chunks(&self) -> u32 {
        self.chunks
    }

    /// Bytes of the address space.
    pub fn length(&self) -> u64 {
        u64::from(self.chunks) * self.chunk_bytes as u64
    }

    /// The parameters, in the order given; parts that follow each other in a file are merged.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Where parameter number `parameter` begins; 0 for one without bytes.
    ///
    /// # Panics
    /// Where fewer parameters were given.
    pub fn address(&self, parameter: usize) -> u64 {
        self.addresses[parameter].start
    }

    /// What to read to fill `chunk`, in the order of the chunk's bytes. Nothing for a chunk that
    /// holds no parameter's byte.
    pub fn pieces(&self, chunk: u32) -> impl Iterator<Item = Piece> {
        let range = self.range_of(chunk);
        let linear = self.linear_piece(chunk);
        let first = self
            .segments
            .partition_point(|segment| segment.address + segment.length <= range.start);
        let gathered = self.segments[first..]
            .iter()
            .take_while(move |segment| segment.address < range.end)
            .map(move |segment| {
                let start = segment.address.max(range.start);
                let end = (segment.address + segment.length).min(range.end);
                Piece {
                    file: segment.file,
                    file_offset: segment.file_offset + (start - segment.address),
                    chunk_offset: (start - range.start) as usize,
                    length: (end - start) as usize,
                }
            });
        linear.into_iter().chain(gathered)
    }

    /// Bytes of distinct weights: what several parameters share counts once.
    pub fn weight_bytes(&self) -> u64 {
        self.used.iter().map(|range| range.end - range.start).sum()
    }

    /// Bytes of distinct weights in `chunk`.
    pub fn weight_bytes_in(&self, chunk: u32) -> u64 {
        let range = self.range_of(chunk);
        let next = self.used.partition_point(|used| used.end <= range.start);
        let used = self.used.get(next..).unwrap_or_default().iter();
        used.take_while(|used| used.start < range.end)
            .map(|used| used.end.min(range.end) - used.start.max(range.start))
            .sum()
    }

    /// Whether `chunk` holds any parameter's byte.
    pub fn is_used(&self, chunk: u32) -> bool {
        let range = self.range_of(chunk);
        let next = self.used.partition_point(|used| used.end <= range.start);
        self.used
            .get(next)
            .is_some_and(|used| used.start < range.end)
    }

    /// The parameters that have a byte in `chunk`, by address.
    pub fn parameters_in(&self, chunk: u32) -> impl Iterator<Item = Placement<'_>> {
        self.overlapping(self.range_of(chunk))
    }

    /// The parameter whose byte lies at `address`; of several, the one that was given first.
    pub fn parameter_at(&self, address: u64) -> Option<usize> {
        self.at(address).map(|placement| placement.index).min()
    }

    /// The chunks that are used together with the byte at `address`: its whole parameter, its
    /// expert, or its row. Where parameters share the byte, the least of them; where no parameter
    /// has it, its chunk; nothing beyond the address space.
    pub fn unit_at(&self, address: u64) -> Range<u32> {
        self.at(address)
            .map(|placement| {
                let Range { start, end } = placement.addresses;
                let unit = match placement.parameter.unit {
                    0 => end - start,
                    unit => unit,
                };
                let first = address - (address - start) % unit;
                self.chunks_of(first..first.saturating_add(unit).min(end))
            })
            .min_by_key(|chunks| chunks.len())
            .unwrap_or_else(|| self.chunks_of(address..address.saturating_add(1)))
    }

    /// The addresses of `chunk`.
    fn range_of(&self, chunk: u32) -> Range<u64> {
        let bytes = self.chunk_bytes as u64;
        let start = u64::from(chunk.min(self.chunks)) * bytes;
        start..start + bytes
    }

    /// The chunks that have a byte in `addresses`, as far as the address space reaches.
    fn chunks_of(&self, addresses: Range<u64>) -> Range<u32> {
        let chunk = |number: u64| number.min(u64::from(self.chunks)) as u32;
        let bytes = self.chunk_bytes as u64;
        chunk(addresses.start / bytes)..chunk(addresses.end.div_ceil(bytes))
    }

    /// The read that fills a chunk of a linear region: all that the file has for it, so that one
    /// direct read suffices.
    fn linear_piece(&self, chunk: u32) -> Option<Piece> {
        let start = self.range_of(chunk).start;
        let next = self.regions.partition_point(|region| region.end <= start);
        let region = self.regions.get(next)?;
        if start < region.address || !self.is_used(chunk) {
            return None;
        }
        let file_offset = region.file_offset + (start - region.address);
        let left = region.file_length - file_offset;
        Some(Piece {
            file: region.file,
            file_offset,
            chunk_offset: 0,
            length: left.min(self.chunk_bytes as u64) as usize,
        })
    }

    fn at(&self, address: u64) -> impl Iterator<Item = Placement<'_>> {
        self.overlapping(address..address.saturating_add(1))
    }

    /// The parameters that have a byte in `range`, by address.
    fn overlapping(&self, range: Range<u64>) -> impl Iterator<Item = Placement<'_>> {
        let first = self.reach.partition_point(|&end| end <= range.start);
        self.order[first..]
            .iter()
            .map(|&index| Placement {
                index,
                parameter: &self.parameters[index],
                addresses: self.addresses[index].clone(),
            })
            .take_while(move |placement| placement.addresses.start < range.end)
            .filter(move |placement| placement.addresses.end > range.start)
    }
}

/// Hands out addresses. `None` where they would not fit 64 bits.
struct Builder<'p> {
    chunk_bytes: u64,
    /// Where the next free address is.
    end: u64,
    regions: Vec<Region>,
    segments: Vec<Segment>,
    /// Where each list of parts was put.
    gathered: HashMap<&'p [Part], u64>,
}

impl<'p> Builder<'p> {
    fn new(chunk_bytes: u64) -> Self {
        Builder {
            chunk_bytes,
            end: 0,
            regions: Vec::new(),
            segments: Vec::new(),
            gathered: HashMap::new(),
        }
    }

    /// The addresses of `parameters`, in their order.
    fn place_all(
        &mut self,
        file_lengths: &[u64],
        parameters: &'p [Parameter],
    ) -> Option<Vec<Range<u64>>> {
        let bases = self.place_regions(file_lengths, parameters)?;
        parameters
            .iter()
            .map(|parameter| {
                let length = length(&parameter.parts)?;
                let start = match (linear(parameter), parameter.parts.is_empty()) {
                    (_, true) => 0,
                    (Some(part), _) => {
                        let region = self.regions.get(bases[part.file as usize]?)?;
                        region.address + (part.offset - region.file_offset)
                    }
                    (None, _) => self.gather(parameter, length)?,
                };
                Some(start..start.checked_add(length)?)
            })
            .collect()
    }

    /// Makes a region for each file that has linear parameters; gives each file its region.
    fn place_regions(
        &mut self,
        file_lengths: &[u64],
        parameters: &[Parameter],
    ) -> Option<Vec<Option<usize>>> {
        let mut extents: Vec<Option<Range<u64>>> = vec![None; file_lengths.len()];
        for part in parameters.iter().filter_map(linear) {
            let end = part.offset + part.length;
            let extent = extents[part.file as usize].get_or_insert(part.offset..end);
            *extent = extent.start.min(part.offset)..extent.end.max(end);
        }
        let mut bases = vec![None; file_lengths.len()];
        for (file, extent) in extents.into_iter().enumerate() {
            let Some(extent) = extent else { continue };
            let file_offset = extent.start - extent.start % self.chunk_bytes;
            let file_end = extent.end.checked_next_multiple_of(self.chunk_bytes)?;
            let address = self.end;
            self.end = address.checked_add(file_end - file_offset)?;
            bases[file] = Some(self.regions.len());
            self.regions.push(Region {
                address,
                end: self.end,
                file: file as u32,
                file_offset,
                file_length: file_lengths[file],
            });
        }
        Some(bases)
    }

    /// The address of a parameter that is not linear.
    fn gather(&mut self, parameter: &'p Parameter, length: u64) -> Option<u64> {
        let parts = parameter.parts.as_slice();
        if let Some(&address) = self.gathered.get(parts)
            && address.is_multiple_of(parameter.itemsize)
        {
            return Some(address);
        }
        let offset = parts.first()?.offset % DIRECT_ALIGNMENT;
        let alignment = parameter.itemsize.max(GATHERED_ALIGNMENT);
        // Fully loaded, a gathered parameter lies in memory that was allocated for it, and float32 kernels sum in
        // another order where an address is aligned otherwise. Narrower types have no such kernels.
        let kept = if parameter.itemsize < 4 {
            parameter.itemsize
        } else {
            alignment
        };
        let start = if offset.is_multiple_of(kept) {
            let wanted = offset + DIRECT_ALIGNMENT - self.end % DIRECT_ALIGNMENT;
            self.end.checked_add(wanted % DIRECT_ALIGNMENT)?
        } else {
            self.end.checked_next_multiple_of(alignment)?
        };
        self.end = start.checked_add(length)?;
        self.gathered.insert(parts, start);
        let mut address = start;
        for part in parts {
            self.segments.push(Segment {
                address,
                file: part.file,
                file_offset: part.offset,
                length: part.length,
            });
            address += part.length;
        }
        Some(start)
    }
}

/// The parameter's one part, where it can be used as the file has it.
fn linear(parameter: &Parameter) -> Option<Part> {
    match parameter.parts[..] {
        [part] if part.offset.is_multiple_of(parameter.itemsize) => Some(part),
        _ => None,
    }
}

/// Bytes of all parts.
fn length(parts: &[Part]) -> Option<u64> {
    parts
        .iter()
        .try_fold(0_u64, |sum, part| sum.checked_add(part.length))
}

pub(crate) fn check(parameter: &Parameter, file_lengths: &[u64]) -> Result<(), LayoutError> {
    let Parameter { itemsize, .. } = *parameter;
    if !itemsize.is_power_of_two() || itemsize > DIRECT_ALIGNMENT {
        return Err(LayoutError::ItemSize {
            parameter: parameter.name.clone(),
            got: itemsize,
        });
    }
    for part in &parameter.parts {
        let Some(&file_length) = file_lengths.get(part.file as usize) else {
            return Err(LayoutError::UnknownFile {
                parameter: parameter.name.clone(),
                files: file_lengths.len(),
                got: part.file,
            });
        };
        let end = part.offset.checked_add(part.length);
        if end.is_none_or(|end| end > file_length) {
            return Err(LayoutError::OutsideFile {
                parameter: parameter.name.clone(),
                file: part.file,
                file_length,
                offset: part.offset,
                length: part.length,
            });
        }
    }
    Ok(())
}

/// `parts` without empty ones, and those that follow each other in a file as one.
pub(crate) fn merged(parts: &[Part]) -> Vec<Part> {
    let mut merged: Vec<Part> = Vec::with_capacity(parts.len());
    for part in parts.iter().filter(|part| part.length > 0) {
        match merged.last_mut() {
            Some(last) if last.file == part.file && last.offset + last.length == part.offset => {
                last.length += part.length;
            }
            _ => merged.push(*part),
        }
    }
    merged
}
