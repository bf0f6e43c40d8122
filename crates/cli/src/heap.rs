//! The heap of the C library, which keeps what was given back to it: the command is asked to fit into little memory.

/// Blocks of at least this many bytes are given back to the system when they are free. Without a fixed limit glibc
/// raises it to the largest block it has seen, and keeps blocks up to that size in its heap, with holes between them.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MAPPED: libc::c_int = 512 << 10;

/// To be called before the heap is used much.
pub fn give_back_large_blocks() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it sets a number.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED);
    }
}

/// Gives back what is free now: the description of a program takes some megabytes while it is read.
pub fn trim() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it looks at what is free only.
    unsafe {
        libc::malloc_trim(0);
    }
}
