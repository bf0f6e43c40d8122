//! Where a seccomp filter forbids io_uring, reads work all the same.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod common;

use common::{Memory, Reader, pattern};
use weightstream_source::{Backend, Caching, OpenError, Request, open, open_with};

/// Set for the child, which is this test run again in a process of its own.
const PATH: &str = "WEIGHTSTREAM_TEST_SECCOMP";

#[test]
fn a_filter_against_io_uring_does_not_matter() {
    if let Some(path) = std::env::var_os(PATH) {
        forbid_io_uring();
        return reads(path.into());
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights");
    std::fs::write(&path, pattern(100_000)).unwrap();
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "a_filter_against_io_uring_does_not_matter",
            "--nocapture",
        ])
        .env(PATH, &path)
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success(), "{output}");
    assert!(output.contains("read through pread"), "{output}");
}

fn reads(path: std::path::PathBuf) {
    let files = [path];
    let forced = open_with(
        &files,
        Backend::Uring,
        Caching::Direct,
        std::sync::Arc::new(|_| ()),
    );
    let refusal = forced.err().unwrap();
    assert!(
        matches!(
            refusal,
            OpenError::Unavailable {
                backend: Backend::Uring,
                ..
            }
        ),
        "{refusal}"
    );

    let reader = Reader::new(|listener| open(&files, listener)).unwrap();
    let mut memory = Memory::new(0, 99_000, 0);
    reader.source.submit(Request {
        token: 1,
        pieces: vec![memory.piece(0, 1000)],
    });
    reader.next().result.unwrap();
    assert!(memory.taken() == &pattern(100_000)[1000..]);
    eprintln!("read through {}", reader.source.name());
}

/// Makes `io_uring_setup` fail with EPERM in this thread and those that it starts.
fn forbid_io_uring() {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const JUMP_IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut steps = [
        // The number of the system call, which `seccomp_data` starts with.
        step(LOAD, 0, 0, 0),
        step(JUMP_IF_EQUAL, 0, 1, libc::SYS_io_uring_setup as u32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: steps.len() as u16,
        filter: steps.as_mut_ptr(),
    };
    // SAFETY: the kernel copies the program, which lives until then.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let mode = libc::SECCOMP_MODE_FILTER;
        assert_eq!(
            libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program),
            0
        );
    }
}
