//! Who sits in which slot.

use crate::{Chunk, Slot, effort};
use std::collections::VecDeque;

/// What the engine knows of one chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Residence {
    /// Not in the pool.
    #[default]
    Absent,
    /// Being read.
    Loading {
        /// Into this slot.
        slot: Slot,
        /// A thread waits for it.
        awaited: bool,
    },
    /// Read, not yet touched.
    Ready {
        /// In this slot.
        slot: Slot,
        /// A thread waits for it and is about to touch it.
        awaited: bool,
    },
    /// Touched, so visible at its address.
    Touched {
        /// In this slot.
        slot: Slot,
        /// When, counted in touches.
        at: u64,
    },
    /// In this slot for good, which counts as no slot of the pool any more.
    Pinned {
        /// The slot.
        slot: Slot,
    },
}

impl Residence {
    /// The slot it occupies.
    pub fn slot(self) -> Option<Slot> {
        match self {
            Residence::Absent => None,
            Residence::Loading { slot, .. }
            | Residence::Ready { slot, .. }
            | Residence::Touched { slot, .. }
            | Residence::Pinned { slot } => Some(slot),
        }
    }
}

/// The slots, and the touched chunks in order of their touch.
#[derive(Debug)]
pub struct Pool {
    chunks: Vec<Residence>,
    slots: Vec<Option<Chunk>>,
    free: Vec<Slot>,
    used: usize,
    /// One past the highest slot that was ever used.
    high: Slot,
    touches: u64,
    last_touch: Vec<u64>,
    /// Touched chunks, oldest first; stale entries are recognised by their time.
    pub recent: VecDeque<(Chunk, u64)>,
}

impl Pool {
    pub fn new(chunks: usize) -> Self {
        Self {
            chunks: vec![Residence::Absent; chunks],
            slots: vec![None; chunks],
            free: (0..chunks as Slot).rev().collect(),
            used: 0,
            high: 0,
            touches: 0,
            last_touch: vec![0; chunks],
            recent: VecDeque::new(),
        }
    }

    pub fn get(&self, chunk: Chunk) -> Residence {
        self.chunks.get(chunk as usize).copied().unwrap_or_default()
    }

    pub fn set(&mut self, chunk: Chunk, residence: Residence) {
        if let Some(place) = self.chunks.get_mut(chunk as usize) {
            *place = residence;
        }
    }

    /// Slots in use.
    pub fn used(&self) -> usize {
        self.used
    }

    /// Whether nobody sits in the slot.
    pub fn is_free(&self, slot: Slot) -> bool {
        self.slots.get(slot as usize).is_some_and(Option::is_none)
    }

    /// Free slots that were used before, so that memory may hang on them.
    pub fn vacated(&self) -> Vec<Slot> {
        self.free
            .iter()
            .copied()
            .filter(|&slot| slot < self.high)
            .collect()
    }

    /// Chunks in the pool with their slots.
    pub fn occupants(&self) -> impl Iterator<Item = Chunk> + '_ {
        let ever_used = self.slots.get(..self.high as usize).unwrap_or_default();
        effort::spend(ever_used.len());
        ever_used.iter().flatten().copied()
    }

    /// Gives the chunk a slot; the lowest free one, so that the pool's memory stays dense.
    pub fn seat(&mut self, chunk: Chunk) -> Option<Slot> {
        let slot = self.free.pop()?;
        self.high = self.high.max(slot + 1);
        if let Some(place) = self.slots.get_mut(slot as usize) {
            *place = Some(chunk);
        }
        self.used += 1;
        Some(slot)
    }

    /// The chunk leaves; its slot is free.
    pub fn unseat(&mut self, chunk: Chunk) -> Option<Slot> {
        let slot = self.get(chunk).slot()?;
        self.set(chunk, Residence::Absent);
        if let Some(place) = self.slots.get_mut(slot as usize) {
            *place = None;
        }
        self.free.push(slot);
        self.used -= 1;
        Some(slot)
    }

    /// The chunk stays for good, and takes its slot out of the pool. False where it is not there.
    pub fn pin(&mut self, chunk: Chunk) -> bool {
        let (Residence::Ready { slot, .. } | Residence::Touched { slot, .. }) = self.get(chunk)
        else {
            return false;
        };
        self.set(chunk, Residence::Pinned { slot });
        self.used -= 1;
        true
    }

    /// Records a touch.
    pub fn touch(&mut self, chunk: Chunk) {
        if let Some(slot) = self.get(chunk).slot() {
            self.touches += 1;
            if let Some(last) = self.last_touch.get_mut(chunk as usize) {
                *last = self.touches;
            }
            self.set(
                chunk,
                Residence::Touched {
                    slot,
                    at: self.touches,
                },
            );
            let mut recent = std::mem::take(&mut self.recent);
            self.forget_stale(&mut recent);
            recent.push_back((chunk, self.touches));
            self.recent = recent;
        }
    }

    /// Drops the stale among `touches` once they are the most: where nothing leaves, nobody else takes them.
    pub fn forget_stale(&self, touches: &mut VecDeque<(Chunk, u64)>) {
        if touches.len() > 2 * self.chunks.len() {
            touches.retain(|&entry| self.is_current(entry));
        }
    }

    /// How many touches there were since this chunk's last one.
    pub fn touches_since(&self, chunk: Chunk) -> usize {
        let last = self
            .last_touch
            .get(chunk as usize)
            .copied()
            .unwrap_or_default();
        usize::try_from(self.touches - last).unwrap_or(usize::MAX)
    }

    /// Whether an entry of `recent` still speaks of the chunk's latest touch.
    pub fn is_current(&self, entry: (Chunk, u64)) -> bool {
        matches!(self.get(entry.0), Residence::Touched { at, .. } if at == entry.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn touches_of_what_never_leaves_are_forgotten() {
        let mut pool = Pool::new(3);
        for chunk in 0..3 {
            let slot = pool.seat(chunk).unwrap_or_default();
            let awaited = false;
            pool.set(chunk, Residence::Ready { slot, awaited });
        }
        for number in 0..1000 {
            pool.touch(number % 3);
        }
        assert!(pool.recent.len() <= 2 * 3 + 1);
        let current: Vec<Chunk> = (pool.recent.iter())
            .filter(|&&entry| pool.is_current(entry))
            .map(|entry| entry.0)
            .collect();
        assert_eq!(current, [1, 2, 0]);
    }
}
