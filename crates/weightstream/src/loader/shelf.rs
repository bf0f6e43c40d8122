//! Chunks as they are stored, in memory: what lies here is decoded instead of read.

use memmap2::MmapMut;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Pages are what memory is counted in.
const PAGE: usize = 4096;

/// The shelf: a part of the budget.
#[derive(Default)]
pub struct Shelf {
    state: Mutex<State>,
    used: Arc<AtomicU64>,
}

#[derive(Default)]
struct State {
    room: u64,
    kept: HashMap<u32, Arc<Kept>>,
}

/// The stored bytes of a chunk.
pub struct Kept {
    memory: MmapMut,
    length: usize,
    used: Arc<AtomicU64>,
}

impl Kept {
    /// The bytes that were put there.
    pub fn bytes(&self) -> &[u8] {
        self.memory.get(..self.length).unwrap_or_default()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.used
            .fetch_sub(self.memory.len() as u64, Ordering::SeqCst);
    }
}

/// Bytes of memory that `length` stored bytes take.
pub fn footprint(length: usize) -> usize {
    length.max(1).next_multiple_of(PAGE)
}

impl Shelf {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// At most `bytes` from now on; what lies there stays until [`retain`](Self::retain) takes it away.
    pub fn allow(&self, bytes: u64) {
        self.lock().room = bytes;
    }

    /// Takes away what is not `wanted`. What is being decoded at this moment goes right after.
    pub fn retain(&self, wanted: impl Fn(u32) -> bool) {
        self.lock().kept.retain(|&chunk, _| wanted(chunk));
    }

    /// Bytes of memory that it takes.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::SeqCst)
    }

    /// How many chunks lie there.
    pub fn count(&self) -> usize {
        self.lock().kept.len()
    }

    /// The stored bytes of a chunk, if they lie there.
    pub fn get(&self, chunk: u32) -> Option<Arc<Kept>> {
        self.lock().kept.get(&chunk).map(Arc::clone)
    }

    /// Takes one chunk away.
    pub fn remove(&self, chunk: u32) {
        self.lock().kept.remove(&chunk);
    }

    /// Keeps `length` bytes of a chunk if there is room and `fill` could write all of them. Nothing happens if there is
    /// no memory.
    pub fn put(&self, chunk: u32, length: usize, fill: impl FnOnce(&mut [u8]) -> Option<()>) {
        let footprint = footprint(length);
        let has_room = |state: &State, bytes: usize| self.used() + bytes as u64 <= state.room;
        // Filled outside of the lock: whoever loads chunks takes it too.
        let mut kept = {
            let state = self.lock();
            let (true, Ok(memory)) = (has_room(&state, footprint), MmapMut::map_anon(footprint))
            else {
                return;
            };
            self.used.fetch_add(footprint as u64, Ordering::SeqCst);
            Kept {
                memory,
                length,
                used: Arc::clone(&self.used),
            }
        };
        #[cfg(target_os = "linux")]
        // A child of fork streams nothing of ours, and would hold this memory. Only advice.
        let _ = kept.memory.advise(memmap2::Advice::DontFork);
        let filled = kept.memory.get_mut(..length).and_then(fill);
        let mut state = self.lock();
        // The room may be another one by now.
        if filled.is_some() && has_room(&state, 0) {
            state.kept.insert(chunk, Arc::new(kept));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(to: &mut [u8], byte: u8) -> Option<()> {
        to.fill(byte);
        Some(())
    }

    #[test]
    fn it_holds_what_was_put_there_within_its_room() {
        let shelf = Shelf::default();
        shelf.put(1, 100, |_| panic!("there is no room"));
        shelf.allow(3 * 4096);
        shelf.put(1, 5000, |to| filled(to, 7));
        shelf.put(2, 5000, |_| panic!("there is no room"));
        shelf.put(3, 4096, |to| filled(to, 9));
        assert_eq!((shelf.used(), shelf.count()), (3 * 4096, 2));
        let kept = shelf.get(1).unwrap();
        assert_eq!(kept.bytes(), [7; 5000]);
        assert!(shelf.get(2).is_none());

        // Who decodes it at this moment still has it, and it counts as long.
        shelf.retain(|chunk| chunk == 3);
        assert!(shelf.get(1).is_none());
        assert_eq!(shelf.used(), 3 * 4096);
        drop(kept);
        assert_eq!(shelf.used(), 4096);
        shelf.remove(3);
        assert_eq!((shelf.used(), shelf.count()), (0, 0));
    }

    #[test]
    fn what_could_not_be_filled_does_not_lie_there() {
        let shelf = Shelf::default();
        shelf.allow(1 << 20);
        shelf.put(1, 10, |_| None);
        assert!(shelf.get(1).is_none());
        assert_eq!(shelf.used(), 0);
    }

    #[test]
    fn a_chunk_that_is_put_twice_counts_once() {
        let shelf = Shelf::default();
        shelf.allow(1 << 20);
        shelf.put(1, 10, |to| filled(to, 1));
        shelf.put(1, 10, |to| filled(to, 2));
        assert_eq!(
            (shelf.used(), shelf.get(1).unwrap().bytes()),
            (4096, &[2; 10][..])
        );
    }
}
