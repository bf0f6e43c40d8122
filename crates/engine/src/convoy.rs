//! Several callers in one sweep.
//!
//! Callers who run the same pass at the same time read each chunk once if they stay together. One that gets ahead by
//! more than the pool can hold would read for itself alone, and the one behind would read all of it again. Where the
//! source is the limit nobody gains by that: the caller ahead waits, the one behind has the source to itself until it
//! has caught up, and both go on with one read for two.

use crate::cursor::Cursor;
use crate::engine::Engine;
use crate::marker::Marker;
use crate::plan::Plan;
use crate::{Caller, Chunk, effort};
use std::collections::HashMap;

/// The cycle of a pass, on which places are told by how many streaming chunks lie before them. A chunk that is used
/// forward and backward has several.
#[derive(Debug, Default)]
pub struct Circle {
    /// Sorted.
    places: Vec<(Chunk, u32)>,
    /// Where the chunks after a marker begin.
    begins: HashMap<Marker, u32>,
    length: u32,
}

impl Circle {
    /// Of the chunks after each marker of the cycle; those that the plan keeps take no room.
    pub fn new(cycle: &[(Marker, Vec<Chunk>)], plan: &Plan) -> Self {
        let mut circle = Self::default();
        for (marker, chunks) in cycle {
            effort::spend(chunks.len());
            circle.begins.insert(*marker, circle.length);
            for &chunk in chunks {
                circle.places.push((chunk, circle.length));
                circle.length += u32::from(!plan.keeps(chunk));
            }
        }
        circle.places.sort_unstable();
        circle
    }

    /// Before a cycle is known: chunks are used in the order of their addresses, after whatever marker.
    pub fn of_addresses(used: &[Chunk], plan: &Plan) -> Self {
        let mut circle = Self::new(&[(Marker::OUTSIDE, used.to_vec())], plan);
        circle.begins.clear();
        circle
    }

    /// Where the chunk is; nowhere for one that the cycle doesn't have.
    pub fn places(&self, chunk: Chunk) -> impl Iterator<Item = u32> + '_ {
        let first = self.places.partition_point(|&(other, _)| other < chunk);
        let places = self.places.get(first..).unwrap_or_default().iter();
        places
            .take_while(move |&&(other, _)| other == chunk)
            .map(|&(_, place)| place)
    }

    /// Where the chunk is that is used after this marker.
    pub fn place(&self, marker: Marker, chunk: Chunk) -> Option<u32> {
        let begin = match self.begins.get(&marker) {
            Some(&begin) => begin,
            None if self.begins.is_empty() => 0,
            None => return None,
        };
        self.places(chunk)
            .min_by_key(|&place| self.way(begin, place))
    }

    /// The way from one place forward to another.
    pub fn way(&self, from: u32, to: u32) -> u32 {
        if to >= from {
            to - from
        } else {
            to + self.length - from
        }
    }
}

/// Callers under way on the same circle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Convoy {
    /// The caller behind all others.
    pub rear: Caller,
    /// Where it is.
    pub place: u32,
    /// How far the others may be ahead of it.
    pub reach: u32,
}

impl Convoy {
    /// The convoy of these callers, unless there are fewer than two. The rear is who has the longest empty stretch
    /// behind: with that choice the others have the shortest wait.
    pub fn of(circle: &Circle, mut callers: Vec<(u32, Caller)>, reach: usize) -> Option<Self> {
        callers.sort_unstable();
        let before = callers.iter().cycle().skip(callers.len().checked_sub(1)?);
        let (_, &(place, rear)) = before
            .zip(&callers)
            .max_by_key(|((before, _), (place, _))| circle.way(*before, *place))?;
        (callers.len() > 1).then_some(Self {
            rear,
            place,
            reach: u32::try_from(reach).unwrap_or(u32::MAX),
        })
    }

    /// Whether the place is within reach.
    pub fn reaches(&self, circle: &Circle, place: u32) -> bool {
        circle.way(self.place, place) <= self.reach
    }
}

impl Engine {
    /// Callers that wait for another one to catch up.
    pub fn held(&self) -> &[Caller] {
        &self.held
    }

    /// For whom callers are held back, and when it was last heard of, in events.
    pub fn holding(&self) -> Option<(Caller, u64)> {
        let rear = self.convoy.filter(|_| !self.held.is_empty())?.rear;
        Some((rear, self.cursors.get(&rear)?.stirred))
    }

