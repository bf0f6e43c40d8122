//! Ten thousand streams, leave nothing behind. Alone in its process, to count what that holds.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::undocumented_unsafe_blocks, missing_docs)]

use std::fs::{read_dir, read_to_string};
use std::path::PathBuf;
use weightstream::{Options, Parameter, Part, Stream};

const CYCLES: usize = 10_000;
const TOGETHER: usize = 20;
const LENGTH: u64 = 1 << 20;

#[derive(Debug)]
struct Held {
    mappings: usize,
    threads: usize,
    descriptors: usize,
    resident: usize,
}

fn held() -> Held {
    let count = |path: &str| read_dir(path).unwrap().count();
    let statm = read_to_string("/proc/self/statm").unwrap();
    Held {
        mappings: read_to_string("/proc/self/maps").unwrap().lines().count(),
        threads: count("/proc/self/task"),
        descriptors: count("/proc/self/fd"),
        resident: statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096,
    }
}

fn cycle(file: &PathBuf) {
    let parameter = Parameter {
        name: "weight".into(),
        parts: vec![Part {
            file: 0,
            offset: 0,
            length: LENGTH,
        }],
        itemsize: 1,
        unit: 0,
    };
    let options = Options::with_memory(Stream::least_memory());
    let stream = Stream::open(std::slice::from_ref(file), vec![parameter], options).unwrap();
    stream.enter(0).unwrap();
    assert_eq!(unsafe { (stream.address(0) as *const u8).read() }, 7);
    stream.leave(0).unwrap();
    stream.close();
}

/// Several at a time: the kernel takes milliseconds to end a ring, in which the processors have nothing to do.
fn cycles(file: &PathBuf, count: usize) {
    std::thread::scope(|scope| {
        for _ in 0..TOGETHER {
            scope.spawn(|| (0..count / TOGETHER).for_each(|_| cycle(file)));
        }
    });
}

#[test]
#[ignore = "resident memory grows by about 200 bytes a stream, not yet understood"]
fn nothing_is_left_behind() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model");
    std::fs::write(&file, vec![7; LENGTH as usize]).unwrap();
    cycles(&file, CYCLES / 10);
    let before = held();
    cycles(&file, CYCLES);
    let after = held();
    println!("{before:?} {after:?}");
    assert!(after.mappings <= before.mappings, "{before:?} {after:?}");
    assert_eq!(after.threads, before.threads);
    assert_eq!(after.descriptors, before.descriptors);
    // Less than 30 bytes for each: the allocator's own coming and going.
    assert!(
        after.resident < before.resident + 300_000,
        "{before:?} {after:?}"
    );
}
