//! The handler of SIGSEGV (on Apple's systems SIGBUS): one for the process, with good manners.
//!
//! It looks the faulting address up in a fixed table of address spaces; what is not ours goes to the handler that
//! was there before (faulthandler's, torch's, the user's), or dies as it would have. Everything reachable from
//! [`handle`] uses atomics and system calls only: the interrupted code may hold any lock.

use super::access::{is_write, last_fault};
use super::mapping::forbid;
use super::mask::unblock_faults;
use super::seen::Seen;
use super::space::{AddressSpace, Incurable, Served, current_thread};
use super::table::Table;
use crate::MemoryError;
use std::mem::MaybeUninit;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// More models than anyone streams at once; a lookup walks the used part of the table only.
const LIMIT: usize = 4096;

/// What a touch of reserved addresses raises.
pub(super) const SIGNAL: libc::c_int = if cfg!(target_vendor = "apple") {
    libc::SIGBUS
} else {
    libc::SIGSEGV
};

static TABLE: Table<AddressSpace, LIMIT> = Table::new();
static SEEN: Seen = Seen::new();

/// A handler that was in front when ours was installed. Leaked: another thread may be in it.
struct Predecessor {
    action: libc::sigaction,
    /// The one that was found before this one.
    below: *const Predecessor,
}

impl Predecessor {
    fn is(&self, action: &libc::sigaction) -> bool {
        self.action.sa_sigaction == action.sa_sigaction
    }
}

/// The predecessor found last; null before the first installation.
static PREDECESSORS: AtomicPtr<Predecessor> = AtomicPtr::new(null_mut());
static INSTALLING: Mutex<()> = Mutex::new(());

/// The thread that is handing a fault on at this moment (0 is none), and to whom.
static PASSING: AtomicU32 = AtomicU32::new(0);
static PASSED_TO: AtomicPtr<Predecessor> = AtomicPtr::new(null_mut());

/// While it lives, touches of the space's addresses are served.
pub struct Registration {
    index: usize,
    space: Arc<AddressSpace>,
}

impl Registration {
    /// Enters a space into the table and installs the handler where it is not yet.
    ///
    /// # Errors
    /// More spaces are registered than the table holds.
    pub fn new(space: Arc<AddressSpace>) -> Result<Self, MemoryError> {
        ensure_fault_handler();
        let owner = Arc::as_ptr(&space);
        // SAFETY: the Registration keeps the space alive and leaves the table before it lets go.
        match unsafe { TABLE.enter(owner, space.base(), space.length()) } {
            Some(index) => Ok(Self { index, space }),
            None => Err(MemoryError::TooManySpaces { limit: LIMIT }),
        }
    }

    /// The space.
    pub fn space(&self) -> &Arc<AddressSpace> {
        &self.space
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // Handlers that serve a fault of this space now leave soon after.
        self.space.close();
        TABLE.leave(self.index);
    }
}

/// Has the calling thread's touches served: installs the handler, or puts it back in front where another library has
/// installed its own since (faulthandler for example), and unblocks its signal, without which the kernel ends the
/// process. Two system calls where nothing is to be done. Not for use inside a signal handler.
pub fn ensure_fault_handler() {
    unblock_faults();
    let ours = handle as *const () as usize;
    if PASSING.load(Ordering::SeqCst) != 0 {
        // Here no fault is being handled, so a handler that this thread handed one to has left by a long jump.
        let _ = PASSING.compare_exchange(current_thread(), 0, Ordering::SeqCst, Ordering::SeqCst);
    }
    if query().sa_sigaction == ours {
        return;
    }
    let _guard = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    let current = query();
    if current.sa_sigaction == ours {
        return;
    }
    remember(current);
    // SAFETY: zero is a valid sigaction; the handler has the three-argument form that SA_SIGINFO promises.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = ours;
        // ONSTACK for whoever set an alternate stack (stack overflows must still be reportable); NODEFER because
        // a foreign fault is passed on from inside this one.
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
        libc::sigemptyset(&mut action.sa_mask);
        libc::sigaction(SIGNAL, &action, null_mut());
    }
}

