//! Which chunks stay in the pool for good.

use crate::bits::ChunkSet;
use crate::{Chunk, effort};

/// A set of chunks to keep, scattered evenly through the order of use.
///
/// In a cyclic scan every kept chunk saves one read per pass, whichever it is. Scattering them lets the disk read
/// without a pause: keeping the first ones instead would leave it idle for the start of a pass and late for the rest.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    kept: ChunkSet,
    count: usize,
}

impl Plan {
    /// Keeps `room` of the chunks in `order`, or all where they fit; those in `first` before the others.
    ///
    /// Each chunk has a rank of its own, and the lowest ranks stay. Multiples of the golden ratio, modulo one, spread
    /// any run of neighbours evenly (Steinhaus' three-distance theorem), and neighbours in address are neighbours in
    /// time. As the rank depends on nothing else, a budget or an order that changes a little changes few choices:
    /// each changed choice is a chunk to be read again.
    pub fn scatter(order: &[Chunk], room: usize, chunks: usize, first: &ChunkSet) -> Self {
        Self::scatter_within(order, room as u64, |_| 1, chunks, first)
    }

    /// As [`scatter`](Self::scatter), for chunks of which each takes `size(chunk)` of the `room`.
    pub fn scatter_within(
        order: &[Chunk],
        mut room: u64,
        size: impl Fn(Chunk) -> u64,
        chunks: usize,
        first: &ChunkSet,
    ) -> Self {
        const GOLDEN_RATIO: u32 = 0x9E37_79B9;
        let mut plan = Self {
            kept: ChunkSet::new(chunks),
            count: 0,
        };
        let rank = |chunk: Chunk| {
            (
                !first.contains(chunk),
                chunk.wrapping_mul(GOLDEN_RATIO),
                chunk,
            )
        };
        effort::spend(order.len());
        let mut ranked: Vec<_> = order.iter().map(|&chunk| rank(chunk)).collect();
        ranked.sort_unstable();
        for (_, _, chunk) in ranked {
            let Some(left) = room.checked_sub(size(chunk)) else {
                break;
            };
            if plan.kept.insert(chunk) {
                plan.count += 1;
                room = left;
            }
        }
        plan
    }

    /// Whether the chunk is to stay.
    pub fn keeps(&self, chunk: Chunk) -> bool {
        self.kept.contains(chunk)
    }

    /// How many are to stay.
    pub fn count(&self) -> usize {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stretch_keeps_its_share() {
        let order: Vec<Chunk> = (0..1000).rev().collect();
        let plan = Plan::scatter(&order, 290, 1000, &ChunkSet::default());
        assert_eq!(plan.count(), 290);
        for stretch in order.chunks(20) {
            let kept = stretch.iter().filter(|&&chunk| plan.keeps(chunk)).count();
            assert!((4..=8).contains(&kept), "{kept} of 20");
        }
    }

    #[test]
    fn a_small_change_changes_few_choices() {
        let order: Vec<Chunk> = (0..1000).collect();
        let before = Plan::scatter(&order, 290, 1000, &ChunkSet::default());
        let after = Plan::scatter(&order[1..], 285, 1000, &ChunkSet::default());
        let changed = order
            .iter()
            .filter(|&&chunk| before.keeps(chunk) != after.keeps(chunk))
            .count();
        assert!(changed <= 6, "{changed} choices changed");
    }

    #[test]
    fn all_stay_where_all_fit() {
        let plan = Plan::scatter(&[3, 1, 2], 9, 4, &ChunkSet::default());
        assert!(plan.keeps(1) && plan.keeps(2) && plan.keeps(3) && !plan.keeps(0));
        assert_eq!(Plan::scatter(&[], 9, 4, &ChunkSet::default()).count(), 0);
    }
}
