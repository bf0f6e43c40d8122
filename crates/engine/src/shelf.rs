//! Chunks that stay in memory as they are stored: coded, they take less of it than decoded in a slot.
//!
//! The engine decides which; whoever loads keeps their stored bytes, and decodes them again instead of reading them.

use crate::Chunk;
use crate::engine::{AHEAD, DEPTH, Engine};
use crate::plan::Plan;

/// Slots beyond what streaming takes, for what is used without a plan.
const SPARE: usize = 8;

/// What one pass costs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Work {
    /// Bytes to read, as they are stored.
    pub read: u64,
    /// Chunks to load into slots, whether they are read or lie on the shelf.
    pub loads: u64,
}

impl Engine {
    /// Chunks may stay as they are stored; each one's bytes in that form.
    #[must_use]
    pub fn with_stored(mut self, bytes: Vec<u32>) -> Self {
        self.stored = bytes;
        self.planned = None;
        self.replan();
        self
    }

    /// There is room for `bytes` of chunks as they are stored. Those that are [`shelved`](Self::is_shelved) are to be
    /// kept when they were read, and loaded from there.
    pub fn shelve(&mut self, bytes: u64) {
        self.shelf_bytes = bytes;
        self.guard = self.guard.min(self.reach());
        self.replan();
    }

    /// Whether the chunk is to stay as it is stored.
    pub fn is_shelved(&self, chunk: Chunk) -> bool {
        self.shelf.keeps(chunk)
    }

    /// Changes whenever other chunks may be shelved than before.
    pub fn plans(&self) -> u64 {
        self.plans
    }

    /// Slots in which streaming alone runs well, where nothing stays in a slot.
    pub fn streaming_slots(&self) -> usize {
        DEPTH + self.decoders + AHEAD + self.guard.max(self.threads + 2) + SPARE
    }

    /// What a pass over the known order costs with so many slots and so much room on the shelf.
    pub fn work(&self, slots: usize, shelf_bytes: u64) -> Work {
        let chunks = self.cycle as u64;
        if chunks == 0 {
            return Work::default();
        }
        let loads = chunks - self.room(self.cycle, slots, shelf_bytes > 0) as u64;
        let stored = self.cycle_bytes * loads / chunks;
        Work {
            read: stored.saturating_sub(shelf_bytes),
            loads,
        }
    }

    pub(crate) fn plan_shelf(&mut self, tour: &[Chunk]) {
        let stored =
            |chunk: Chunk| u64::from(self.stored.get(chunk as usize).copied().unwrap_or(0));
        self.cycle_bytes = tour.iter().map(|&chunk| stored(chunk)).sum();
        self.shelf = if self.shelf_bytes == 0 {
            Plan::default()
        } else {
            let streaming = tour.iter().filter(|&&chunk| !self.plan.keeps(chunk));
            let streaming: Vec<Chunk> = streaming.copied().collect();
            let (room, first) = (self.shelf_bytes, &self.returning);
            Plan::scatter_within(&streaming, room, stored, self.count, first)
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Chunks;

    fn engine(slots: usize) -> Engine {
        let count = 1000;
        let chunks = Chunks {
            count,
            used: (0..count).collect(),
            ..Chunks::default()
        };
        let stored = (0..count).map(|chunk| 60 + chunk % 20).collect();
        Engine::new(chunks, slots, 2)
            .with_decoders(2)
            .with_stored(stored)
    }

    #[test]
    fn the_shelf_holds_what_fits_and_all_over_the_model() {
        let mut engine = engine(40);
        assert!(!engine.is_shelved(3));
        let before = engine.plans();
        engine.shelve(30_000);
        assert!(engine.plans() > before);
        let size = |chunk: &u32| u64::from(60 + chunk % 20);
        let shelved: Vec<u32> = (0..1000)
            .filter(|&chunk| engine.is_shelved(chunk))
            .collect();
        let bytes: u64 = shelved.iter().map(size).sum();
        assert!((29_900..=30_000).contains(&bytes), "{bytes}");
        for stretch in (0..1000).collect::<Vec<u32>>().chunks(50) {
            let kept = stretch
                .iter()
                .filter(|chunk| shelved.contains(chunk))
                .count();
            assert!((17..=27).contains(&kept), "{kept} of 50");
        }
        assert!(shelved.iter().all(|&chunk| !engine.plan.keeps(chunk)));
        engine.shelve(0);
        assert!((0..1000).all(|chunk| !engine.is_shelved(chunk)));
    }

    #[test]
    fn more_shelf_and_fewer_slots_read_less_and_load_more() {
        let engine = engine(500);
        let decoded = engine.work(500, 0);
        let coded = engine.work(engine.streaming_slots(), 100 * 460);
        assert!(coded.read < decoded.read && coded.loads > decoded.loads);
        let all = engine.work(1000, 0);
        assert_eq!((all.read, all.loads), (0, 0));
    }
}
