//! Where one thread is in the trace.

use crate::bits::ChunkSet;
use crate::trace::Trace;
use crate::{Chunk, Marker};

/// An expected chunk this far behind the furthest touch was skipped, not delayed: operators that walk a weight from
/// several places at once stay well within it.
const STRAGGLE: usize = 32;

#[derive(Debug)]
pub struct Cursor {
    /// The last marker passed.
    pub marker: Marker,
    /// How many blocks deep.
    pub depth: u32,
    /// Touched since the marker.
    pub consumed: ChunkSet,
    /// One past the furthest touched index of the segment.
    pub furthest: usize,
    /// When it last moved, in events; stale cursors are forgotten.
    pub moved: u64,
}

impl Cursor {
    pub fn new(chunks: usize) -> Self {
        Self {
            marker: Marker::OUTSIDE,
            depth: 0,
            consumed: ChunkSet::new(chunks),
            furthest: 0,
            moved: 0,
        }
    }

    pub fn pass(&mut self, marker: Marker) {
        self.marker = marker;
        self.consumed.clear();
        self.furthest = 0;
    }

    /// The chunk at `index` of the current segment was touched. A second touch far behind the others means that the
    /// segment is being walked again: what follows is to be expected again.
    pub fn consume(&mut self, trace: &Trace, chunk: Chunk, index: usize) {
        let again = !self.consumed.insert(chunk);
        if again && index + STRAGGLE < self.furthest {
            if let Some(segment) = trace.segment(self.marker) {
                for (later, chunk) in segment.expected() {
                    if later > index {
                        self.consumed.remove(chunk);
                    }
                }
            }
            self.furthest = 0;
        }
        self.furthest = self.furthest.max(index + 1);
    }

    /// Calls `visit` with the expected chunks in order, from here to the end of the cycle, until it returns false.
    pub fn upcoming(&self, trace: &Trace, mut visit: impl FnMut(Chunk) -> bool) {
        if let Some(segment) = trace.segment(self.marker) {
            let from = self.furthest.saturating_sub(STRAGGLE);
            for (index, chunk) in segment.expected() {
                if index >= from && !self.consumed.contains(chunk) && !visit(chunk) {
                    return;
                }
            }
        }
        let mut seen = std::collections::HashSet::new();
        let mut at = trace.next(self.marker);
        while seen.insert(at) {
            if let Some(segment) = trace.segment(at) {
                for (_, chunk) in segment.expected() {
                    if !visit(chunk) {
                        return;
                    }
                }
            }
            at = trace.next(at);
        }
    }
}
