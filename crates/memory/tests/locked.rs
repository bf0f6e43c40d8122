//! A process whose memory is locked: what is reserved must not become memory.
#![allow(
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

fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = (status.lines().find(|line| line.starts_with("VmRSS:"))).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
}

/// Ends where the limit doesn't allow the test.
fn lock(flags: libc::c_int) {
    if unsafe { libc::mlockall(flags) } != 0 {
        unsafe { libc::_exit(77) };
    }
}

/// As large a pool as the model, of which two slots are used, in turn, by all chunks.
fn use_two_slots(backend: Backend, reserved: impl FnOnce(), used: impl FnOnce()) -> usize {
    let before = resident();
    let space = Arc::new(AddressSpace::reserve(CHUNKS, CHUNKS, CHUNK, Some(backend)).unwrap());
    let registration = Registration::new(Arc::clone(&space)).unwrap();
    reserved();
    for chunk in 0..CHUNKS {
        let slot = chunk % 2;
        space.open(slot).unwrap();
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
    let left = resident() - before;
    assert!(left < CHUNK * 3, "{left} bytes stay");
    drop(registration);
    most
}

fn holds(lock_first: bool) {
    for backend in [Backend::Move, Backend::Share] {
        let (end, words) = run(|| {
            if lock_first {
                lock(libc::MCL_FUTURE);
            }
            // Code and libraries are locked as well: measured once they are there.
            let _ = use_two_slots(backend, || (), || ());
            let most = match lock_first {
                true => use_two_slots(backend, || (), || ()),
                false => use_two_slots(backend, || (), || lock(libc::MCL_CURRENT)),
            };
            eprintln!("{most}");
            let pool = CHUNKS as usize * CHUNK;
            assert!(!lock_first || most < pool / 2, "{most} bytes of {pool}");
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
fn slots_give_their_memory_back_when_it_is_locked() {
    holds(false);
}
