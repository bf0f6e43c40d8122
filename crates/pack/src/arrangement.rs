//! Where each tensor will lie among the packed weights.

use std::ops::Range;

use weightstream::{Checkpoint, Content, Dtype, Part, Tensor, identity};
use weightstream_checkpoint::packed::{Element, FRAME_ALIGNMENT, FRAME_BYTES, element};

use crate::convert::is_convertible;
use crate::{Options, PackError};

/// A run of weights that comes from one place.
#[derive(Debug, Clone)]
pub struct Placed {
    /// Its range among the packed weights.
    pub addresses: Range<u64>,
    /// Where its bytes come from.
    pub part: Part,
    /// What they are there.
    pub stored: Dtype,
    /// What they become.
    pub dtype: Dtype,
}

/// Where everything will lie, known before anything is read.
#[derive(Debug)]
pub struct Arrangement {
    pub contents: Vec<Content>,
    /// As the manifest has them.
    pub tensors: Vec<Tensor>,
    /// By address; disjoint.
    pub placed: Vec<Placed>,
    /// Bytes of weights.
    pub weights: u64,
    pub chunk_bytes: u64,
    /// Which files are packed and how, as a number: two runs with the same one write the same bytes.
    pub fingerprint: [u8; 32],
}

impl Arrangement {
    /// Lays the tensors of `checkpoint` out.
    ///
    /// # Errors
    /// Options that can't be followed, and files that can't be read.
    pub fn new(checkpoint: &Checkpoint, options: &Options) -> Result<Self, PackError> {
        let chunk_bytes = options.chunk_bytes;
        if !chunk_bytes.is_power_of_two() || !(FRAME_BYTES..=64 << 20).contains(&chunk_bytes) {
            return Err(PackError::ChunkBytes { got: chunk_bytes });
        }
        let order = match &options.order {
            Some(order) => order.arrange(&checkpoint.tensors)?,
            None => (0..checkpoint.tensors.len()).collect(),
        };
        let mut tensors: Vec<Tensor> = Vec::with_capacity(order.len());
        let mut placed: Vec<Placed> = Vec::with_capacity(order.len());
        // Tied tensors, which share their bytes, go on doing so.
        let mut known = std::collections::HashMap::new();
        let mut end = 0;
        for position in order {
            let tensor = &checkpoint.tensors[position];
            let part = Part {
                file: tensor.file,
                offset: tensor.offset,
                length: tensor.length,
            };
            let dtype = match options.dtype {
                Some(wanted) if is_convertible(tensor.dtype) => wanted,
                _ => tensor.dtype,
            };
            let length = dtype.bytes(&tensor.shape).unwrap_or(tensor.length);
            let address = *known.entry((part, dtype)).or_insert_with(|| {
                let address = next_address(end, tensor, dtype);
                if length > 0 {
                    end = address + length;
                    placed.push(Placed {
                        addresses: address..end,
                        part,
                        stored: tensor.dtype,
                        dtype,
                    });
                }
                address
            });
            tensors.push(Tensor {
                name: tensor.name.clone(),
                dtype,
                shape: tensor.shape.clone(),
                file: 0,
                offset: if length == 0 { 0 } else { address },
                length,
            });
        }
        let mut arrangement = Self {
            contents: checkpoint.contents.clone(),
            tensors,
            placed,
            weights: end,
            chunk_bytes,
            fingerprint: [0; 32],
        };
        arrangement.fingerprint = arrangement.fingerprint(options)?;
        Ok(arrangement)
    }

    /// How many chunks there will be.
    pub fn chunks(&self) -> u64 {
        self.weights.div_ceil(self.chunk_bytes)
    }

    /// The addresses of chunk `chunk`.
    pub fn chunk(&self, chunk: u64) -> Range<u64> {
        let start = chunk * self.chunk_bytes;
        start..(start + self.chunk_bytes).min(self.weights)
    }

    /// What lies in `addresses`, by address.
    pub fn placed_in(&self, addresses: Range<u64>) -> &[Placed] {
        let first = self
            .placed
            .partition_point(|placed| placed.addresses.end <= addresses.start);
        let end = self
            .placed
            .partition_point(|placed| placed.addresses.start < addresses.end);
        self.placed.get(first..end.max(first)).unwrap_or_default()
    }

    /// The frames of chunk `chunk`: runs of elements of one kind, within aligned ranges of [`FRAME_BYTES`].
    pub fn frames(&self, chunk: u64) -> Vec<(Range<u64>, Element)> {
        let range = self.chunk(chunk);
        let mut frames: Vec<(Range<u64>, Element)> = Vec::new();
        for placed in self.placed_in(range.clone()) {
            let kind = element(placed.dtype);
            // A frame begins at a multiple of 64: what of the tensor before lies behind that goes along.
            let start = placed.addresses.start.max(range.start);
            let start = start - start % FRAME_ALIGNMENT;
            match frames.last_mut() {
                Some((_, last)) if *last == kind => {}
                Some((addresses, last)) if addresses.start >= start => *last = kind,
                Some((addresses, _)) => {
                    addresses.end = start;
                    frames.push((start..range.end, kind));
                }
                None => frames.push((range.clone(), kind)),
            }
        }
        frames.into_iter().flat_map(cut).collect()
    }

    fn fingerprint(&self, options: &Options) -> Result<[u8; 32], PackError> {
        let mut hash = blake3::Hasher::new();
        let mut field = |bytes: &[u8]| {
            hash.update(&(bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        field(env!("CARGO_PKG_VERSION").as_bytes());
        field(
            format!(
                "{:?} {} {}",
                options.code, options.chunk_bytes, options.file_bytes
            )
            .as_bytes(),
        );
        field(&identity(&self.contents)?);
        for tensor in &self.tensors {
            field(tensor.name.as_bytes());
            field(format!("{} {:?} {}", tensor.dtype, tensor.shape, tensor.offset).as_bytes());
        }
        for placed in &self.placed {
            field(format!("{placed:?}").as_bytes());
        }
        Ok(*hash.finalize().as_bytes())
    }
}

/// The first address from `end` on that is aligned as the tensor is where it is stored: results depend on it.
fn next_address(end: u64, tensor: &Tensor, dtype: Dtype) -> u64 {
    let itemsize = dtype.bits().div_ceil(8);
    let aligned = tensor.offset.is_multiple_of(itemsize) && dtype == tensor.dtype;
    let residue = if aligned {
        tensor.offset % FRAME_ALIGNMENT
    } else {
        0
    };
    let wanted = residue + FRAME_ALIGNMENT - end % FRAME_ALIGNMENT;
    end + wanted % FRAME_ALIGNMENT
}

fn cut((addresses, kind): (Range<u64>, Element)) -> impl Iterator<Item = (Range<u64>, Element)> {
    let mut start = addresses.start;
    std::iter::from_fn(move || {
        let end = (start - start % FRAME_BYTES + FRAME_BYTES).min(addresses.end);
        (start < end).then(|| (std::mem::replace(&mut start, end)..end, kind))
    })
}
