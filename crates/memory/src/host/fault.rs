//! The SIGSEGV handler: one for the process, with good manners.
//!
//! It looks the faulting address up in a fixed table of address spaces; what is not ours goes to the handler that
//! was there before (faulthandler's, torch's, the user's), or dies as it would have. Everything reachable from
//! [`handle`] uses atomics and system calls only: the interrupted code may hold any lock.

use super::space::{AddressSpace, Incurable};
use crate::MemoryError;
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering};

/// More models than anyone streams at once; a lookup walks the used part of the table only.
const LIMIT: usize = 4096;

struct Entry {
    space: AtomicPtr<AddressSpace>,
    base: AtomicUsize,
    length: AtomicUsize,
    /// Handlers that look at this entry now; it is emptied only at zero.
    visitors: AtomicU32,
}

static TABLE: [Entry; LIMIT] = [const {
    Entry {
        space: AtomicPtr::new(std::ptr::null_mut()),
        base: AtomicUsize::new(0),
        length: AtomicUsize::new(0),
        visitors: AtomicU32::new(0),
    }
}; LIMIT];
static USED: AtomicUsize = AtomicUsize::new(0);

/// The handler found at installation. Leaked on each change: a handler may be reading the old one.
static PREVIOUS: AtomicPtr<libc::sigaction> = AtomicPtr::new(std::ptr::null_mut());
static INSTALLING: Mutex<()> = Mutex::new(());
/// The thread that is handing a fault on at this moment; 0 is none.
static PASSING: AtomicU32 = AtomicU32::new(0);

/// While it lives, touches of the space's addresses are served.
pub struct Registration {
    index: usize,
    space: Arc<AddressSpace>,
}

impl Registration {
    /// Enters a space into the table and installs the handler where it is not yet.
    pub fn new(space: Arc<AddressSpace>) -> Result<Self, MemoryError> {
        ensure_fault_handler();
        let pointer = Arc::as_ptr(&space).cast_mut();
        for (index, entry) in TABLE.iter().enumerate() {
            if entry
                .space
                .compare_exchange(
                    std::ptr::null_mut(),
                    pointer,
                    Ordering::SeqCst,
                    Ordering::SeqCst,
                )
                .is_ok()
            {
                entry.base.store(space.base(), Ordering::SeqCst);
                entry.length.store(space.length(), Ordering::SeqCst);
                USED.fetch_max(index + 1, Ordering::SeqCst);
                return Ok(Self { index, space });
            }
        }
        Err(MemoryError::TooManySpaces { limit: LIMIT })
    }

    /// The space.
    pub fn space(&self) -> &Arc<AddressSpace> {
        &self.space
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.space.close();
        let Some(entry) = TABLE.get(self.index) else {
            return;
        };
        entry.length.store(0, Ordering::SeqCst);
        // Handlers that already found the entry leave soon: the space is closed.
        while entry.visitors.load(Ordering::SeqCst) != 0 {
            std::thread::yield_now();
        }
        entry.space.store(std::ptr::null_mut(), Ordering::SeqCst);
    }
}

/// Installs the handler, or puts it back in front where another library has installed its own since (faulthandler
/// for example). One system call where nothing is to be done.
pub fn ensure_fault_handler() {
    let ours = handle as *const () as usize;
    let current = query();
    if current.sa_sigaction == ours {
        return;
    }
    let _guard = INSTALLING
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let current = query();
    if current.sa_sigaction == ours {
        return;
    }
    PREVIOUS.store(Box::into_raw(Box::new(current)), Ordering::SeqCst);
    // SAFETY: zero is a valid sigaction; the handler has the three-argument form that SA_SIGINFO promises.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = ours;
        // ONSTACK for whoever set an alternate stack (stack overflows must still be reportable); NODEFER because
        // a foreign fault is passed on from inside this one.
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
        libc::sigemptyset(&mut action.sa_mask);
        libc::sigaction(libc::SIGSEGV, &action, std::ptr::null_mut());
    }
}

fn query() -> libc::sigaction {
    let mut current = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: asking only; the structure is filled or stays zero, which is valid.
    unsafe {
        libc::sigaction(libc::SIGSEGV, std::ptr::null(), current.as_mut_ptr());
        current.assume_init()
    }
}

extern "C" fn handle(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes valid pointers for a handler with SA_SIGINFO; errno belongs to this thread.
    unsafe {
        let errno = libc::__errno_location();
        let saved = *errno;
        // A signal sent by kill() carries no address of ours.
        let address = if (*info).si_code > 0 {
            (*info).si_addr() as usize
        } else {
            0
        };
        match serve(address, is_write(context)) {
            Ok(()) => *errno = saved,
            Err(reason) => {
                explain(reason);
                *errno = saved;
                pass_on(signal, info, context);
            }
        }
    }
}

