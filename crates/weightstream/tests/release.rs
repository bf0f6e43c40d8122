//! Memory comes back: alone in its process, because it measures the process.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    clippy::undocumented_unsafe_blocks,
    clippy::disallowed_methods
)]

use weightstream::{Options, Parameter, Part, Stream};

const LENGTH: usize = 64 << 20;

fn anonymous_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("Anonymous:"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<usize>()
        .unwrap()
        << 10
}

fn count(folder: &str) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}

#[test]
fn close_and_drop_give_everything_back() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model");
    std::fs::write(&file, vec![3; LENGTH]).unwrap();
    let open = |memory: u64| {
        let parts = vec![Part {
            file: 0,
            offset: 0,
            length: LENGTH as u64,
        }];
        let parameter = Parameter {
            name: "all".into(),
            parts,
            itemsize: 1,
            unit: 0,
        };
        Stream::open(
            std::slice::from_ref(&file),
            vec![parameter],
            Options::with_memory(memory),
        )
        .unwrap()
    };
    let use_all = |stream: &Stream| {
        let bytes = unsafe { std::slice::from_raw_parts(stream.address(0) as *const u8, LENGTH) };
        assert!(bytes.iter().step_by(4096).all(|&byte| byte == 3));
    };

    let stream = open(48 << 20);
    use_all(&stream);
    let full = anonymous_bytes();
    stream.resize(16 << 20).unwrap();
    assert!(
        full - anonymous_bytes() > 28 << 20,
        "{full} before, {} after resize",
        anonymous_bytes()
    );
    use_all(&stream);
    stream.close();
    assert!(
        full - anonymous_bytes() > 44 << 20,
        "{full} before, {} after close",
        anonymous_bytes()
    );
    drop(stream);

    let (threads, files) = (count("/proc/self/task"), count("/proc/self/fd"));
    let (memory, mappings) = (
        anonymous_bytes(),
        std::fs::read_to_string("/proc/self/maps")
            .unwrap()
            .lines()
            .count(),
    );
    for _ in 0..50 {
        use_all(&open(16 << 20));
    }
    assert_eq!(
        (count("/proc/self/task"), count("/proc/self/fd")),
        (threads, files)
    );
    let mappings_after = std::fs::read_to_string("/proc/self/maps")
        .unwrap()
        .lines()
        .count();
    assert!(
        mappings_after <= mappings + 8,
        "{mappings} mappings before, {mappings_after} after"
    );
    assert!(
        anonymous_bytes() < memory + (2 << 20),
        "{memory} bytes before, {} after",
        anonymous_bytes()
    );
}
