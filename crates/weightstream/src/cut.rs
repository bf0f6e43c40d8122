//! How a model and a budget are cut into chunks and slots.

use crate::budget;
use crate::error::StreamError;
use crate::loader::{Needs, stored_bytes};
use weightstream_checkpoint::{Content, Layout, Parameter};
use weightstream_engine::{Chunks, Engine};

/// Everything about a stream that follows from its weights and its budget.
pub struct Cut {
    pub layout: Layout,
    pub chunks: Chunks,
    pub needs: Needs,
    pub slots: usize,
    /// What each chunk takes as it is stored; empty where nothing is decoded.
    stored: Vec<u32>,
    /// The least budget in bytes for these weights in such chunks.
    pub least: u64,
}

impl Cut {
    /// Cuts `memory` bytes for `parameters` of `contents`; in chunks of `chunk_bytes`, or as it fits.
    pub fn new(
        contents: &[Content],
        parameters: Vec<Parameter>,
        memory: u64,
        chunk_bytes: Option<u64>,
    ) -> Result<Self, StreamError> {
        let lengths: Vec<u64> = contents.iter().map(Content::length).collect();
        let chunk_bytes = chunk_bytes.unwrap_or_else(|| budget::chunk_bytes(memory, &parameters));
        let layout = layout(&lengths, parameters, chunk_bytes)?;
        let needs = needs(contents, &layout)?;
        let slots = budget::slots(memory, chunk_bytes, needs.memory())?;
        let chunks = chunks(&layout);
        Ok(Self {
            slots: slots.min(chunks.used.len().max(1)),
            stored: stored(contents, &layout, needs)?,
            chunks,
            least: budget::least(chunk_bytes) + needs.memory(),
            needs,
            layout,
        })
    }

    /// The same weights in chunks that are `factor` times as large, for whoever only reckons with them. Slots, buffers
    /// and the least budget stay as they are.
    pub fn coarser(self, contents: &[Content], factor: u64) -> Result<Self, StreamError> {
        let chunk_bytes = self.layout.chunk_bytes() as u64 * factor;
        let parameters = self.layout.parameters().to_vec();
        let lengths: Vec<u64> = contents.iter().map(Content::length).collect();
        let layout = layout(&lengths, parameters, chunk_bytes)?;
        Ok(Self {
            chunks: chunks(&layout),
            stored: stored(contents, &layout, self.needs)?,
            layout,
            ..self
        })
    }

    /// The policy for it.
    pub fn engine(&self) -> Engine {
        Engine::new(self.chunks.clone(), self.slots, budget::threads())
            .with_decoders(self.needs.decoders)
            .with_stored(self.stored.clone())
    }
}

/// How a budget fits a model, before anything is opened or simulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fit {
    /// Bytes of one chunk.
    pub chunk_bytes: u64,
    /// The least budget in bytes in which the model streams at all: a smaller budget is cut into smaller chunks.
    pub least_memory: u64,
}

/// How `memory` bytes fit `parameters` of `contents`.
///
/// # Errors
/// [`StreamError::Budget`], which names the least that works; parts outside their files.
pub fn fit(
    contents: &[Content],
    parameters: &[Parameter],
    memory: u64,
) -> Result<Fit, StreamError> {
    let lengths: Vec<u64> = contents.iter().map(Content::length).collect();
    let least = |memory: u64| -> Result<(u64, u64), StreamError> {
        let chunk_bytes = budget::chunk_bytes(memory, parameters);
        let layout = layout(&lengths, parameters.to_vec(), chunk_bytes)?;
        let least = budget::least(chunk_bytes) + needs(contents, &layout)?.memory();
        Ok((chunk_bytes, least))
    };
    let (chunk_bytes, mut least_memory) = least(memory)?;
    let fits = memory >= least_memory;
    loop {
        let (_, smaller) = least(least_memory)?;
        if smaller >= least_memory {
            break;
        }
        least_memory = smaller;
    }
    if !fits {
        return Err(StreamError::Budget {
            given: memory,
            least: least_memory,
        });
    }
    Ok(Fit {
        chunk_bytes,
        least_memory,
    })
}

fn layout(
    lengths: &[u64],
    parameters: Vec<Parameter>,
    chunk_bytes: u64,
) -> Result<Layout, StreamError> {
    let chunk_size = usize::try_from(chunk_bytes).unwrap_or(usize::MAX);
    Ok(Layout::new(lengths, parameters, chunk_size)?)
}

fn used(layout: &Layout) -> impl Iterator<Item = u32> {
    (0..layout.chunks()).filter(|&chunk| layout.is_used(chunk))
}

fn needs(contents: &[Content], layout: &Layout) -> Result<Needs, StreamError> {
    Ok(Needs::of(
        contents,
        used(layout).map(|chunk| layout.pieces(chunk)),
    )?)
}

/// What each chunk takes as it is stored; nothing where nothing is decoded.
fn stored(contents: &[Content], layout: &Layout, needs: Needs) -> Result<Vec<u32>, StreamError> {
    let pieces = (0..layout.chunks()).map(|chunk| layout.pieces(chunk));
    Ok(match needs.buffers {
        0 => Vec::new(),
        _ => stored_bytes(contents, pieces)?,
    })
}

fn chunks(layout: &Layout) -> Chunks {
    let used: Vec<u32> = used(layout).collect();
    let sliced = |most: u64| -> Vec<u32> {
        let chunks = used.iter().copied();
        chunks
            .filter(|&chunk| is_sliced(layout, chunk, most))
            .collect()
    };
    Chunks {
        count: layout.chunks(),
        sparse: sliced(u64::MAX),
        rows: sliced(layout.chunk_bytes() as u64),
        used,
    }
}

/// Whether all that lies in the chunk is used in slices of fewer than `most` bytes: a pass may do without it.
fn is_sliced(layout: &Layout, chunk: u32, most: u64) -> bool {
    layout.parameters_in(chunk).all(|placed| {
        let (unit, length) = (
            placed.parameter.unit,
            placed.addresses.end - placed.addresses.start,
        );
        unit != 0 && unit < length && unit < most
    })
}
