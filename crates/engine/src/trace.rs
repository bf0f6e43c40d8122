//! The order in which chunks are used, learned by watching.
//!
//! A pass is cut into *segments* by markers (a block began, a block ended). Each segment remembers its chunks in
//! the order of their first touch; each marker remembers which marker came after it the last time. Walking from
//! marker to marker therefore predicts the future of any program that repeats itself: a decoder loop, a prefill
//! before it, an encoder that runs once, a backward pass. A wrong turn costs one comparison and is corrected at
//! the next marker.

use crate::{Chunk, Marker, effort};
use std::collections::HashMap;
use std::ops::Range;

/// Times in a row that a doubtful chunk must be used before it is predicted.
const PROOFS: u8 = 4;

#[derive(Debug, Clone, Copy)]
struct Entry {
    chunk: Chunk,
    /// Uses in a row since the last traversal that went without it.
    streak: u8,
    /// Whether to expect it in the next traversal.
    expected: bool,
    /// A traversal went without it though it was expected: it has to prove itself.
    rejected: bool,
}

/// What happens between two markers.
#[derive(Debug, Default)]
pub struct Segment {
    entries: Vec<Entry>,
    place: HashMap<Chunk, usize>,
    /// Indices of the entries that are expected, in order: of many experts they are few.
    expected: Vec<usize>,
    next: Option<Marker>,
}

impl Segment {
    /// Chunks expected in one traversal, in order, with their index, which is `from` or more.
    pub fn expected_from(&self, from: usize) -> impl Iterator<Item = (usize, Chunk)> + '_ {
        let first = self.expected.partition_point(|&index| index < from);
        let indices = self.expected.get(first..).unwrap_or_default();
        indices
            .iter()
            .inspect(|_| effort::spend(1))
            .filter_map(|&index| Some((index, self.entries.get(index)?.chunk)))
    }

    /// Chunks with an index in this range, expected or not.
    pub fn between(&self, range: Range<usize>) -> impl Iterator<Item = Chunk> + '_ {
        let entries = self.entries.get(range).unwrap_or_default();
        effort::spend(entries.len());
        entries.iter().map(|entry| entry.chunk)
    }

    /// Whether the chunk is expected in a traversal.
    pub fn expects(&self, chunk: Chunk) -> bool {
        self.index_of(chunk)
            .and_then(|index| self.entries.get(index))
            .is_some_and(|entry| entry.expected)
    }

    /// Where the chunk stands in the order, if it was ever used here.
    pub fn index_of(&self, chunk: Chunk) -> Option<usize> {
        self.place.get(&chunk).copied()
    }

    fn insert(&mut self, at: usize, chunk: Chunk) -> usize {
        let at = at.min(self.entries.len());
        self.entries.insert(
            at,
            Entry {
                chunk,
                streak: 0,
                expected: false,
                rejected: false,
            },
        );
        for (index, entry) in self.entries.iter().enumerate().skip(at) {
            effort::spend(1);
            self.place.insert(entry.chunk, index);
        }
        let first = self.expected.partition_point(|&index| index < at);
        for index in self.expected.iter_mut().skip(first) {
            *index += 1;
        }
        at
    }

    /// From now on the entry is expected.
    fn expect(&mut self, index: usize) {
        if let Err(place) = self.expected.binary_search(&index) {
            self.expected.insert(place, index);
        }
    }

    /// Makes the list of what is expected anew.
    fn list_expected(&mut self) {
        let entries = self.entries.iter().enumerate();
        self.expected = entries
            .filter(|(_, entry)| entry.expected)
            .map(|(index, _)| index)
            .collect();
    }
}

/// What one traversal told about an expected chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// Touched.
    Used,
    /// It was absent or unpublished all the time, so nobody touched it.
    Unused,
    /// It was published already: a touch would have gone unseen.
    Unknown,
}

/// All that was learned about a model's passes.
#[derive(Debug, Default)]
pub struct Trace {
    segments: HashMap<Marker, Segment>,
    /// Goes up with every change of what is predicted.
    version: u64,
}

impl Trace {
    pub fn version(&self) -> u64 {
        self.version
    }

    pub fn segment(&self, marker: Marker) -> Option<&Segment> {
        self.segments.get(&marker)
    }

    /// The marker expected after `marker`; without any knowledge, the same again.
    pub fn next(&self, marker: Marker) -> Marker {
        self.segments
            .get(&marker)
            .and_then(|segment| segment.next)
            .unwrap_or(marker)
    }

    /// A thread went from one marker to the next.
    pub fn follow(&mut self, from: Marker, to: Marker) {
        let segment = self.segments.entry(from).or_default();
        if segment.next != Some(to) {
            segment.next = Some(to);
            self.version += 1;
        }
    }

    /// A chunk was used after `marker`. Returns its index in the segment. A chunk never seen there is put at
    /// `at`. It is expected from now on, unless its use is `doubtful` (one row or one expert of many).
    pub fn used(&mut self, marker: Marker, chunk: Chunk, at: usize, doubtful: bool) -> usize {
        let segment = self.segments.entry(marker).or_default();
        let index = segment
            .index_of(chunk)
            .unwrap_or_else(|| segment.insert(at, chunk));
        if let Some(entry) = segment.entries.get_mut(index)
            && !(doubtful || entry.rejected || entry.expected)
        {
            entry.expected = true;
            segment.expect(index);
            self.version += 1;
        }
        index
    }

    /// A traversal of the segment is over; `evidence` tells about each chunk.
    pub fn finish(&mut self, marker: Marker, mut evidence: impl FnMut(Chunk) -> Evidence) {
        let Some(segment) = self.segments.get_mut(&marker) else {
            return;
        };
        effort::spend(segment.entries.len());
        let mut changes = 0;
        for entry in &mut segment.entries {
            let before = entry.expected;
            match evidence(entry.chunk) {
                Evidence::Used => {
                    entry.streak = entry.streak.saturating_add(1);
                    if entry.streak >= PROOFS {
                        entry.expected = true;
                        entry.rejected = false;
                    }
                }
                Evidence::Unused => {
                    entry.streak = 0;
                    entry.rejected |= entry.expected;
                    entry.expected = false;
                }
                Evidence::Unknown => {}
            }
            changes += u64::from(entry.expected != before);
        }
        if changes > 0 {
            segment.list_expected();
            self.version += changes;
        }
    }

    /// The cycle that starts at `marker`, as far as it is known: its markers, and the chunks used after each.
    pub fn cycle(&self, marker: Marker) -> Vec<(Marker, Vec<Chunk>)> {
        let mut seen = std::collections::HashSet::new();
        let mut cycle = Vec::new();
        let mut at = marker;
        while seen.insert(at) {
            if let Some(segment) = self.segments.get(&at) {
                let chunks = segment.expected_from(0).map(|(_, chunk)| chunk);
                cycle.push((at, chunks.collect()));
            }
            at = self.next(at);
        }
        cycle
    }
}
