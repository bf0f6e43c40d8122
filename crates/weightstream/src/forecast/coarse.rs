//! Very large models are simulated in larger chunks, so that a forecast never takes more than some seconds.
//!
//! Passes over n chunks, in a pool of s of which streaming takes w, do f times what passes over n / f chunks do in a
//! pool of w + (s - w) / f: of both, the same part stays. So f chunks are simulated as one, which takes f times as long.

use super::Use;
use crate::residency::Residency;
use std::ops::Range;
use weightstream_checkpoint::Layout;
use weightstream_engine::Engine;

/// Touches of chunks in a pass that are still simulated one by one: those of 512 GiB in chunks of 2 MiB.
pub const TOUCHES: u64 = 1 << 18;

/// A pass of larger chunks may touch so much more of the model: where it uses experts or rows, whole chunks around them
/// would be read that are not.
const MORE: f64 = 1.005;

/// Steps in which the slots that streaming takes of slots that depend on them are found.
const SETTLE: usize = 4;

/// How many chunks of `layout` are simulated as one, so that a pass that does `program` has at most `touches`.
pub fn factor(layout: &Layout, program: &[Use], touches: u64) -> u64 {
    let chunk_bytes = layout.chunk_bytes() as u64;
    let touched = |factor: u64| touched(layout, program, chunk_bytes * factor);
    let exact = touched(1);
    let mut factor = 1;
    while touched(factor) > touches
        && (touched(2 * factor) * 2 * factor) as f64 <= exact as f64 * MORE
    {
        factor *= 2;
    }
    factor
}

/// Chunks of `chunk_bytes` that a pass touches, one after the other.
fn touched(layout: &Layout, program: &[Use], chunk_bytes: u64) -> u64 {
    let mut last: Option<Range<u64>> = None;
    let mut count = 0;
    for step in program {
        let Use::Weights { parameter, bytes } = step else {
            continue;
        };
        let address = layout.address(*parameter);
        let chunks =
            (address + bytes.start) / chunk_bytes..(address + bytes.end).div_ceil(chunk_bytes);
        count += chunks.end - chunks.start;
        // Neighbours share a chunk.
        count -=
            u64::from(last.is_some_and(|last| last.end == chunks.start + 1 && !chunks.is_empty()));
        last = Some(chunks);
    }
    count
}

/// How many chunks of its own size `engine` would keep in `slots`, where chunks stay in slots.
pub fn kept(engine: &Engine, slots: usize) -> u64 {
    (slots - engine.streaming_of(slots)) as u64
}

/// Slots in which `engine` does with chunks `factor` times as large what it does in `slots` with its own.
pub fn slots(engine: &Engine, slots: usize, residency: Residency, factor: u64) -> usize {
    match residency {
        // In slots nothing stays: what streaming takes is the same for all chunks.
        Residency::Coded => slots,
        Residency::Decoded => {
            let kept = kept(engine, slots) as f64 / factor as f64;
            let kept = kept.round() as usize;
            // In fewer slots streaming takes fewer.
            (0..SETTLE).fold(slots, |slots, _| kept + engine.streaming_of(slots))
        }
    }
}
