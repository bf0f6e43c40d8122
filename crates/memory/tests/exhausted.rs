//! A process that has no mapping left (vm.max_map_count).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    missing_docs,
    clippy::undocumented_unsafe_blocks
)]

mod child;

use child::{CHUNK, End, read, run};
use std::sync::Arc;
use weightstream_memory::{AddressSpace, Backend, Registration};

const PAGE: usize = 1 << 16;

/// Mappings taken so that the process has none left.
#[derive(Default)]
struct Taken(Vec<usize>);

impl Taken {
    fn leave(&mut self, spare: usize) {
        loop {
            // Every other protection differs, so that the kernel can't merge them.
            let protection = [libc::PROT_READ, libc::PROT_NONE][self.0.len() % 2];
            let at = unsafe {
                libc::mmap(
                    std::ptr::null_mut(),
                    PAGE,
                    protection,
                    libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                    -1,
                    0,
                )
            };
            if at == libc::MAP_FAILED {
                break;
            }
            self.0.push(at as usize);
            assert!(self.0.len() < 1_000_000, "no limit on mappings here");
        }
        self.give_back(spare);
    }

    fn give_back(&mut self, count: usize) {
        for _ in 0..count {
            // The last ones: the others keep their places.
            let at = self.0.pop().unwrap();
            unsafe { libc::munmap(at as *mut libc::c_void, PAGE) };
        }
    }
}

fn space(backend: Backend) -> Registration {
    let space = Arc::new(AddressSpace::reserve(5, 5, CHUNK, Some(backend)).unwrap());
    // Chunks 1 and 3, from slots 3 and 1: neither has a neighbour to merge with.
    for (chunk, slot) in [(1, 3), (3, 1)] {
        space.open(slot..slot + 1).unwrap();
        unsafe { space.slot(slot).write_bytes(chunk as u8, CHUNK) };
        space.mark_ready(chunk, slot);
    }
    Registration::new(space).unwrap()
}

fn byte(space: &AddressSpace, chunk: usize) -> u8 {
    read(space.base() + chunk * CHUNK + 77)
}

#[test]
fn a_touch_ends_with_a_message() {
    for backend in [Backend::Move, Backend::Share] {
        let (end, words) = run(|| {
            let registration = space(backend);
            let mut taken = Taken::default();
            for chunk in [1, 3] {
                taken.leave(0);
                byte(registration.space(), chunk);
            }
        });
        assert_eq!(end, End::Signal(libc::SIGSEGV));
        assert!(words.contains("vm.max_map_count"), "{words}");
    }
}

/// However many chunks there are, only those that are shown have mappings of their own.
#[test]
fn chunks_that_have_left_take_no_mapping() {
    let count = || {
        std::fs::read_to_string("/proc/self/maps")
            .unwrap()
            .lines()
            .count()
    };
    for backend in [Backend::Move, Backend::Share] {
        let space = AddressSpace::reserve(300, 4, 4096, Some(backend)).unwrap();
        space.open(0..4).unwrap();
        let before = count();
        for chunk in 0..300 {
            let slot = chunk * 7 % 4;
            space.mark_ready(chunk, slot);
            space.publish(chunk).unwrap();
            assert_eq!(space.withdraw(chunk).unwrap(), Some(slot));
        }
        assert!(count() < before + 30, "{} after {before}", count());
    }
}

/// A chunk can leave where the process has as many mappings as it may: that is what frees some.
#[test]
fn a_chunk_leaves_without_a_mapping_to_spare() {
    for backend in [Backend::Move, Backend::Share] {
        let (end, words) = run(|| {
            let registration = space(backend);
            let space = registration.space();
            assert_eq!(byte(space, 1), 1);
            let mut taken = Taken::default();
            taken.leave(0);
            assert_eq!(space.withdraw(1).unwrap(), Some(3));
            assert!(!space.is_published(1));
            taken.give_back(100);
            unsafe { space.slot(3).write_bytes(5, CHUNK) };
            space.mark_ready(4, 3);
            assert_eq!((byte(space, 4), byte(space, 3)), (5, 3));
        });
        assert_eq!(end, End::Exit(0), "{backend:?}: {words}");
    }
}

/// With any number of mappings left: what fails changes nothing, what succeeds is right.
#[test]
fn a_refused_publish_or_withdraw_changes_nothing() {
    for backend in [Backend::Move, Backend::Share] {
        let (end, words) = run(|| {
            let (mut refused, mut published, mut withdrawn) = ([0; 2], 0, 0);
            let mut taken = Taken::default();
            for spare in 0..14 {
                let registration = space(backend);
                let space = registration.space();
                // What the space has kept is spent, as the pager would after a refusal, and then taken too.
                taken.leave(0);
                space.spend_spare();
                assert_eq!(byte(space, 3), 3);
                taken.leave(spare);
                let done = space.publish(1).is_ok();
                published += usize::from(done);
                refused[0] += usize::from(!done);
                taken.give_back(100);
                // The slot of a chunk that was not published can still be written.
                if !done {
                    assert_eq!(space.withdraw(1).unwrap(), Some(3));
                    unsafe { space.slot(3).write_bytes(1, CHUNK) };
                    space.mark_ready(1, 3);
                }
                assert_eq!((byte(space, 1), byte(space, 3)), (1, 3));

                taken.leave(spare);
                let done = space.withdraw(1).is_ok();
                withdrawn += usize::from(done);
                refused[1] += usize::from(!done);
                // Still there, or not there; never something else.
                assert_eq!(space.is_published(1), !done);
                if !done {
                    assert_eq!(byte(space, 1), 1);
                }
                taken.give_back(100);
                if !done {
                    assert_eq!(space.withdraw(1).unwrap(), Some(3));
                }
                unsafe { space.slot(3).write_bytes(9, CHUNK) };
                space.mark_ready(4, 3);
                assert_eq!((byte(space, 4), byte(space, 3)), (9, 3));
            }
            eprintln!("refused {refused:?}, published {published}, withdrawn {withdrawn}");
            assert!(refused[0] > 0 && published > 0 && withdrawn > 0);
        });
        assert_eq!(end, End::Exit(0), "{words}");
        println!("{backend:?}: {words}");
    }
}
