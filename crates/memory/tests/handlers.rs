//! Other people's SIGSEGV handlers, before ours and after it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    clippy::undocumented_unsafe_blocks
)]

mod child;

use child::{CHUNK, End, read, run};
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use weightstream_memory::{AddressSpace, Registration, ensure_fault_handler};

const FOREIGN: usize = 8;
static REPLACED: AtomicUsize = AtomicUsize::new(0);

fn install(handler: usize, flags: libc::c_int) -> libc::sigaction {
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler;
        action.sa_flags = flags;
        let mut before = MaybeUninit::uninit();
        assert_eq!(
            libc::sigaction(libc::SIGSEGV, &action, before.as_mut_ptr()),
            0
        );
        before.assume_init()
    }
}

fn say(words: &str) {
    unsafe { libc::write(2, words.as_ptr().cast(), words.len()) };
}

/// Ends the process with 42 at our foreign address, with 43 for a signal that was raised.
extern "C" fn ends(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    unsafe {
        let fault = (*info).si_code > 0 && (*info).si_addr() as usize == FOREIGN;
        libc::_exit(if fault {
            42
        } else if (*info).si_code <= 0 {
            43
        } else {
            44
        });
    }
}

fn install_ending() {
    install(ends as *const () as usize, libc::SA_SIGINFO);
}

/// What Python's faulthandler does: says something, puts its predecessor back, raises the signal again.
extern "C" fn raises_again(signal: libc::c_int) {
    say("a fault\n");
    install(
        REPLACED.load(Ordering::SeqCst),
        libc::SA_SIGINFO | libc::SA_NODEFER,
    );
    unsafe { libc::raise(signal) };
}

fn install_raising() {
    let before = install(raises_again as *const () as usize, libc::SA_NODEFER);
    REPLACED.store(before.sa_sigaction, Ordering::SeqCst);
}

/// What crash reporters and language runtimes do: calls its predecessor.
extern "C" fn calls_on(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    say("called\n");
    let before: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) =
        unsafe { std::mem::transmute(REPLACED.load(Ordering::SeqCst)) };
    before(signal, info, context);
}

fn install_calling() {
    let before = install(
        calls_on as *const () as usize,
        libc::SA_SIGINFO | libc::SA_NODEFER,
    );
    REPLACED.store(before.sa_sigaction, Ordering::SeqCst);
}

/// A weight that can be read once, by a fault.
struct Weight {
    registration: Registration,
}

fn weight() -> Weight {
    let space = Arc::new(AddressSpace::reserve(1, 1, CHUNK, None).unwrap());
    let weight = Weight {
        registration: Registration::new(space).unwrap(),
    };
    weight.load();
    weight
}

impl Weight {
    fn load(&self) {
        let space = self.registration.space();
        space.withdraw(0).unwrap();
        space.open(0..1).unwrap();
        unsafe { space.slot(0).write_bytes(7, CHUNK) };
        space.mark_ready(0, 0);
    }

    fn is_right(&self) -> bool {
        read(self.registration.space().base()) == 7
    }

    /// As `is_right`, by another byte.
    fn is_other_right(&self) -> bool {
        read(self.registration.space().base() + 4096) == 7
    }
}

#[test]
fn a_handler_before_ours_gets_foreign_faults_with_their_address() {
    let (end, _) = run(|| {
        install_ending();
        let weight = weight();
        assert!(weight.is_right());
        read(FOREIGN);
    });
    assert_eq!(end, End::Exit(42));
}

#[test]
fn a_handler_after_ours_that_raises_again_ends_the_process() {
    // In front of ours: it gets the foreign fault first, and hands it to ours.
    let (end, words) = run(|| {
        install(libc::SIG_DFL, 0);
        ensure_fault_handler();
        install_raising();
        read(FOREIGN);
    });
    assert_eq!(end, End::Signal(libc::SIGSEGV));
    assert_eq!(words.matches("a fault").count(), 1, "{words}");
    // Ours back in front: it hands the fault on and gets it back.
    let (end, words) = run(|| {
        install(libc::SIG_DFL, 0);
        ensure_fault_handler();
        install_raising();
        ensure_fault_handler();
        read(FOREIGN);
    });
    assert_eq!(end, End::Signal(libc::SIGSEGV));
    assert_eq!(words.matches("a fault").count(), 1, "{words}");
}

#[test]
fn ours_comes_back_in_front_and_both_work() {
    for (install_theirs, words_of_theirs, last) in [
        (install_raising as fn(), "a fault\n", 43),
        (install_calling, "called\n", 42),
    ] {
        let (end, words) = run(|| {
            install_ending();
            let weight = weight();
            install_theirs();
            ensure_fault_handler();
            assert!(weight.is_right());
            weight.load();
            assert!(weight.is_right());
            read(FOREIGN);
        });
        // Theirs, then the one that was there before both.
        assert_eq!((end, &words[..]), (End::Exit(last), words_of_theirs));
    }
}

#[test]
fn a_handler_after_ours_that_raises_again_lets_weights_through() {
    let (end, words) = run(|| {
        install(libc::SIG_DFL, 0);
        let weight = weight();
        install_raising();
        assert!(weight.is_right());
        weight.load();
        assert!(weight.is_right());
        // Ours is back in front. A thread that shows its parent's last fault, until it has one of its own.
        weight.load();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                install_raising();
                assert!(weight.is_other_right());
            });
        });
    });
    assert_eq!(
        (end, words.matches("a fault").count()),
        (End::Exit(0), 2),
        "{words}"
    );
}

#[test]
fn a_signal_that_is_raised_for_other_reasons_ends_the_process() {
    for theirs in [|| (), install_raising as fn()] {
        for elsewhere in [false, true] {
            let (end, words) = run(|| {
                install(libc::SIG_DFL, 0);
                let weight = weight();
                assert!(weight.is_right());
                theirs();
                let raise = || unsafe { libc::raise(libc::SIGSEGV) };
                match elsewhere {
                    false => raise(),
                    true => std::thread::scope(|scope| scope.spawn(raise).join().unwrap()),
                };
            });
            assert_eq!(end, End::Signal(libc::SIGSEGV), "{words}");
        }
    }
}

#[test]
fn the_handler_that_was_installed_last_is_the_first_to_get_a_foreign_fault() {
    let (end, words) = run(|| {
        install(libc::SIG_DFL, 0);
        ensure_fault_handler();
        for _ in 0..3 {
            install_ending();
            ensure_fault_handler();
            install(libc::SIG_DFL, 0);
            ensure_fault_handler();
        }
        install_ending();
        ensure_fault_handler();
        read(FOREIGN);
    });
    assert_eq!(end, End::Exit(42), "{words}");
}

#[test]
fn a_library_that_comes_back_each_time_is_called_once() {
    let (end, words) = run(|| {
        install(libc::SIG_DFL, 0);
        ensure_fault_handler();
        for _ in 0..100 {
            install_calling();
            ensure_fault_handler();
        }
        read(FOREIGN);
    });
    assert_eq!(end, End::Signal(libc::SIGSEGV));
    assert_eq!(words.matches("called").count(), 1, "{words}");
}

#[test]
fn an_ignored_signal_stays_ignored() {
    let (end, _) = run(|| {
        install(libc::SIG_IGN, 0);
        ensure_fault_handler();
        unsafe { libc::raise(libc::SIGSEGV) };
    });
    assert_eq!(end, End::Exit(0));
}
