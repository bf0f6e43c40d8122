//! Addresses, pool and fault handler against the real kernel.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    clippy::undocumented_unsafe_blocks,
    clippy::disallowed_methods
)]

mod child;

use child::{CHUNK, End, run};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;
use weightstream_memory::{AddressSpace, Backend, Event, Registration};

const BACKENDS: [Backend; 2] = [Backend::Move, Backend::Share];

fn space(chunks: u32, slots: u32, backend: Backend) -> (Arc<AddressSpace>, Registration) {
    let space = Arc::new(AddressSpace::reserve(chunks, slots, CHUNK, Some(backend)).unwrap());
    let registration = Registration::new(space.clone()).unwrap();
    (space, registration)
}

fn fill(space: &AddressSpace, slot: u32, value: u8) {
    space.open(slot..slot + 1).unwrap();
    unsafe { space.slot(slot).write_bytes(value, CHUNK) };
}

fn read(space: &AddressSpace, offset: usize) -> u8 {
    child::read(space.base() + offset)
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

fn dies_saying(words: &str, act: impl FnOnce()) {
    let (end, said) = run(act);
    assert_eq!(end, End::Signal(libc::SIGSEGV));
    assert!(said.contains(words), "{said:?}");
}

#[test]
fn what_is_not_ours_still_dies() {
    dies_saying("", || {
        child::read(8);
    });
}

/// Grants the next write that somebody asks for.
fn permit_one(space: &AddressSpace) -> u64 {
    loop {
        let rings = space.rings();
        while let Some(event) = space.take_event() {
            if let Event::Writing { offset, .. } = event {
                space.permit_writes((offset / CHUNK as u64) as u32).unwrap();
                return offset;
            }
        }
        space.wait(rings, None);
    }
}

#[test]
fn a_write_waits_until_it_is_permitted() {
    for backend in BACKENDS {
        let (space, _registration) = space(2, 2, backend);
        fill(&space, 0, 5);
        space.mark_ready(1, 0);
        let at = space.base() + CHUNK + 77;
        let writer = thread::spawn(move || unsafe { (at as *mut u8).write_volatile(9) });
        assert_eq!(permit_one(&space), CHUNK as u64 + 77);
        writer.join().unwrap();
        assert_eq!((read(&space, CHUNK + 77), read(&space, CHUNK)), (9, 5));
        // Withdrawn, it is read-only again, and filled as if nothing had been.
        assert_eq!(space.withdraw(1).unwrap(), Some(0));
        fill(&space, 0, 5);
        space.mark_ready(1, 0);
        let writer = thread::spawn(move || unsafe { (at as *mut u8).write_volatile(8) });
        permit_one(&space);
        writer.join().unwrap();
    }
}

#[test]
fn a_touch_after_the_end_dies() {
    for backend in BACKENDS {
        let (space, registration) = space(2, 1, backend);
        drop(registration);
        dies_saying("", || {
            read(&space, 0);
        });
    }
}

#[test]
fn a_closed_space_has_stand_ins() {
    for backend in BACKENDS {
        let (end, words) = run(|| {
            let space = AddressSpace::reserve(4, 1, CHUNK, Some(backend)).unwrap();
            let space = Arc::new(space.with_names([(0, "layer.weight".to_owned())]));
            let _registration = Registration::new(space.clone()).unwrap();
            fill(&space, 0, 5);
            space.mark_ready(3, 0);
            space.close();
            for chunk in 0..3 {
                assert_eq!(read(&space, chunk * CHUNK + 9), 0xFF);
                // Written to, each by itself.
                unsafe { ((space.base() + chunk * CHUNK) as *mut u8).write_volatile(1) };
                assert_eq!(read(&space, chunk * CHUNK + 1), 0xFF);
                assert!(matches!(space.take_event(), Some(Event::Lost { .. })));
                assert_eq!(space.withdraw(chunk as u32).unwrap(), None);
            }
            assert_eq!(read(&space, 3 * CHUNK), 5);
            unsafe { ((space.base() + 3 * CHUNK) as *mut u8).write_volatile(1) };
            assert_eq!(space.withdraw(3).unwrap(), Some(0));
            space.release_all();
            assert_eq!(read(&space, 3 * CHUNK), 0xFF);
        });
        assert_eq!(end, End::Exit(0), "{words}");
        assert_eq!(
            words
                .matches("weight \"layer.weight\" was used after")
                .count(),
            1,
            "{words}"
        );
    }
}

/// A child of fork has no pager, and its parent goes on with the pool: it must die, not hang, and above all not read
/// something else.
#[test]
fn a_forked_child_never_reads_a_number() {
    for backend in BACKENDS {
        let (space, _registration) = space(3, 2, backend);
        fill(&space, 0, 5);
        space.mark_ready(1, 0);
        assert_eq!(read(&space, CHUNK), 5);
        for chunk in 0..2 {
            dies_saying("forked", || {
                read(&space, chunk * CHUNK);
            });
        }
        // Nothing that the child allocates comes to lie at a weight's address.
        dies_saying("forked", || {
            for _ in 0..4 {
                unsafe {
                    let at = libc::mmap(
                        (space.base() + CHUNK) as *mut libc::c_void,
                        CHUNK,
                        libc::PROT_READ | libc::PROT_WRITE,
                        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                        -1,
                        0,
                    );
                    assert_ne!(at, libc::MAP_FAILED);
                }
            }
            read(&space, CHUNK);
        });
        // The child can let go of what it inherited, and stream on its own.
        let (end, words) = run(|| {
            let (space, _registration) = self::space(1, 1, backend);
            fill(&space, 0, 3);
            space.mark_ready(0, 0);
            assert_eq!(read(&space, 9), 3);
        });
        assert_eq!(end, End::Exit(0), "{words}");
        assert_eq!(read(&space, CHUNK), 5);
    }
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
