//! The kernel's files, as both versions of control groups have them.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use std::fs::{create_dir_all, write};
use tempfile::TempDir;
use weightstream_governor::linux::ControlGroups;
use weightstream_governor::{Pressure, PressureSource};

fn tree(files: &[(&str, &str)]) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        create_dir_all(path.parent().unwrap()).unwrap();
        write(path, text).unwrap();
    }
    root
}

fn pressure(root: &TempDir) -> Option<Pressure> {
    ControlGroups::under(&root.path().join("proc"), &root.path().join("cgroup")).pressure()
}

const MACHINE: (&str, &str) = (
    "proc/meminfo",
    "MemTotal:       1000000 kB\nMemFree: 5 kB\nMemAvailable:    900000 kB\n",
);

#[test]
fn version_1_counts_its_cache_as_free_and_an_ancestor_may_limit() {
    let root = tree(&[
        MACHINE,
        ("proc/self/cgroup", "5:cpu:/a/b\n4:memory:/a/b\n0::/\n"),
        (
            "cgroup/memory/a/b/memory.limit_in_bytes",
            "9223372036854771712\n",
        ),
        ("cgroup/memory/a/b/memory.usage_in_bytes", "300\n"),
        (
            "cgroup/memory/a/b/memory.stat",
            "cache 50\ntotal_inactive_file 40\n",
        ),
        ("cgroup/memory/a/memory.limit_in_bytes", "1000\n"),
        ("cgroup/memory/a/memory.usage_in_bytes", "600\n"),
        ("cgroup/memory/a/memory.stat", "total_inactive_file 100\n"),
    ]);
    let expected = Pressure {
        limit: 1000,
        used: 500,
        stalled: None,
    };
    assert_eq!(pressure(&root), Some(expected));
}

#[test]
fn version_2_tells_stalls() {
    let root = tree(&[
        MACHINE,
        ("proc/self/cgroup", "0::/a\n"),
        ("cgroup/cgroup.controllers", "memory\n"),
        ("cgroup/a/memory.max", "1000\n"),
        ("cgroup/a/memory.current", "600\n"),
        ("cgroup/a/memory.stat", "anon 500\ninactive_file 100\n"),
        (
            "cgroup/a/memory.pressure",
            "some avg10=12.50 avg60=1.00 avg300=0.00 total=1\nfull avg10=2.00 avg60=0.00 avg300=0.00 total=1\n",
        ),
    ]);
    let expected = Pressure {
        limit: 1000,
        used: 500,
        stalled: Some(12.5),
    };
    assert_eq!(pressure(&root), Some(expected));
}

#[test]
fn without_a_limit_the_machine_counts() {
    let root = tree(&[
        MACHINE,
        ("proc/self/cgroup", "0::/a\n"),
        ("cgroup/cgroup.controllers", "memory\n"),
        ("cgroup/a/memory.max", "max\n"),
    ]);
    let machine = pressure(&root).unwrap();
    assert_eq!(
        (machine.limit, machine.free()),
        (1_024_000_000, 921_600_000)
    );
    assert_eq!(pressure(&tree(&[])), None);
}

#[test]
fn this_process_is_under_some_pressure() {
    let now = ControlGroups::around_this_process().pressure().unwrap();
    assert!(now.limit > 0 && now.free() > 0);
}
