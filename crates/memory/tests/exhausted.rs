//! A process that has no mapping left (vm.max_map_count).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    clippy::undocumented_unsafe_blocks
)]

mod child;

use child::{CHUNK, End, read, run};
use std::sync::Arc;
use weightstream_memory::{AddressSpace, Backend, Registration};

const PAGE: usize = 1 << 16;

/// All mappings that this process may have, less `spare`; given back when dropped.
struct Exhausted(Vec<usize>);

impl Exhausted {
    fn leaving(spare: usize) -> Self {
        let mut taken = Vec::new();
        // Every other protection differs, so that the kernel can't merge them.
        for count in 0.. {
            let protection = [libc::PROT_READ, libc::PROT_NONE][count % 2];
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
            taken.push(at as usize);
            assert!(count < 1_000_000, "no limit on mappings here");
        }
        let mut exhausted = Self(taken);
        exhausted.give_back(spare);
        exhausted
    }

    fn give_back(&mut self, count: usize) {
        for _ in 0..count.min(self.0.len()) {
            // The last ones: the neighbours below keep their places.
            let at = self.0.pop().unwrap();
            unsafe { libc::munmap(at as *mut libc::c_void, PAGE) };
        }
    }
}

impl Drop for Exhausted {
    fn drop(&mut self) {
        self.give_back(usize::MAX);
    }
}

fn space(backend: Backend) -> Registration {
    let space = Arc::new(AddressSpace::reserve(5, 5, CHUNK, Some(backend)).unwrap());
    // Chunks 1 and 3, from slots 3 and 1: neither has a neighbour to merge with.
    for (chunk, slot) in [(1, 3), (3, 1)] {
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
            let _exhausted = Exhausted::leaving(0);
            byte(registration.space(), 1);
        });
        assert_eq!(end, End::Signal(libc::SIGSEGV));
        assert!(words.contains("vm.max_map_count"), "{words}");
    }
}

/// With any number of mappings left: what fails changes nothing, what succeeds is right.
#[test]
fn a_refused_publish_or_withdraw_changes_nothing() {
    for backend in [Backend::Move, Backend::Share] {
        let (end, words) = run(|| {
            let (mut refused, mut published, mut withdrawn) = ([0; 2], 0, 0);
            for spare in 0..10 {
                let registration = space(backend);
                let space = registration.space();
                let exhausted = Exhausted::leaving(spare);
                let done = space.publish(1).is_ok();
                published += usize::from(done);
                refused[0] += usize::from(!done);
                drop(exhausted);
                // The slot of a chunk that was not published can still be written.
                if !done {
                    assert_eq!(space.withdraw(1).unwrap(), Some(3));
                    unsafe { space.slot(3).write_bytes(1, CHUNK) };
                    space.mark_ready(1, 3);
                }
                assert_eq!((byte(space, 1), byte(space, 3)), (1, 3));

                let exhausted = Exhausted::leaving(spare);
                let done = space.withdraw(1).is_ok();
                withdrawn += usize::from(done);
                refused[1] += usize::from(!done);
                // Still there, or not there; never something else.
                assert_eq!(space.is_published(1), !done);
                if !done {
                    assert_eq!(byte(space, 1), 1);
                }
                drop(exhausted);
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
