//! What will be used soon though the trace doesn't say so: guesses for first passes, and what callers announce.

use crate::Chunk;
use crate::engine::Engine;
use crate::marker::Marker;
use crate::pool::Residence;

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

    pub(crate) fn wish(&mut self, chunks: impl IntoIterator<Item = Chunk>) {
        for chunk in chunks {
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
