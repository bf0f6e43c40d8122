//! Where one thread is in the trace.

use crate::bits::ChunkSet;
use crate::trace::Trace;
use crate::{Chunk, Marker};
use std::collections::VecDeque;

/// An expected chunk this far behind the furthest touch was skipped, not delayed: operators that walk a weight from
/// several places at once stay well within it.
const STRAGGLE: usize = 32;

/// Touches that count as the latest.
const LATEST: usize = 4;

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
    /// The last index that was touched again, far behind the others.
    behind: Option<usize>,
    /// The latest touches, newest last: enough to see a sweep by several threads at once.
    pub latest: VecDeque<Chunk>,
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
            behind: None,
            latest: VecDeque::new(),
            moved: 0,
        }
    }

    pub fn pass(&mut self, marker: Marker) {
        self.marker = marker;
        self.consumed.clear();
        self.furthest = 0;
        self.latest.clear();
        self.behind = None;
    }

    /// The chunk at `index` of the current segment was touched. Where chunks far behind are touched again one after
    /// the other, the segment is being walked once more: what follows them is to be expected again.
    pub fn consume(&mut self, trace: &Trace, chunk: Chunk, index: usize) {
        self.latest.push_back(chunk);
        if self.latest.len() > LATEST {
            self.latest.pop_front();
        }
        let again = !self.consumed.insert(chunk);
        if again && index + STRAGGLE < self.furthest {
            let walking = self
                .behind
                .is_some_and(|behind| (behind + 1..=behind + LATEST).contains(&index));
            self.behind = Some(index);
            if walking && let Some(segment) = trace.segment(self.marker) {
                for (later, chunk) in segment.expected() {
                    if later > index {
                        self.consumed.remove(chunk);
                    }
                }
                self.furthest = 0;
            }
        }
        self.furthest = self.furthest.max(index + 1);
    }

    /// Whether `chunk` follows on what was touched just now: a weight used by rows is then being swept as a whole.
    pub fn sweeps(&self, chunk: Chunk) -> bool {
        chunk
            .checked_sub(1)
            .is_some_and(|before| self.latest.contains(&before))
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
