//! OpenMP's threads, which compute for the thread that calls PyTorch.
//!
//! Each thread that calls has a team of its own, started at its first large operator, with the mask that it has then.

use std::cell::Cell;
use std::ffi::{CStr, c_int, c_uint, c_void};
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;
use weightstream::unblock_faults;

type Region = extern "C" fn(*mut c_void);

/// The functions of PyTorch's OpenMP: of GNU's, which every other one has too for what GCC compiled.
struct OpenMp {
    /// Runs a region in so many threads of the calling thread's team, 0 for all.
    parallel: extern "C" fn(Region, *mut c_void, c_uint, c_uint),
    /// How many threads the next region has.
    threads: extern "C" fn() -> c_int,
}

thread_local! {
    /// How many threads of this one's team are known to have the signal of touches unblocked.
    static TEAM: Cell<c_int> = const { Cell::new(0) };
}

/// Unblocks the signal of touches in the calling thread and in those that compute for it. Where that was done before,
/// one system call.
pub fn unblock_team() {
    let was_blocked = unblock_faults();
    let Some(openmp) = loaded() else {
        return;
    };
    let threads = (openmp.threads)();
    let known = TEAM.replace(threads);
    if known == threads && !was_blocked {
        return;
    }
    // The only thread of its process has no team. It may be a forked child, where OpenMP waits for the parent's.
    if known == 0 && is_only_thread() {
        return;
    }
    (openmp.parallel)(unblock, std::ptr::null_mut(), 0, 0);
}

extern "C" fn unblock(_: *mut c_void) {
    unblock_faults();
}

fn is_only_thread() -> bool {
    // A folder for each thread; a folder has two links more than it has folders.
    std::fs::metadata("/proc/self/task").is_ok_and(|folder| folder.nlink() == 3)
}

/// None where PyTorch was built without.
fn loaded() -> Option<&'static OpenMp> {
    static LOADED: OnceLock<Option<OpenMp>> = OnceLock::new();
    LOADED
        .get_or_init(|| {
            let (parallel, threads) = (find(c"GOMP_parallel")?, find(c"omp_get_max_threads")?);
            // SAFETY: the signatures that the OpenMP specification and GCC's ABI give them.
            unsafe {
                Some(OpenMp {
                    parallel: std::mem::transmute::<
                        *mut c_void,
                        extern "C" fn(Region, *mut c_void, c_uint, c_uint),
                    >(parallel),
                    threads: std::mem::transmute::<*mut c_void, extern "C" fn() -> c_int>(threads),
                })
            }
        })
        .as_ref()
}

/// PyTorch loads its OpenMP for everybody to find.
fn find(name: &CStr) -> Option<*mut c_void> {
    // SAFETY: the name is a C string.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    (!found.is_null()).then_some(found)
}
