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
        let chunk_size = usize::try_from(chunk_bytes).unwrap_or(usize::MAX);
        let layout = Layout::new(&lengths, parameters, chunk_size)?;
        let used: Vec<u32> = (0..layout.chunks())
            .filter(|&chunk| layout.is_used(chunk))
            .collect();
        let needs = Needs::of(contents, used.iter().map(|&chunk| layout.pieces(chunk)))?;
        let slots = budget::slots(memory, chunk_bytes, needs.memory())?;
        let stored = match needs.buffers {
            0 => Vec::new(),
            _ => stored_bytes(
                contents,
                (0..layout.chunks()).map(|chunk| layout.pieces(chunk)),
            )?,
        };
        let sliced = |most: u64| -> Vec<u32> {
            used.iter()
                .copied()
                .filter(|&chunk| is_sliced(&layout, chunk, most))
                .collect()
        };
        let (sparse, rows) = (sliced(u64::MAX), sliced(chunk_bytes));
        Ok(Self {
            slots: slots.min(used.len().max(1)),
            stored,
            chunks: Chunks {
                count: layout.chunks(),
                used,
                sparse,
                rows,
            },
            least: budget::least(chunk_bytes) + needs.memory(),
            needs,
            layout,
        })
    }

    /// The policy for it.
    pub fn engine(&self) -> Engine {
        Engine::new(self.chunks.clone(), self.slots, budget::threads())
            .with_decoders(self.needs.decoders)
            .with_stored(self.stored.clone())
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
