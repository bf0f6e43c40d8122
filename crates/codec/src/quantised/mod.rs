//! Blocks of quantised weights as GGUF files hold them, and the values that they stand for.
//!
//! A block is a few scales and the small integers of 32 or 256 neighbouring values. [`dequantise`] gives the values bit
//! for bit as the Python package `gguf` does in float32, then rounds them to the nearest bf16 or fp16, ties to even, as
//! `torch.Tensor.to` does: together what transformers loads from a GGUF file.

mod blocks;
mod cast;

use std::fmt;

use crate::{Element, Kernel};

/// The layout of a quantised block. The names are GGUF's own.
#[allow(non_camel_case_types, missing_docs)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Quantised {
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2_K,
    Q3_K,
    Q4_K,
    Q5_K,
    Q6_K,
}

impl Quantised {
    /// Every layout that can be read.
    pub const ALL: [Quantised; 10] = [
        Quantised::Q4_0,
        Quantised::Q4_1,
        Quantised::Q5_0,
        Quantised::Q5_1,
        Quantised::Q8_0,
        Quantised::Q2_K,
        Quantised::Q3_K,
        Quantised::Q4_K,
        Quantised::Q5_K,
        Quantised::Q6_K,
    ];

    /// How many values a block stands for.
    pub const fn values(self) -> usize {
        match self {
            Quantised::Q4_0
            | Quantised::Q4_1
            | Quantised::Q5_0
            | Quantised::Q5_1
            | Quantised::Q8_0 => 32,
            Quantised::Q2_K
            | Quantised::Q3_K
            | Quantised::Q4_K
            | Quantised::Q5_K
            | Quantised::Q6_K => 256,
        }
    }

    /// Bytes of a block.
    pub const fn bytes(self) -> usize {
        match self {
            Quantised::Q4_0 => 18,
            Quantised::Q4_1 => 20,
            Quantised::Q5_0 => 22,
            Quantised::Q5_1 => 24,
            Quantised::Q8_0 => 34,
            Quantised::Q2_K => 84,
            Quantised::Q3_K => 110,
            Quantised::Q4_K => 144,
            Quantised::Q5_K => 176,
            Quantised::Q6_K => 210,
        }
    }

    /// GGUF's word for it: `"Q4_K"`.
    pub const fn name(self) -> &'static str {
        match self {
            Quantised::Q4_0 => "Q4_0",
            Quantised::Q4_1 => "Q4_1",
            Quantised::Q5_0 => "Q5_0",
            Quantised::Q5_1 => "Q5_1",
            Quantised::Q8_0 => "Q8_0",
            Quantised::Q2_K => "Q2_K",
            Quantised::Q3_K => "Q3_K",
            Quantised::Q4_K => "Q4_K",
            Quantised::Q5_K => "Q5_K",
            Quantised::Q6_K => "Q6_K",
        }
    }
}

impl fmt::Display for Quantised {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Blocks that can't be dequantised: what was expected and what was got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the fields are what the message says
pub enum DequantiseError {
    #[error("expected whole {kind} blocks of {block} bytes, got {got} bytes")]
    PartialBlock {
        kind: Quantised,
        block: usize,
        got: usize,
    },

    #[error("expected room for the {expected} bytes of {kind} blocks' values, got room for {got}")]
    Room {
        kind: Quantised,
        expected: usize,
        got: usize,
    },

    #[error("expected bf16, fp16 or fp32 to dequantise to, got {got:?}")]
    Target { got: Element },
}

/// Writes the values that whole `blocks` stand for to `out`, as little-endian numbers of the dtype `to`.
///
/// # Errors
/// Blocks that aren't whole, room of another size than the values', or [`Element::Bytes`] to write.
pub fn dequantise(
    kind: Quantised,
    blocks: &[u8],
    to: Element,
    out: &mut [u8],
) -> Result<(), DequantiseError> {
    let width = match to {
        Element::Bf16 | Element::F16 => 2,
        Element::F32 => 4,
        Element::Bytes => return Err(DequantiseError::Target { got: to }),
    };
    if !blocks.len().is_multiple_of(kind.bytes()) {
        return Err(DequantiseError::PartialBlock {
            kind,
            block: kind.bytes(),
            got: blocks.len(),
        });
    }
    let expected = blocks.len() / kind.bytes() * kind.values() * width;
    if out.len() != expected {
        return Err(DequantiseError::Room {
            kind,
            expected,
            got: out.len(),
        });
    }
    Kernel::fastest().dequantise(kind, blocks, to, out);
    Ok(())
}

/// [`dequantise`] of arguments that fit. Inlined into a function per kernel, for whose vectors it is then compiled.
#[inline(always)]
pub(crate) fn convert(kind: Quantised, blocks: &[u8], to: Element, out: &mut [u8]) {
    match kind {
        Quantised::Q4_0 => each::<18, 32>(blocks, to, out, blocks::q4_0),
        Quantised::Q4_1 => each::<20, 32>(blocks, to, out, blocks::q4_1),
        Quantised::Q5_0 => each::<22, 32>(blocks, to, out, blocks::q5_0),
        Quantised::Q5_1 => each::<24, 32>(blocks, to, out, blocks::q5_1),
        Quantised::Q8_0 => each::<34, 32>(blocks, to, out, blocks::q8_0),
        Quantised::Q2_K => each::<84, 256>(blocks, to, out, blocks::q2_k),
        Quantised::Q3_K => each::<110, 256>(blocks, to, out, blocks::q3_k),
        Quantised::Q4_K => each::<144, 256>(blocks, to, out, blocks::q4_k),
        Quantised::Q5_K => each::<176, 256>(blocks, to, out, blocks::q5_k),
        Quantised::Q6_K => each::<210, 256>(blocks, to, out, blocks::q6_k),
    }
}

#[inline(always)]
fn each<const BYTES: usize, const VALUES: usize>(
    blocks: &[u8],
    to: Element,
    out: &mut [u8],
    values_of: impl Fn(&[u8; BYTES], &mut [f32; VALUES]),
) {
    let width = if to == Element::F32 { 4 } else { 2 };
    let mut values = [0.0; VALUES];
    let blocks = blocks.as_chunks::<BYTES>().0;
    for (block, out) in blocks.iter().zip(out.chunks_exact_mut(VALUES * width)) {
        values_of(block, &mut values);
        match to {
            Element::Bf16 => cast::to_bf16(&values, out),
            Element::F16 => cast::to_f16(&values, out),
            Element::F32 | Element::Bytes => cast::to_f32(&values, out),
        }
    }
}
