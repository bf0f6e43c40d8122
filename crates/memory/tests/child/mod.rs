//! Running something that may kill, in a process of its own.

use std::io::Read;
use std::os::fd::FromRawFd;

/// How a child ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    Exit(i32),
    Signal(i32),
}

/// Runs `act` in a forked child; returns how that ended and what it wrote to standard error. A child that hangs is
/// ended by SIGALRM.
pub fn run(act: impl FnOnce()) -> (End, String) {
    unsafe {
        let mut pipe = [0; 2];
        assert_eq!(libc::pipe(pipe.as_mut_ptr()), 0);
        let child = libc::fork();
        assert!(child >= 0);
        if child == 0 {
            libc::alarm(60);
            libc::dup2(pipe[1], 2);
            libc::close(pipe[0]);
            let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(act));
            libc::_exit(if ended.is_ok() { 0 } else { 101 });
        }
        libc::close(pipe[1]);
        let mut words = Vec::new();
        std::fs::File::from_raw_fd(pipe[0])
            .read_to_end(&mut words)
            .unwrap();
        let mut status = 0;
        assert_eq!(libc::waitpid(child, &mut status, 0), child);
        let end = if libc::WIFSIGNALED(status) {
            End::Signal(libc::WTERMSIG(status))
        } else {
            End::Exit(libc::WEXITSTATUS(status))
        };
        (end, String::from_utf8_lossy(&words).into_owned())
    }
}

/// Bytes of a chunk in these tests.
pub const CHUNK: usize = 2 << 20;

/// Reads the byte at `address`.
pub fn read(address: usize) -> u8 {
    unsafe { (address as *const u8).read_volatile() }
}
