//! How budgets are cut into chunks for a model on a device.

use crate::cuda::decoding::{Decoder, Stored};
use crate::error::StreamError;
use crate::loader::Needs;
use crate::loader::plan::Contents;
use std::sync::Arc;
use weightstream_checkpoint::{BlockLayout, Content, Parameter, SlotImage};
use weightstream_engine::tiers::{Blocks, Depths, Tiers};
use weightstream_memory::cuda::Driver;
use weightstream_source::ReadError;

/// Copies of this size run at the full speed of the bus.
const LARGEST_CHUNK: u64 = 32 << 20;
/// Slots that make what streams a small share of the budget.
const SLOTS: u64 = 64;
/// Bytes in flight that keep a disk busy, and a copy engine between two looks at it.
const READ_AHEAD: u64 = 64 << 20;
const COPY_AHEAD: u64 = 96 << 20;

/// What host slots hold.
pub enum HostForm {
    /// Ranges of the files.
    Files,
    /// Chunks, decoded.
    Decoded(Needs),
    /// Chunks as they are stored, for the device to decode.
    Stored(Arc<Vec<Stored>>),
}

/// What is asked for.
pub struct Budgets {
    /// Bytes of device memory.
    pub memory: u64,
    /// Bytes of host memory.
    pub host_memory: u64,
    /// Bytes of one chunk, where they are prescribed.
    pub chunk_bytes: Option<u64>,
}

/// A model cut into chunks that fit.
pub struct Fitted {
    pub layout: BlockLayout,
    pub form: HostForm,
    pub tiers: Tiers,
    pub slots: usize,
    pub slot_bytes: usize,
    pub host_slots: usize,
    /// Bytes of device memory that would do.
    pub least: u64,
}

/// Cuts the weights of `blocks` into chunks for the budgets.
///
/// # Errors
/// A budget that is too small, with the least that works; parameters outside their files.
pub fn fit(
    contents: &[Content],
    parameters: &[Parameter],
    blocks: &[Vec<usize>],
    driver: &dyn Driver,
    budgets: &Budgets,
) -> Result<Fitted, StreamError> {
    let granularity = driver.granularity() as u64;
    let mut chunk_bytes = budgets.chunk_bytes.unwrap_or_else(|| {
        let even = budgets.memory / SLOTS / granularity * granularity;
        even.clamp(granularity, LARGEST_CHUNK.max(granularity))
    });
    let plain = contents.iter().all(Content::is_plain);
    let device_decodes = !plain && Decoder::works(driver);
    loop {
        match attempt(
            contents,
            parameters,
            blocks,
            driver,
            budgets,
            chunk_bytes,
            device_decodes,
        ) {
            // Smaller chunks where the blocks just don't fit whole large ones.
            Err(StreamError::Budget { .. })
                if budgets.chunk_bytes.is_none() && chunk_bytes >= 2 * granularity =>
            {
                chunk_bytes = chunk_bytes / 2 / granularity * granularity;
            }
            result => return result,
        }
    }
}

fn attempt(
    contents: &[Content],
    parameters: &[Parameter],
    blocks: &[Vec<usize>],
    driver: &dyn Driver,
    budgets: &Budgets,
    chunk_bytes: u64,
    device_decodes: bool,
) -> Result<Fitted, StreamError> {
    let lengths: Vec<u64> = contents.iter().map(Content::length).collect();
    let image = if contents.iter().all(Content::is_plain) {
        SlotImage::File
    } else {
        SlotImage::Device
    };
    let layout = BlockLayout::new(&lengths, parameters.to_vec(), blocks, chunk_bytes, image)?;
    let form = form(contents, &layout, image, device_decodes)?;
    let (slot_bytes, beside, on_device) = match &form {
        HostForm::Files => (layout.slot_bytes(), 0, 0),
        HostForm::Decoded(needs) => (layout.slot_bytes(), needs.memory(), 0),
        HostForm::Stored(chunks) => {
            let slot_bytes = chunks.iter().map(Stored::bytes).max().unwrap_or(1);
            (slot_bytes, 0, Decoder::memory(driver, slot_bytes) as u64)
        }
    };

    let depths = Depths {
        reads: (READ_AHEAD / chunk_bytes).clamp(2, 16) as usize,
        copies: (COPY_AHEAD / chunk_bytes).clamp(3, 48) as usize,
    };
    let host_slots = slots(
        budgets.host_memory.saturating_sub(beside),
        slot_bytes as u64,
    );
    let least_host = depths.reads.min(2) + 1;
    if host_slots < least_host {
        return Err(StreamError::HostBudget {
            given: budgets.host_memory,
            least: (least_host * slot_bytes) as u64 + beside,
        });
    }
    let host_slots = host_slots.min(layout.chunks() as usize);
    let device_slots =
        slots(budgets.memory.saturating_sub(on_device), chunk_bytes).min(layout.chunks() as usize);
    let members: Vec<Vec<u32>> = blocks.iter().map(|block| layout.chunks_of(block)).collect();
    let always = layout.chunks_of(&outside(blocks, layout.parameters().len()));
    let largest = members.iter().map(|block| {
        let own = block.iter().filter(|chunk| !always.contains(chunk));
        own.count()
    });
    let least = (always.len() + largest.max().unwrap_or(0)) as u64 * chunk_bytes + on_device;
    let known = Blocks {
        count: layout.chunks(),
        blocks: members,
        always,
    };
    let tiers = Tiers::new(known, device_slots, host_slots, depths).map_err(|small| {
        StreamError::Budget {
            given: budgets.memory,
            least: small.least as u64 * chunk_bytes + on_device,
        }
    })?;
    Ok(Fitted {
        layout,
        form,
        tiers,
        slots: device_slots,
        slot_bytes,
        host_slots,
        least,
    })
}

fn form(
    contents: &[Content],
    layout: &BlockLayout,
    image: SlotImage,
    device_decodes: bool,
) -> Result<HostForm, ReadError> {
    if image == SlotImage::File {
        return Ok(HostForm::Files);
    }
    if device_decodes && let Some(chunks) = Stored::all(layout, &Contents::new(contents.to_vec()))?
    {
        return Ok(HostForm::Stored(Arc::new(chunks)));
    }
    let pieces = layout
        .fills()
        .iter()
        .map(|fill| fill.pieces.iter().copied());
    Ok(HostForm::Decoded(Needs::of(contents, pieces)?))
}

fn slots(memory: u64, each: u64) -> usize {
    usize::try_from(memory / each.max(1)).unwrap_or(usize::MAX)
}

/// The parameters that belong to no block.
pub fn outside(blocks: &[Vec<usize>], count: usize) -> Vec<usize> {
    let mut inside = vec![false; count];
    for &index in blocks.iter().flatten() {
        if let Some(place) = inside.get_mut(index) {
            *place = true;
        }
    }
    (0..count)
        .filter(|&index| !inside.get(index).copied().unwrap_or(true))
        .collect()
}
