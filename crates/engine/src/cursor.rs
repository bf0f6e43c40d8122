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

/// Segments without weights that may follow each other.
const EMPTY_SEGMENTS: usize = 16;

#[derive(Debug)]
pub struct Cursor {
    /// The last marker passed.
    pub marker: Marker,
    /// How many blocks deep.
    pub depth: u32,
    /// Touched since the marker.
    pub consumed: ChunkSet,
    /// Visible when it came to what lies behind them: touched unseen, if at all.
    pub overtaken: ChunkSet,
    /// One past the furthest touched index of the segment.
    pub furthest: usize,
    /// The last index that was touched again, far behind the others.
    behind: Option<usize>,
    /// The latest touches, newest last: enough to see a sweep by several threads at once.
    pub latest: VecDeque<Chunk>,
    /// The index of the segment that was touched or missed last.
    pub at: usize,
    /// When it last passed a marker, in events; stale cursors are forgotten.
    pub moved: u64,
    /// When it was last heard of, in events.
    pub stirred: u64,
    /// It neither waits for others nor do others wait for it, in this pass.
    pub alone: bool,
    /// Others don't wait for it until it stirs.
    pub asleep: bool,
}

impl Cursor {
    pub fn new(chunks: usize) -> Self {
        Self {
            marker: Marker::OUTSIDE,
            depth: 0,
            consumed: ChunkSet::new(chunks),
            overtaken: ChunkSet::new(chunks),
            furthest: 0,
            behind: None,
            latest: VecDeque::new(),
            at: 0,
            moved: 0,
            stirred: 0,
            alone: false,
            asleep: false,
        }
    }

    pub fn pass(&mut self, marker: Marker) {
        self.marker = marker;
        self.consumed.clear();
        self.overtaken.clear();
        self.furthest = 0;
        self.at = 0;
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
                for (_, chunk) in segment.expected_from(index + 1) {
                    self.consumed.remove(chunk);
                    self.overtaken.remove(chunk);
                }
                self.furthest = 0;
            }
        }
        self.furthest = self.furthest.max(index + 1);
    }

    /// The caller has come as far as this chunk. What lies before it and was `visible` meanwhile is behind it: who
    /// follows others through a sweep touches what they have published, and nothing is seen of that.
    pub fn reach(&mut self, trace: &Trace, chunk: Chunk, visible: impl Fn(Chunk) -> bool) {
        if let Some(segment) = trace.segment(self.marker)
            && let Some(index) = segment.index_of(chunk)
        {
            let passed = segment.between(self.at..index);
            for chunk in passed.filter(|&chunk| visible(chunk)) {
                self.overtaken.insert(chunk);
            }
            self.at = index;
        }
    }

    /// Something was heard of it.
    pub fn stir(&mut self, clock: u64) {
        self.stirred = clock;
        self.asleep = false;
    }

    /// Whether `chunk` follows on what was touched just now: a weight used by rows is then being swept as a whole.
    pub fn sweeps(&self, chunk: Chunk) -> bool {
        chunk
            .checked_sub(1)
            .is_some_and(|before| self.latest.contains(&before))
    }

    /// The chunk that it is at, as far as is known, or the next that it will use; and after which marker.
    pub fn position(&self, trace: &Trace) -> Option<(Marker, Chunk)> {
        let mut marker = self.marker;
        let mut from = self.at;
        // Segments without a weight are passed over: a block between its last weight and its end, for example.
        for _ in 0..EMPTY_SEGMENTS {
            let segment = trace.segment(marker)?;
            if let Some((_, chunk)) = segment.expected_from(from).next() {
                return Some((marker, chunk));
            }
            (marker, from) = (trace.next(marker), 0);
        }
        None
    }

    /// Calls `visit` with the expected chunks in order, from here to the end of the cycle, until it returns false or
    /// has seen `most` chunks and segments.
    pub fn upcoming(&self, trace: &Trace, mut most: usize, mut visit: impl FnMut(Chunk) -> bool) {
        if let Some(segment) = trace.segment(self.marker) {
            let from = self.furthest.saturating_sub(STRAGGLE);
            for (_, chunk) in segment.expected_from(from).take(most) {
                most -= 1;
                let over = self.consumed.contains(chunk) || self.overtaken.contains(chunk);
                if !over && !visit(chunk) {
                    return;
                }
            }
        }
        let mut seen = std::collections::HashSet::new();
        let mut at = trace.next(self.marker);
        while most > 0 && seen.insert(at) {
            most -= 1;
            if let Some(segment) = trace.segment(at) {
                for (_, chunk) in segment.expected_from(0).take(most) {
                    most -= 1;
                    if !visit(chunk) {
                        return;
                    }
                }
            }
            at = trace.next(at);
        }
    }
}
