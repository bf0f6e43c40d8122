//! A set of chunks as a row of bits.

use crate::Chunk;
use crate::effort;

#[derive(Debug, Clone, Default)]
pub struct ChunkSet {
    words: Vec<u64>,
    /// Words that may hold a bit, so that a small set of many chunks is quickly emptied.
    filled: Vec<u32>,
}

impl ChunkSet {
    pub fn new(chunks: usize) -> Self {
        let words = chunks.div_ceil(64);
        effort::spend(words);
        Self {
            words: vec![0; words],
            filled: Vec::new(),
        }
    }

    pub fn contains(&self, chunk: Chunk) -> bool {
        self.words
            .get(chunk as usize / 64)
            .is_some_and(|word| word >> (chunk % 64) & 1 == 1)
    }

    /// True where the chunk was not in the set before.
    pub fn insert(&mut self, chunk: Chunk) -> bool {
        let Some(word) = self.words.get_mut(chunk as usize / 64) else {
            return false;
        };
        let bit = 1 << (chunk % 64);
        let new = *word & bit == 0;
        if *word == 0 {
            self.filled.push(chunk / 64);
        }
        *word |= bit;
        if self.filled.len() > 2 * self.words.len() {
            self.forget_emptied();
        }
        new
    }

    pub fn remove(&mut self, chunk: Chunk) {
        if let Some(word) = self.words.get_mut(chunk as usize / 64) {
            *word &= !(1 << (chunk % 64));
        }
    }

    pub fn clear(&mut self) {
        effort::spend(self.filled.len());
        for index in self.filled.drain(..) {
            if let Some(word) = self.words.get_mut(index as usize) {
                *word = 0;
            }
        }
    }

    /// A word that was emptied and filled again stands among the filled twice.
    fn forget_emptied(&mut self) {
        let words = (0u32..).zip(&self.words);
        self.filled = words
            .filter(|&(_, word)| *word != 0)
            .map(|(index, _)| index)
            .collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_cleared_is_empty_and_nothing_is_remembered_for_ever() {
        let mut set = ChunkSet::new(1000);
        for round in 0..100 {
            for chunk in (round % 7..1000).step_by(3) {
                assert!(set.insert(chunk) && !set.insert(chunk));
            }
            assert!(set.contains(999 - (999 - round % 7) % 3));
            if round % 10 == 0 {
                set.clear();
            } else {
                (0..1000).for_each(|chunk| set.remove(chunk));
            }
            assert!((0..1000).all(|chunk| !set.contains(chunk)));
            assert!(set.filled.len() <= 2 * set.words.len());
        }
    }
}
