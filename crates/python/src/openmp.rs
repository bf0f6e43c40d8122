//! OpenMP's threads, which compute for the thread that calls PyTorch.
//!
//! Each thread that calls has a team of its own, started at its first large operator, with the mask that it has then.

use std::cell::Cell;
use std::ffi::{c_uint, c_void};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;
use weightstream::{blocks_faults, unblock_faults};

type Region = extern "C" fn(*mut c_void);

/// Runs a region in so many threads of the calling thread's team, 0 for all. GNU's name for it, which every other OpenMP
/// has too, for what GCC compiled.
type Parallel = extern "C" fn(Region, *mut c_void, c_uint, c_uint);

const TASKS: &str = "/proc/self/task";

thread_local! {
    /// How many threads the process had when this one last looked at them.
    static SEEN: Cell<u64> = const { Cell::new(0) };
}

/// Unblocks the signal of touches in the calling thread and in those that compute for it. Only where the process has
/// come to have another number of threads, more than two system calls.
pub fn unblock_team() {
    let was_blocked = unblock_faults();
    // A folder for each; 0 where there is no such thing.
    let threads = fs::metadata(TASKS).map_or(0, |folder| folder.nlink());
    if SEEN.replace(threads) == threads && !was_blocked {
        return;
    }
    // A region starts the team where there is none, which takes threads, and never ends in a forked child.
    if anyone_blocks()
        && let Some(parallel) = parallel()
    {
        parallel(unblock, std::ptr::null_mut(), 0, 0);
    }
}

/// As [`unblock_team`], inside of a pass.
pub fn unblock_team_once() {
    if unblock_faults() || SEEN.get() == 0 {
        unblock_team();
    }
}

extern "C" fn unblock(_: *mut c_void) {
    unblock_faults();
}

/// Whether a thread of this process has the signal of touches blocked.
#[expect(clippy::disallowed_methods, reason = "the files are the kernel's")]
fn anyone_blocks() -> bool {
    let Ok(tasks) = fs::read_dir(TASKS) else {
        return false;
    };
    tasks.flatten().any(|task| {
        // It may have ended meanwhile.
        let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:"));
        mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
            .is_some_and(blocks_faults)
    })
}

/// That of PyTorch's OpenMP, which is loaded for everybody to find. None where PyTorch was built without.
fn parallel() -> Option<Parallel> {
    static FOUND: OnceLock<Option<Parallel>> = OnceLock::new();
    *FOUND.get_or_init(|| {
        // SAFETY: the name is a C string; the function has the signature that GCC's calls of it expect.
        unsafe {
            let found = libc::dlsym(libc::RTLD_DEFAULT, c"GOMP_parallel".as_ptr());
            (!found.is_null()).then(|| std::mem::transmute::<*mut c_void, Parallel>(found))
        }
    })
}
