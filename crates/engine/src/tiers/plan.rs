//! Which chunks stay on the device for good.

use crate::bits::ChunkSet;
use crate::plan::Plan;
use crate::{Chunk, tiers::TooSmall};

/// A choice of chunks to keep, such that every block fits beside them and the next one can come meanwhile.
#[derive(Debug, Clone, Default)]
pub struct TierPlan {
    plan: Plan,
}

impl TierPlan {
    /// Keeps as many of the blocks' chunks as `limit` slots allow.
    ///
    /// While a block computes all its chunks are needed at once, and the next block's should be arriving. A block that
    /// is larger than most (an embedding, a head) would dictate that room for the whole pass; so of such blocks
    /// enough is kept that each has at most `share` chunks to stream, the least share for which everything fits. What
    /// is left is kept evenly scattered, so that copying never pauses. `always` stays in any case.
    ///
    /// # Errors
    /// The largest block doesn't fit beside `always`: says how many slots would do.
    pub fn new(
        blocks: &[Vec<Chunk>],
        always: &ChunkSet,
        count: usize,
        limit: usize,
    ) -> Result<Self, TooSmall> {
        let mut tour = Vec::new();
        let mut seen = always.clone();
        let first: Vec<Chunk> = (0..count as Chunk)
            .filter(|&c| always.contains(c))
            .collect();
        for &chunk in blocks.iter().flatten() {
            if seen.insert(chunk) {
                tour.push(chunk);
            }
        }
        let sizes: Vec<usize> = blocks
            .iter()
            .map(|block| block.iter().filter(|&&c| !always.contains(c)).count())
            .collect();
        let largest = sizes.iter().copied().max().unwrap_or(0);
        let least = first.len() + largest;
        if least > limit {
            return Err(TooSmall { least });
        }
        let room = limit - first.len();
        let mut order = first.clone();
        order.extend(&tour);
        let mut mandatory = always.clone();
        if tour.len() <= room {
            let plan = Plan::scatter(&order, order.len(), count, &mandatory);
            return Ok(Self { plan });
        }
        let (share, ahead) = share(&sizes, room);
        for (block, &size) in blocks.iter().zip(&sizes) {
            let own: Vec<Chunk> = block
                .iter()
                .copied()
                .filter(|&c| !always.contains(c))
                .collect();
            let kept = Plan::scatter(
                &own,
                size.saturating_sub(share),
                count,
                &ChunkSet::default(),
            );
            for chunk in own.into_iter().filter(|&c| kept.keeps(c)) {
                mandatory.insert(chunk);
            }
        }
        let keep = limit - share - ahead;
        Ok(Self {
            plan: Plan::scatter(&order, keep, count, &mandatory),
        })
    }

    /// Whether the chunk is to stay.
    pub fn keeps(&self, chunk: Chunk) -> bool {
        self.plan.keeps(chunk)
    }

    /// How many are to stay.
    pub fn count(&self) -> usize {
        self.plan.count()
    }
}

/// How many chunks any block may stream, and how many may come ahead of it.
fn share(sizes: &[usize], room: usize) -> (usize, usize) {
    let largest = sizes.iter().copied().max().unwrap_or(0);
    let typical = typical(sizes);
    let mut ahead = typical;
    loop {
        for share in 1..=largest {
            let kept: usize = sizes.iter().map(|size| size.saturating_sub(share)).sum();
            let wanted = ahead.min(share);
            if kept + share + wanted <= room {
                return (share, wanted);
            }
        }
        if ahead == 0 {
            return (largest, 0);
        }
        ahead /= 2;
    }
}

/// The size of the block in which the middle chunk lies.
fn typical(sizes: &[usize]) -> usize {
    let mut sorted = sizes.to_vec();
    sorted.sort_unstable();
    let total: usize = sorted.iter().sum();
    let mut before = 0;
    for size in sorted {
        before += size;
        if before * 2 >= total {
            return size;
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(sizes: &[usize]) -> Vec<Vec<Chunk>> {
        let mut next = 0;
        sizes
            .iter()
            .map(|&size| {
                let block = (next..next + size as Chunk).collect();
                next += size as Chunk;
                block
            })
            .collect()
    }

    #[test]
    fn a_large_head_does_not_dictate_the_window() {
        let mut sizes = vec![37];
        sizes.extend([12; 36]);
        sizes.push(37);
        let blocks = blocks(&sizes);
        let plan = TierPlan::new(&blocks, &ChunkSet::new(506), 506, 64).unwrap();
        let streamed = |block: &Vec<Chunk>| block.iter().filter(|&&c| !plan.keeps(c)).count();
        let most = blocks.iter().map(streamed).max().unwrap();
        assert!(
            plan.count() >= 30 && plan.count() + most + 12 <= 64,
            "{} {most}",
            plan.count()
        );
    }

    #[test]
    fn every_block_fits_beside_what_is_kept() {
        for limit in 14..80 {
            for sizes in [vec![12; 6], vec![3, 12, 1, 7, 12], vec![1, 1, 1, 12]] {
                let blocks = blocks(&sizes);
                let count: usize = sizes.iter().sum();
                let mut always = ChunkSet::new(count + 2);
                always.insert(count as Chunk);
                always.insert(count as Chunk + 1);
                let plan = TierPlan::new(&blocks, &always, count + 2, limit).unwrap();
                for block in &blocks {
                    let streamed = block.iter().filter(|&&c| !plan.keeps(c)).count();
                    assert!(plan.count() + streamed <= limit);
                }
                assert!(plan.keeps(count as Chunk));
                if limit >= count + 2 {
                    assert_eq!(plan.count(), count + 2);
                }
            }
        }
    }

    #[test]
    fn too_little_names_the_least() {
        let error = TierPlan::new(&blocks(&[3, 9]), &ChunkSet::new(12), 12, 8).unwrap_err();
        assert_eq!(error, TooSmall { least: 9 });
    }
}
