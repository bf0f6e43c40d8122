//! Threads that have all signals blocked, as servers leave them.
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
use weightstream_memory::{AddressSpace, Registration, ensure_fault_handler, unblock_faults};

fn weight() -> Registration {
    let space = Arc::new(AddressSpace::reserve(1, 1, CHUNK, None).unwrap());
    space.open(0..1).unwrap();
    unsafe { space.slot(0).write_bytes(7, CHUNK) };
    space.mark_ready(0, 0);
    Registration::new(space).unwrap()
}

fn block_all() {
    unsafe {
        let mut all = std::mem::MaybeUninit::uninit();
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_BLOCK, all.as_ptr(), std::ptr::null_mut());
    }
}

fn touch(weight: &Registration) {
    assert_eq!(read(weight.space().base()), 7);
}

#[test]
fn a_thread_that_was_made_ready_is_served() {
    let (end, words) = run(|| {
        let weight = weight();
        block_all();
        ensure_fault_handler();
        touch(&weight);
    });
    assert_eq!(end, End::Exit(0), "{words}");
    // A thread that inherits it.
    let (end, words) = run(|| {
        let weight = weight();
        block_all();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                assert!(unblock_faults());
                assert!(!unblock_faults());
                touch(&weight);
            });
        });
    });
    assert_eq!(end, End::Exit(0), "{words}");
}

/// What the above would be without.
#[test]
fn a_thread_that_was_not_is_ended_by_the_kernel() {
    let (end, _) = run(|| {
        let weight = weight();
        block_all();
        touch(&weight);
    });
    assert_eq!(end, End::Signal(libc::SIGSEGV));
}
