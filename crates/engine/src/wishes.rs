//! What will be used soon though the trace doesn't say so: guesses for first passes, and what callers announce.

use crate::engine::Engine;
use crate::marker::Marker;
use crate::pool::Residence;
use crate::{Caller, Chunk, effort};
use std::ops::Range;

impl Engine {
    /// A guess, until a pass has shown better: the block will use these chunks, in about this order.
    pub fn expect(&mut self, block: u32, chunks: Vec<Chunk>) {
        self.guesses.insert(Marker::enter(block), chunks);
    }

    /// On the first way through a block: its guess, and that of the next one, so that the disk has no pause between.
    pub(crate) fn guess(&mut self, marker: Marker) {
        if self.guesses.is_empty() || self.trace.segment(marker).is_some() {
            return;
        }
        for guessed in [marker, marker.following()] {
            if self.trace.segment(guessed).is_none()
                && let Some(chunks) = self.guesses.get(&guessed).cloned()
            {
                self.wish(chunks);
            }
        }
    }

    /// A pass will use these chunks soon, in about this order.
    pub fn announce(&mut self, chunks: &[Chunk]) {
        for &chunk in chunks {
            // Uses of a visible chunk are not seen: of experts and rows only this tells which were used lately.
            if self.sparse.contains(chunk)
                && matches!(self.pool.get(chunk), Residence::Touched { .. })
            {
                self.pool.touch(chunk);
            }
        }
        self.wish(chunks.iter().copied());
    }

    /// `chunk` is missing for `caller`, so the rest of what is used together with it will be: what follows it first, then
    /// the beginning, where it was not there yet. Not looked at again before that is nearly there.
    pub(crate) fn wish_unit(&mut self, caller: Caller, chunk: Chunk, unit: Range<Chunk>) {
        let soon = chunk.saturating_add(self.depth() as Chunk);
        let soon = soon.min(unit.end.saturating_sub(1));
        if soon > chunk && self.wished.contains(soon) {
            return;
        }
        let used = |chunk: &Chunk| {
            effort::spend(1);
            let cursor = self.cursors.get(&caller);
            cursor.is_some_and(|cursor| cursor.consumed.contains(*chunk))
        };
        let rest = (chunk + 1..unit.end).chain(unit.start..chunk);
        let rest: Vec<Chunk> = rest.take(self.limit).filter(|chunk| !used(chunk)).collect();
        self.wish(rest);
    }

    pub(crate) fn wish(&mut self, chunks: impl IntoIterator<Item = Chunk>) {
        for chunk in chunks {
            effort::spend(1);
            if self.wishes.len() >= self.limit {
                break;
            }
            if self.pool.get(chunk) == Residence::Absent && self.wished.insert(chunk) {
                self.wishes.push_back(chunk);
                self.wished_order.push(chunk);
            }
        }
    }
}
