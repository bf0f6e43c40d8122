//! A process in a control group of version 2, with the kernel's own files. Nothing is tested where memory is under version
//! 1, or without root; `.ci/cgroup2` has both.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::fs::{create_dir, read_to_string, remove_dir, write};
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process;
use weightstream_governor::linux::ControlGroups;
use weightstream_governor::{Pressure, PressureSource};

const MIB: u64 = 1 << 20;

/// A group and one inside of it, with this process in the inner one, until it is dropped.
struct Around {
    outer: PathBuf,
    inner: PathBuf,
    home: PathBuf,
}

impl Around {
    fn this_process() -> Option<Self> {
        let root = Path::new("/sys/fs/cgroup");
        // Under version 1 this is a tmpfs, where a write would make a file.
        let controllers = read_to_string(root.join("cgroup.controllers")).ok()?;
        controllers.split_whitespace().find(|&it| it == "memory")?;
        write(root.join("cgroup.subtree_control"), "+memory").ok()?;
        let own = read_to_string("/proc/self/cgroup").ok()?;
        let outer = root.join(format!("weightstream-governor-{}", process::id()));
        let around = Self {
            inner: outer.join("inner"),
            outer,
            home: root.join(own.trim().strip_prefix("0::/")?),
        };
        create_dir(&around.outer).ok()?;
        around.limit("cgroup.subtree_control", "+memory");
        create_dir(&around.inner).unwrap();
        move_to(&around.inner);
        Some(around)
    }

    fn limit(&self, name: &str, value: impl ToString) {
        write(self.outer.join(name), value.to_string()).unwrap();
    }
}

impl Drop for Around {
    fn drop(&mut self) {
        move_to(&self.home);
        remove_dir(&self.inner).unwrap();
        remove_dir(&self.outer).unwrap();
    }
}

fn move_to(group: &Path) {
    write(group.join("cgroup.procs"), process::id().to_string()).unwrap();
}

fn now() -> Pressure {
    ControlGroups::around_this_process().pressure().unwrap()
}

#[test]
fn memory_counts_towards_a_limit_further_out_and_too_little_of_it_stalls() {
    let Some(around) = Around::this_process() else {
        return;
    };
    around.limit("memory.max", 256 * MIB);
    let before = now();
    assert_eq!(before.limit, 256 * MIB);
    let taken = black_box(vec![1_u8; 64 << 20]);
    let after = now();
    assert!(after.used >= before.used + 60 * MIB, "{before:?} {after:?}");
    drop(taken);

    let tells = Path::new("/proc/pressure/memory").exists();
    assert_eq!(now().stalled, tells.then_some(0.0));
    if tells {
        // Above this the kernel has whoever takes more wait.
        around.limit("memory.high", now().used + 4 * MIB);
        let mut taken = Vec::new();
        while now().stalled == Some(0.0) {
            taken.push(black_box(vec![1_u8; 1 << 18]));
            assert!(taken.len() < 800, "{:?}", now());
        }
    }
}
