//! Thousands of streams leave nothing behind. Alone in its process, to count what that holds.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::undocumented_unsafe_blocks,
    missing_docs,
    clippy::disallowed_methods
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs::{read_dir, read_to_string};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use weightstream::{Options, Parameter, Part, Stream};

const CYCLES: usize = 10_000;
const TOGETHER: usize = 20;
const LENGTH: u64 = 1 << 20;

/// Bytes that are allocated now.
static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

struct Counting;

unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size(), Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[derive(Debug)]
struct Held {
    allocated: usize,
    resident: usize,
    mappings: usize,
    threads: usize,
    descriptors: usize,
}

fn held() -> Held {
    let count = |path: &str| read_dir(path).unwrap().count();
    unsafe { libc::malloc_trim(0) };
    // The kernel lists a thread that was joined for a moment more.
    let threads = (0..100).map(|_| {
        std::thread::sleep(std::time::Duration::from_millis(1));
        count("/proc/self/task")
    });
    let threads = threads.min().unwrap();
    let statm = read_to_string("/proc/self/statm").unwrap();
    Held {
        allocated: ALLOCATED.load(Ordering::Relaxed),
        resident: statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096,
        mappings: read_to_string("/proc/self/maps").unwrap().lines().count(),
        threads,
        descriptors: count("/proc/self/fd"),
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
fn nothing_is_left_behind() {
    // The C library gives busy threads an arena each, sixteen here, and all of them grow a little for a long time.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model");
    std::fs::write(&file, vec![7; LENGTH as usize]).unwrap();
    cycles(&file, CYCLES / 10);
    let before = held();
    cycles(&file, CYCLES);
    let after = held();
    println!("{before:?}\n{after:?}");
    // Less than a byte a stream: some of what is not a stream's comes and goes.
    assert!(after.allocated < before.allocated + CYCLES);
    // A quarter of a page and a tenth of a mapping a stream, for what is not allocated by Rust: the C library keeps
    // stacks of ended threads, two mappings each, as many as it happened to need at once.
    assert!(after.resident < before.resident + 1024 * CYCLES);
    assert!(after.mappings < before.mappings + CYCLES / 10);
    assert!(after.threads <= before.threads);
    assert_eq!(after.descriptors, before.descriptors);
}