/// Makes this predecessor the one found last; each is in the list once. Under the lock.
fn remember(action: libc::sigaction) {
    // SAFETY: null or leaked below, never changed after.
    let top = unsafe { PREDECESSORS.load(Ordering::SeqCst).cast_const().as_ref() };
    if top.is_none() {
        // SAFETY: the function touches a static table and makes system calls, as a forked child is allowed to.
        unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    }
    if top.is_some_and(|top| top.is(&action)) {
        return;
    }
    let below = without(top, &action).map_or(null(), std::ptr::from_ref);
    let predecessor = Box::leak(Box::new(Predecessor { action, below }));
    PREDECESSORS.store(predecessor, Ordering::SeqCst);
}

/// The list from `from` on without this action. What lies above it is made anew: the list may be in use.
fn without(
    from: Option<&'static Predecessor>,
    action: &libc::sigaction,
) -> Option<&'static Predecessor> {
    let from = from?;
    // SAFETY: null or leaked, never changed.
    let below = unsafe { from.below.as_ref() };
    if from.is(action) {
        return below;
    }
    let rest = without(below, action).map_or(null(), std::ptr::from_ref);
    if rest == from.below {
        return Some(from);
    }
    Some(Box::leak(Box::new(Predecessor {
        action: from.action,
        below: rest,
    })))
}

/// A child of fork has no pager. Some of the addresses are shared with the parent, who goes on changing what lies
/// there; others are not mapped, and free for the child's next allocation. No number may be read from either.
extern "C" fn in_child() {
    TABLE.forked(|base, length| {
        // Refused only where mappings run out, and this needs fewer than there were.
        let _ = forbid(base, length);
    });
}

fn query() -> libc::sigaction {
    let mut current = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: asking only; the structure is filled or stays zero, which is valid.
    unsafe {
        libc::sigaction(SIGNAL, std::ptr::null(), current.as_mut_ptr());
        current.assume_init()
    }
}

/// Where this thread's errno lives.
unsafe fn errno_location() -> *mut libc::c_int {
    // SAFETY: no preconditions; the pointer is the calling thread's own.
    unsafe {
        #[cfg(target_os = "linux")]
        return libc::__errno_location();
        #[cfg(target_os = "android")]
        return libc::__errno();
        #[cfg(target_vendor = "apple")]
        return libc::__error();
    }
}

extern "C" fn handle(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes valid pointers for a handler with SA_SIGINFO; errno belongs to this thread.
    unsafe {
        let errno = errno_location();
        let saved = *errno;
        let served = address_of(info, context).and_then(|address| {
            SEEN.note(current_thread(), address);
            let write = is_write(context);
            TABLE.visit(address, |space| {
                let served = space.serve_fault(address, write);
                explain(served, space.name_at(address));
                served
            })
        });
        *errno = saved;
        if served.is_none_or(|served| served.is_err()) {
            pass_on(signal, info, context);
        }
    }
}

/// Where the fault was that this signal tells of; None for a signal that tells of none.
///
/// A handler that was installed after ours gets a fault first. Where it puts ours back and raises the signal again, as
/// faulthandler does, the new signal has no address, but the thread's registers still show that of the fault. They show
/// that of an earlier one where somebody raises the signal for reasons of their own; an earlier one came to us.
unsafe fn address_of(info: *const libc::siginfo_t, context: *const libc::c_void) -> Option<usize> {
    // SAFETY: as for `handle`.
    unsafe {
        if (*info).si_code > 0 {
            return Some((*info).si_addr() as usize);
        }
        Some(last_fault(context)).filter(|&address| is_raised(info) && !SEEN.has(address))
    }
}

/// Whether a thread of this process raised the signal.
#[cfg(not(target_vendor = "apple"))]
unsafe fn is_raised(info: *const libc::siginfo_t) -> bool {
    // SAFETY: the kernel fills in who sent a signal with this code.
    unsafe { (*info).si_code == libc::SI_TKILL && (*info).si_pid() as u32 == std::process::id() }
}