fn serve(address: usize, write: bool) -> Result<(), Incurable> {
    let used = USED.load(Ordering::SeqCst).min(LIMIT);
    for entry in &TABLE[..used] {
        let covers = || {
            let base = entry.base.load(Ordering::SeqCst);
            let length = entry.length.load(Ordering::SeqCst);
            (address >= base && address - base < length).then(|| address - base)
        };
        if covers().is_none() {
            continue;
        }
        entry.visitors.fetch_add(1, Ordering::SeqCst);
        // Looked at again now that the entry can't be emptied under us.
        let space = entry.space.load(Ordering::SeqCst);
        let served = match covers() {
            // SAFETY: the Registration that stored the pointer owns an Arc and waits for visitors before letting go.
            Some(offset) if !space.is_null() => unsafe {
                (*space).serve_fault(offset as u64, write)
            },
            _ => Err(Incurable::Foreign),
        };
        entry.visitors.fetch_sub(1, Ordering::SeqCst);
        return served;
    }
    Err(Incurable::Foreign)
}

/// Last words before a fault that kills: without them nobody would connect it with a weight.
fn explain(reason: Incurable) {
    let words: &[u8] = match reason {
        Incurable::Foreign => return,
        Incurable::Written => {
            b"weightstream: a streamed weight was written to; streamed weights are read-only \
              (clone it first, or load the model without streaming)\n"
        }
        Incurable::Closed => b"weightstream: a weight was used after its stream was closed\n",
        Incurable::Forked => {
            b"weightstream: a streamed weight was used in a forked child; load the model in the child, \
              or start it with the 'spawn' method\n"
        }
        Incurable::Mapping => b"weightstream: the kernel refused to map a chunk (vm.max_map_count reached?)\n",
    };
    // SAFETY: writing a constant to standard error.
    unsafe { libc::write(2, words.as_ptr().cast(), words.len()) };
}

/// Hands the fault to whoever was there before.
unsafe fn pass_on(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let previous = PREVIOUS.load(Ordering::SeqCst);
    // A handler that was installed after ours remembers ours as its own predecessor: without this the two would
    // hand a fatal signal to each other for ever.
    // SAFETY: gettid has no preconditions.
    let thread = unsafe { libc::gettid() } as u32;
    let again = PASSING.swap(thread, Ordering::SeqCst) == thread;
    // SAFETY: null or leaked by `ensure_fault_handler`, so alive for ever; the handler in it has the form that
    // its flags say, as whoever installed it promised the kernel.
    unsafe {
        if again
            || previous.is_null()
            || (*previous).sa_sigaction == libc::SIG_DFL
            || (*previous).sa_sigaction == libc::SIG_IGN
        {
            let mut default: libc::sigaction = std::mem::zeroed();
            default.sa_sigaction = libc::SIG_DFL;
            libc::sigaction(libc::SIGSEGV, &default, std::ptr::null_mut());
            // A fault repeats as soon as this returns; a signal from kill() has to be sent again.
            if (*info).si_code <= 0 {
                libc::raise(signal);
            }
        } else if (*previous).sa_flags & libc::SA_SIGINFO != 0 {
            let next: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) =
                std::mem::transmute((*previous).sa_sigaction);
            next(signal, info, context);
        } else {
            let next: extern "C" fn(libc::c_int) = std::mem::transmute((*previous).sa_sigaction);
            next(signal);
        }
    }
    PASSING.store(0, Ordering::SeqCst);
}

#[cfg(target_arch = "x86_64")]
fn is_write(context: *mut libc::c_void) -> bool {
    const PAGE_FAULT_WRITE: i64 = 2;
    // SAFETY: the kernel's third argument is a ucontext.
    unsafe {
        let context = context.cast::<libc::ucontext_t>();
        (*context).uc_mcontext.gregs[libc::REG_ERR as usize] & PAGE_FAULT_WRITE != 0
    }
}

#[cfg(target_arch = "aarch64")]
fn is_write(context: *mut libc::c_void) -> bool {
    // The kernel appends records to the machine context; the one with this magic holds ESR, whose bit 6 (WnR)
    // is set for a write. Linux: arch/arm64/include/uapi/asm/sigcontext.h.
    const ESR_MAGIC: u32 = 0x4553_5201;
    const WRITE_NOT_READ: u64 = 1 << 6;
    #[repr(C)]
    struct Record {
        magic: u32,
        size: u32,
        syndrome: u64,
    }
    // The reserved area follows the registers, 16-byte aligned, as struct sigcontext lays it out.
    const RESERVED_AT: usize = (8 + 31 * 8 + 8 + 8 + 8_usize).next_multiple_of(16);
    const RESERVED_BYTES: usize = 4096;
    // SAFETY: the kernel's third argument is a ucontext whose reserved area is a chain of records ended by size 0;
    // the walk is bounded by the area's size.
    unsafe {
        let context = context.cast::<libc::ucontext_t>();
        let reserved = (&raw const (*context).uc_mcontext)
            .cast::<u8>()
            .add(RESERVED_AT);
        let mut at = 0;
        while at + size_of::<Record>() <= RESERVED_BYTES {
            let record = reserved.add(at).cast::<Record>();
            match ((*record).magic, (*record).size) {
                (ESR_MAGIC, _) => return (*record).syndrome & WRITE_NOT_READ != 0,
                (_, 0) => return false,
                (_, size) => at += size as usize,
            }
        }
        false
    }
}
