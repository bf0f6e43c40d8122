//! How a budget is cut into chunks.

use crate::error::StreamError;
use weightstream_checkpoint::Parameter;
use weightstream_engine::least_slots;

/// Below this a read costs more in latency than in transfer.
const SMALLEST: u64 = 256 << 10;
/// A disk is at full speed with a few reads of this size in flight; larger chunks only make the window larger.
const LARGEST: u64 = 2 << 20;
/// Slots that make the streaming window a small share of the budget.
const SLOTS: u64 = 96;
/// Each published chunk is a mapping of its own, and the kernel allows 65,530 of them by default.
const MOST_SLOTS: u64 = 8000;

/// Processors that may touch weights at once.
pub fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The least memory in bytes that a stream can run in.
pub fn least_memory() -> u64 {
    least(SMALLEST)
}

/// The least memory in bytes for chunks of `chunk_bytes`.
pub fn least(chunk_bytes: u64) -> u64 {
    least_slots(threads()) as u64 * chunk_bytes.max(SMALLEST)
}

/// The chunk size in bytes (a power of two) for a budget of `memory` bytes.
pub fn chunk_bytes(memory: u64, parameters: &[Parameter]) -> u64 {
    let floor_power = |bytes: u64| 1u64 << bytes.max(1).ilog2();
    let mut chunk = floor_power(memory / SLOTS).clamp(SMALLEST, LARGEST);
    // Where most bytes are used a slice at a time (experts), a chunk should not be much larger than the ends of a
    // slice: whatever else lies in it is read for nothing.
    let length =
        |parameter: &Parameter| parameter.parts.iter().map(|part| part.length).sum::<u64>();
    let total: u64 = parameters.iter().map(length).sum();
    let sliced = || {
        parameters
            .iter()
            .filter(|parameter| parameter.unit >= SMALLEST && parameter.unit < length(parameter))
    };
    if sliced().map(length).sum::<u64>() * 2 > total
        && let Some(unit) = sliced().map(|parameter| parameter.unit).min()
    {
        chunk = chunk.min(floor_power(unit / 4).max(SMALLEST));
    }
    // Memory that the model doesn't need buys no slots.
    while memory.min(total) / chunk > MOST_SLOTS {
        chunk *= 2;
    }
    chunk
}

/// How many slots of `chunk_bytes` a budget of `memory` bytes buys, of which buffers take `buffers`.
pub fn slots(memory: u64, chunk_bytes: u64, buffers: u64) -> Result<usize, StreamError> {
    let slots = memory.saturating_sub(buffers) / chunk_bytes;
    if slots < least_slots(threads()) as u64 {
        return Err(StreamError::Budget {
            given: memory,
            least: least(chunk_bytes) + buffers,
        });
    }
    Ok(usize::try_from(slots).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use weightstream_checkpoint::Part;

    fn parameter(length: u64, unit: u64) -> Parameter {
        Parameter {
            name: String::new(),
            parts: vec![Part {
                file: 0,
                offset: 0,
                length,
            }],
            itemsize: 2,
            unit,
        }
    }

    #[test]
    fn chunks_grow_with_the_budget_and_shrink_with_slices() {
        let dense = [parameter(4 << 30, 0)];
        assert_eq!(chunk_bytes(1_000_000_000, &dense), 2 << 20);
        assert_eq!(chunk_bytes(32 << 20, &dense), 256 << 10);
        let experts = [parameter(1 << 30, 0), parameter(3 << 30, 3 << 20)];
        assert_eq!(chunk_bytes(1_000_000_000, &experts), 512 << 10);
        // A budget of very many slots would exhaust the kernel's mappings.
        let large = [parameter(100 << 30, 0)];
        assert!((64 << 30) / chunk_bytes(64 << 30, &large) <= MOST_SLOTS);
        assert_eq!(chunk_bytes(u64::MAX, &dense), LARGEST);
    }

    #[test]
    fn too_small_a_budget_names_the_least() {
        let Err(StreamError::Budget { given, least }) = slots(1 << 20, SMALLEST, 0) else {
            panic!("accepted")
        };
        assert_eq!(given, 1 << 20);
        assert!(slots(least, SMALLEST, 0).is_ok());
        assert!(slots(least - 1, SMALLEST, 0).is_err());
    }
}