#[cfg(target_vendor = "apple")]
unsafe fn is_raised(_: *const libc::siginfo_t) -> bool {
    false
}

/// Last words before a fault that kills: without them nobody would connect it with a weight. And words where a thread
/// goes on without a weight that nobody else may tell it of.
fn explain(served: Result<Served, Incurable>, name: &[u8]) {
    let words: &[u8] = match served {
        Ok(Served::Cured) | Err(Incurable::Foreign) => return,
        Ok(Served::Lost) => b" was used after its stream was closed: it reads as NaN",
        Err(Incurable::Written) => {
            b" was written to; streamed weights are read-only (clone it first, or load the model without streaming)"
        }
        Err(Incurable::Closed) => b" was used after its stream was closed",
        Err(Incurable::Forked) => {
            b" was used in a forked child; load the model in the child, or start it with the 'spawn' method"
        }
        Err(Incurable::Mapping) => {
            b": the kernel refused to map it: the process has as many mappings as vm.max_map_count allows"
        }
    };
    let mut line = [0_u8; 512];
    let mut length = 0;
    // The name may be cut, the words not.
    let name = name.get(..line.len() / 2).unwrap_or(name);
    let (before, after): (&[u8], &[u8]) = match name {
        [] => (b"weightstream: a weight", b""),
        _ => (b"weightstream: weight \"", b"\""),
    };
    for &byte in [before, name, after, words, b"\n"].into_iter().flatten() {
        if let Some(place) = line.get_mut(length) {
            *place = byte;
            length += 1;
        }
    }
    // In one piece: other threads write too.
    // SAFETY: the first `length` bytes of a live buffer.
    unsafe { libc::write(2, line.as_ptr().cast(), length) };
}

/// Hands the fault to whoever was there before.
unsafe fn pass_on(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // A handler that was installed after ours remembers ours as its own predecessor, and hands the fault back to us
    // by a call or by raising the signal again: then it is the turn of the one below it.
    let thread = current_thread();
    let handed_back = PASSING.swap(thread, Ordering::SeqCst) == thread;
    // SAFETY: predecessors are null or leaked, never changed; the handler in one has the form that its flags say, as
    // whoever installed it promised the kernel.
    unsafe {
        let next = if handed_back {
            match PASSED_TO.load(Ordering::SeqCst).as_ref() {
                Some(passed) => passed.below.as_ref(),
                None => None,
            }
        } else {
            PREDECESSORS.load(Ordering::SeqCst).cast_const().as_ref()
        };
        let pointer = next.map_or(null_mut(), |next| std::ptr::from_ref(next).cast_mut());
        PASSED_TO.store(pointer, Ordering::SeqCst);
        match next.map(|next| &next.action) {
            Some(action) if action.sa_sigaction == libc::SIG_IGN && (*info).si_code <= 0 => {}
            None => die(signal, info),
            Some(action) if matches!(action.sa_sigaction, libc::SIG_DFL | libc::SIG_IGN) => {
                die(signal, info);
            }
            Some(action) if action.sa_flags & libc::SA_SIGINFO != 0 => {
                let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) =
                    std::mem::transmute(action.sa_sigaction);
                handler(signal, info, context);
            }
            Some(action) => {
                let handler: extern "C" fn(libc::c_int) = std::mem::transmute(action.sa_sigaction);
                handler(signal);
            }
        }
    }
    PASSING.store(0, Ordering::SeqCst);
}

/// What happens to a process that has no handler.
unsafe fn die(signal: libc::c_int, info: *mut libc::siginfo_t) {
    // SAFETY: zero is a valid sigaction, `info` comes from the kernel.
    unsafe {
        let mut default: libc::sigaction = std::mem::zeroed();
        default.sa_sigaction = libc::SIG_DFL;
        libc::sigaction(signal, &default, null_mut());
        // A fault repeats as soon as this returns; a signal from kill() has to be sent again.
        if (*info).si_code <= 0 {
            libc::raise(signal);
        }
    }
}
