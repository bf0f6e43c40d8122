//! Which chunks stay in the pool for good.

use crate::Chunk;
use crate::bits::ChunkSet;

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
    /// Keeps `room` of the chunks in `order`, or all where they fit.
    pub fn scatter(order: &[Chunk], room: usize, chunks: usize) -> Self {
        let mut plan = Self {
            kept: ChunkSet::new(chunks),
            count: 0,
        };
        let total = order.len();
        let room = room.min(total);
        for (index, &chunk) in order.iter().enumerate() {
            // Bresenham: the number kept so far follows index * room / total as closely as whole numbers can.
            if (index + 1) * room / total > index * room / total && plan.kept.insert(chunk) {
                plan.count += 1;
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
        let plan = Plan::scatter(&order, 290, 1000);
        assert_eq!(plan.count(), 290);
        for stretch in order.chunks(100) {
            assert_eq!(
                stretch.iter().filter(|&&chunk| plan.keeps(chunk)).count(),
                29
            );
        }
    }

    #[test]
    fn all_stay_where_all_fit() {
        let plan = Plan::scatter(&[3, 1, 2], 9, 4);
        assert!(plan.keeps(1) && plan.keeps(2) && plan.keeps(3) && !plan.keeps(0));
        assert_eq!(Plan::scatter(&[], 9, 4).count(), 0);
    }
}
