//! A process whose memory is locked: what is reserved must not become memory.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    clippy::undocumented_unsafe_blocks
)]

mod child;

use child::{End, read, run};
use std::sync::Arc;
use weightstream_memory::{AddressSpace, Backend, Registration};

/// Small, so that the limit of a user without privileges (8 MiB) is enough.
const CHUNK: usize = child::CHUNK / 32;
const CHUNKS: u32 = 32;

/// Bytes of memory of this process but for its program and libraries.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let lines = status
        .lines()
        .filter(|line| line.starts_with("RssAnon:") || line.starts_with("RssShmem:"));
    let kilobytes = lines.map(|line| {
        line.split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<usize>()
            .unwrap()
    });
    kilobytes.sum::<usize>() << 10
}

/// Ends where the limit doesn't allow the test.
fn lock(flags: libc::c_int) {
    if unsafe { libc::mlockall(flags) } != 0 {
        unsafe { libc::_exit(77) };
    }
}

/// As large a pool as the model, of which two slots are used, in turn, by all chunks. Memory while they are, and when
/// they are given back. `used` is called between.
fn use_two_slots(backend: Backend, used: impl FnOnce()) -> [usize; 2] {
    let before = resident();
    let space = Arc::new(AddressSpace::reserve(CHUNKS, CHUNKS, CHUNK, Some(backend)).unwrap());
    let _registration = Registration::new(Arc::clone(&space)).unwrap();
    for chunk in 0..CHUNKS {
        let slot = chunk % 2;
        space.open(slot..slot + 1).unwrap();
        unsafe { space.slot(slot).write_bytes(chunk as u8, CHUNK) };
        space.mark_ready(chunk, slot);
        assert_eq!(read(space.base() + chunk as usize * CHUNK), chunk as u8);
        if chunk + 2 < CHUNKS {
            assert_eq!(space.withdraw(chunk).unwrap(), Some(slot));
        }
    }
    used();
    let most = resident() - before;
    for chunk in 0..CHUNKS {
        space.withdraw(chunk).unwrap();
    }
    space.release_all();
    [most, resident() - before]
}

fn holds(lock_before: bool) {
    /// Shared pages count wherever they are mapped.
    const SLACK: usize = 3 * CHUNK;
    for backend in [Backend::Move, Backend::Share] {
        let (end, words) = run(|| {
            if lock_before {
                lock(libc::MCL_FUTURE);
            }
            // What is needed for the first time.
            use_two_slots(backend, || ());
            let [most, left] = use_two_slots(backend, || {
                if !lock_before {
                    lock(libc::MCL_CURRENT);
                }
            });
            assert!(most - left >= 2 * CHUNK, "{left} of {most} bytes stay");
            // What else the process has counts when it is locked later.
            assert!(
                !lock_before || most < 2 * CHUNK + SLACK,
                "{most} bytes of memory"
            );
        });
        if end == End::Exit(77) {
            eprintln!("memory may not be locked here");
            continue;
        }
        assert_eq!(end, End::Exit(0), "{backend:?}: {words}");
    }
}

#[test]
fn slots_that_are_not_used_take_no_memory_of_who_locks_all() {
    holds(true);
}

#[test]
fn slots_that_were_locked_later_give_their_memory_back() {
    holds(false);
}