    /// Nobody waits for this caller until it is heard of again.
    pub fn leave_behind(&mut self, caller: Caller) {
        if let Some(cursor) = self.cursors.get_mut(&caller) {
            cursor.asleep = true;
        }
    }

    /// For the rest of its pass this caller waits for nobody.
    pub fn release(&mut self, caller: Caller) {
        if let Some(cursor) = self.cursors.get_mut(&caller) {
            cursor.alone = true;
        }
    }

    pub(crate) fn in_company(&self) -> bool {
        self.counters.passes < self.company_until
    }

    /// Slots that hold what callers of a convoy are apart. Each costs one read per pass.
    pub(crate) fn spread(&self) -> usize {
        let streaming = self.cycle.saturating_sub(self.limit);
        if self.in_company() {
            (self.limit / 8).min(streaming / 16)
        } else {
            0
        }
    }

    pub(crate) fn gather(&self) -> Option<Convoy> {
        let members = || {
            let joined = |cursor: &&Cursor| cursor.depth > 0 && !cursor.alone && !cursor.asleep;
            self.cursors
                .iter()
                .filter(move |(_, cursor)| joined(cursor))
        };
        members().nth(1)?;
        let place = |cursor: &Cursor| {
            let (marker, chunk) = cursor.position(&self.trace)?;
            self.circle.place(marker, chunk)
        };
        let callers = members().filter_map(|(&caller, cursor)| Some((place(cursor)?, caller)));
        let reach = (self.spread() + self.window()).saturating_sub(self.guard() + 2);
        Convoy::of(&self.circle, callers.collect(), reach)
    }

    /// Whether the caller is to wait with this chunk until others are nearer.
    pub(crate) fn is_ahead(&self, caller: Caller, chunk: Chunk) -> bool {
        let Some(convoy) = self.convoy.filter(|convoy| convoy.rear != caller) else {
            return false;
        };
        let cursor = self.cursors.get(&caller);
        let joined = cursor.is_some_and(|cursor| !cursor.alone && !cursor.asleep);
        let mut places = self.circle.places(chunk).peekable();
        joined
            && places.peek().is_some()
            && !places.any(|place| convoy.reaches(&self.circle, place))
    }

    /// Whether somebody of the convoy still needs the chunk.
    pub(crate) fn is_shared(&self, chunk: Chunk) -> bool {
        self.convoy.is_some_and(|convoy| {
            let mut places = self.circle.places(chunk);
            places.any(|place| convoy.reaches(&self.circle, place))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bits::ChunkSet;

    fn circle() -> Circle {
        let cycle = [(Marker::OUTSIDE, (0..100).collect())];
        Circle::new(&cycle, &Plan::scatter(&[], 0, 100, &ChunkSet::default()))
    }

    #[test]
    fn forward_and_backward_a_chunk_has_a_place_each() {
        let (forward, backward) = (Marker::enter(0), Marker::enter(1));
        let cycle = [
            (forward, (0..10).collect()),
            (backward, (0..10).rev().collect()),
        ];
        let keeps_none = Plan::scatter(&[], 0, 10, &ChunkSet::default());
        let circle = Circle::new(&cycle, &keeps_none);
        assert_eq!(circle.places(3).collect::<Vec<_>>(), [3, 16]);
        assert_eq!(circle.place(forward, 3), Some(3));
        assert_eq!(circle.place(backward, 3), Some(16));
        assert_eq!(circle.place(Marker::enter(2), 3), None);
    }

    #[test]
    fn the_rear_has_the_longest_empty_stretch_behind() {
        let rear = |places: &[u32]| {
            let callers = places.iter().map(|&place| (place, place)).collect();
            Convoy::of(&circle(), callers, 10).map(|convoy| convoy.rear)
        };
        assert_eq!(rear(&[]), None);
        assert_eq!(rear(&[5]), None);
        assert_eq!(rear(&[0, 30]), Some(0));
        // 90 is about to begin anew: 5 and 30 are ahead of it.
        assert_eq!(rear(&[5, 30, 90]), Some(90));
        assert_eq!(rear(&[5, 60, 70, 75]), Some(60));
    }

    #[test]
    fn reach_goes_around() {
        let convoy = Convoy::of(&circle(), vec![(95, 1), (10, 2)], 20).unwrap();
        assert_eq!((convoy.rear, convoy.place), (1, 95));
        assert!(convoy.reaches(&circle(), 15) && convoy.reaches(&circle(), 95));
        assert!(!convoy.reaches(&circle(), 16) && !convoy.reaches(&circle(), 94));
    }
}
