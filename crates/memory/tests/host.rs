//! Addresses, pool and fault handler against the real kernel.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    clippy::undocumented_unsafe_blocks
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;
use weightstream_memory::{AddressSpace, Backend, Event, Registration};

const CHUNK: usize = 2 << 20;
const BACKENDS: [Backend; 2] = [Backend::Move, Backend::Share];

fn space(chunks: u32, slots: u32, backend: Backend) -> (Arc<AddressSpace>, Registration) {
    let space = Arc::new(AddressSpace::reserve(chunks, slots, CHUNK, Some(backend)).unwrap());
    let registration = Registration::new(space.clone()).unwrap();
    (space, registration)
}

fn fill(space: &AddressSpace, slot: u32, value: u8) {
    unsafe { space.slot(slot).write_bytes(value, CHUNK) };
}

fn read(space: &AddressSpace, offset: usize) -> u8 {
    unsafe { ((space.base() + offset) as *const u8).read_volatile() }
}

#[test]
fn a_ready_chunk_is_published_by_its_first_touch() {
    for backend in BACKENDS {
        let (space, _registration) = space(4, 2, backend);
        fill(&space, 1, 7);
        space.mark_ready(2, 1);
        assert!(!space.is_published(2));
        assert_eq!(read(&space, 2 * CHUNK + 12345), 7);
        assert!(space.is_published(2));
        assert!(matches!(
            space.take_event(),
            Some(Event::Touched { chunk: 2, .. })
        ));
        assert_eq!(space.withdraw(2).unwrap(), Some(1));
        fill(&space, 1, 9);
        space.mark_ready(0, 1);
        assert!(space.publish(0).unwrap());
        assert_eq!(read(&space, CHUNK - 1), 9);
        assert_eq!(space.take_event(), None);
    }
}

/// A pager with one slot fewer than it needs serves several readers at once; every byte must be right.
#[test]
fn readers_never_see_anything_but_the_chunk() {
    const CHUNKS: u32 = 12;
    const SLOTS: u32 = 5;
    for backend in BACKENDS {
        let (space, _registration) = space(CHUNKS, SLOTS, backend);
        let stop = Arc::new(AtomicBool::new(false));
        let reads = Arc::new(AtomicU64::new(0));
        let pager = {
            let (space, stop) = (space.clone(), stop.clone());
            thread::spawn(move || {
                let mut resident = std::collections::VecDeque::new();
                let mut free: Vec<u32> = (0..SLOTS).collect();
                while !stop.load(Ordering::Relaxed) {
                    let seen = space.rings();
                    while let Some(event) = space.take_event() {
                        let Event::Missing { offset, .. } = event else {
                            continue;
                        };
                        let chunk = (offset / CHUNK as u64) as u32;
                        if resident.contains(&chunk) {
                            continue;
                        }
                        let slot = free.pop().unwrap_or_else(|| {
                            let oldest = resident.pop_front().unwrap();
                            space.withdraw(oldest).unwrap().unwrap()
                        });
                        fill(&space, slot, chunk as u8 + 1);
                        space.mark_ready(chunk, slot);
                        resident.push_back(chunk);
                    }
                    space.wait(seen, Some(Duration::from_millis(20)));
                }
            })
        };
        let readers: Vec<_> = (0..3u64)
            .map(|seed| {
                let (space, reads) = (space.clone(), reads.clone());
                thread::spawn(move || {
                    let mut random = seed * 7919 + 1;
                    for _ in 0..400 {
                        random = random
                            .wrapping_mul(6364136223846793005)
                            .wrapping_add(1442695040888963407);
                        let chunk = (random >> 33) as usize % CHUNKS as usize;
                        let at = (random >> 13) as usize % CHUNK;
                        assert_eq!(read(&space, chunk * CHUNK + at), chunk as u8 + 1);
                        reads.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        for reader in readers {
            reader.join().unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        space.ring();
        pager.join().unwrap();
        assert_eq!(reads.load(Ordering::Relaxed), 1200);
    }
}

/// Runs `act` in a forked child and returns the signal that ended it (0 = it ended by itself).
fn signal_of_child(act: impl FnOnce()) -> i32 {
    unsafe {
        let child = libc::fork();
        if child == 0 {
            act();
            libc::_exit(0);
        }
        let mut status = 0;
        libc::waitpid(child, &mut status, 0);
        if libc::WIFSIGNALED(status) {
            libc::WTERMSIG(status)
        } else {
            0
        }
    }
}

#[test]
fn what_is_not_ours_still_dies() {
    let (space, registration) = space(2, 1, Backend::Move);
    assert_eq!(
        signal_of_child(|| unsafe {
            (8 as *const u8).read_volatile();
        }),
        libc::SIGSEGV
    );
    // A child has no pager: it must die, not hang.
    assert_eq!(
        signal_of_child(|| {
            read(&space, 0);
        }),
        libc::SIGSEGV
    );
    // Writing to a weight, in a process of its own.
    assert_eq!(
        signal_of_child(|| {
            let own = Arc::new(AddressSpace::reserve(1, 1, CHUNK, None).unwrap());
            let _registration = Registration::new(own.clone()).unwrap();
            own.mark_ready(0, 0);
            unsafe { (own.base() as *mut u8).write_volatile(1) };
        }),
        libc::SIGSEGV
    );
    drop(registration);
    assert_eq!(
        signal_of_child(|| {
            read(&space, 0);
        }),
        libc::SIGSEGV
    );
}

#[test]
fn a_thousand_spaces_leave_nothing_behind() {
    let mappings = || {
        std::fs::read_to_string("/proc/self/maps")
            .unwrap()
            .lines()
            .count()
    };
    let before = mappings();
    for _ in 0..1000 {
        let (space, _registration) = space(3, 2, Backend::Move);
        space.mark_ready(1, 0);
        read(&space, CHUNK);
    }
    assert!(
        mappings() <= before + 300,
        "{} mappings before, {} after",
        before,
        mappings()
    );
}
