//! A set of chunks as a row of bits.

use crate::Chunk;

#[derive(Debug, Clone, Default)]
pub struct ChunkSet {
    words: Vec<u64>,
}

impl ChunkSet {
    pub fn new(chunks: usize) -> Self {
        Self {
            words: vec![0; chunks.div_ceil(64)],
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
        *word |= bit;
        new
    }

    pub fn remove(&mut self, chunk: Chunk) {
        if let Some(word) = self.words.get_mut(chunk as usize / 64) {
            *word &= !(1 << (chunk % 64));
        }
    }

    pub fn clear(&mut self) {
        self.words.fill(0);
    }
}
