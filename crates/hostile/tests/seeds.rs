//! Valid inputs, and each with thousands of small damages.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    clippy::disallowed_methods
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use weightstream_hostile::TARGETS;

/// Damaged inputs for each target.
const DAMAGED: usize = 2000;

/// Bytes of the largest request for memory; no seed is larger than a hundredth of it.
const MOST_MEMORY: usize = 4 << 20;

/// The system's allocator; remembers the largest request.
struct Watching;

static LARGEST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: passes everything on to the system's allocator as it is.
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LARGEST.fetch_max(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Watching = Watching;

/// Always the same numbers.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        // Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014 (SplitMix64).
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ mixed >> 31) % end.max(1) as u64) as usize
    }

    fn damage(&mut self, bytes: &mut Vec<u8>, other: &[u8]) {
        const NUMBERS: [u64; 8] = [0, 1, 0x7F, 0xFF, 0xFFFF, 0x7FFF_FFFF, 1 << 40, u64::MAX];
        let place = self.below(bytes.len());
        let rest = bytes.len() - place;
        match self.below(7) {
            0 => bytes.truncate(place),
            1 => drop(bytes.drain(place..place + self.below(rest.min(16)))),
            2 => {
                let again = bytes[place..place + self.below(rest.min(64))].to_vec();
                bytes.splice(place..place, again);
            }
            3 => {
                let from = self.below(other.len());
                let end = other.len().min(from + self.below(64));
                bytes.splice(place..place, other[from..end].iter().copied());
            }
            4 => {
                let number = NUMBERS[self.below(NUMBERS.len())].to_le_bytes();
                let width = (1 << self.below(4)).min(rest);
                bytes[place..place + width].copy_from_slice(&number[..width]);
            }
            _ if rest > 0 => bytes[place] ^= 1 << self.below(8),
            _ => bytes.push(self.below(256) as u8),
        }
    }
}

/// One test, so that no other one's requests are seen.
#[test]
fn no_damage_panics_or_takes_much_memory() {
    for (name, target) in TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("seeds")
            .join(name);
        let mut paths: Vec<_> = folder
            .read_dir()
            .unwrap()
            .map(|file| file.unwrap().path())
            .collect();
        paths.sort();
        let seeds: Vec<Vec<u8>> = paths
            .iter()
            .map(|path| std::fs::read(path).unwrap())
            .collect();
        assert!(
            seeds.iter().all(|seed| seed.len() <= MOST_MEMORY / 100),
            "{name}"
        );
        let mut random = Random(4);
        LARGEST.store(0, Ordering::Relaxed);
        for number in 0..seeds.len() + DAMAGED {
            let mut bytes = seeds[number % seeds.len()].clone();
            if number >= seeds.len() {
                for _ in 0..=random.below(4) {
                    let other = random.below(seeds.len());
                    random.damage(&mut bytes, &seeds[other]);
                }
            }
            let ended = catch_unwind(AssertUnwindSafe(|| target(&bytes)));
            let largest = LARGEST.load(Ordering::Relaxed);
            if ended.is_err() || largest > MOST_MEMORY {
                let found = std::env::temp_dir().join(format!("weightstream-{name}-{number}"));
                std::fs::write(&found, &bytes).unwrap();
                panic!(
                    "{name}: a request of {largest} bytes, or the panic above; the input is {}",
                    found.display()
                );
            }
        }
    }
}
