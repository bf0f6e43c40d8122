//! Files that change, vanish and come back while they are read.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs::File;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use common::{KINDS, Reader, pattern};
use weightstream_source::{ReadError, ReadErrorKind};

const SIZE: usize = 300_000;

fn for_each_backend(test: impl Fn(&PathBuf, &Reader)) {
    for kind in KINDS {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights");
        std::fs::write(&path, pattern(SIZE)).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(100))
            .unwrap();
        if let Some(reader) = Reader::with(std::slice::from_ref(&path), kind) {
            test(&path, &reader);
        }
    }
}

fn modified(path: &PathBuf) -> SystemTime {
    std::fs::metadata(path).unwrap().modified().unwrap()
}

fn assert_changed(result: Result<Vec<u8>, ReadError>) {
    let error = result.unwrap_err();
    assert!(
        matches!(error.kind, ReadErrorKind::Changed { .. }),
        "{error}"
    );
}

#[test]
fn a_file_that_was_written_to_is_not_read_until_it_is_restored() {
    for_each_backend(|path, reader| {
        let then = modified(path);
        assert!(reader.read(7, SIZE - 7).is_ok());
        // Of the same length: only times tell.
        std::fs::write(path, vec![0; SIZE]).unwrap();
        assert_changed(reader.read(7, SIZE - 7));
        assert_changed(reader.read(0, 1));
        let file = File::options().write(true).open(path).unwrap();
        file.set_modified(then).unwrap();
        // Nor does it count that the times are as they were.
        assert_changed(reader.read(7, SIZE - 7));
        std::fs::write(path, pattern(SIZE)).unwrap();
        file.set_modified(then).unwrap();
        assert_eq!(reader.read(7, SIZE - 7).unwrap(), pattern(SIZE)[7..]);
    });
}

#[test]
fn a_truncated_file_is_not_read_even_where_it_has_bytes() {
    for_each_backend(|path, reader| {
        let file = File::options().write(true).open(path).unwrap();
        file.set_len(SIZE as u64 / 2).unwrap();
        assert_changed(reader.read(0, 1000));
        assert!(reader.read(SIZE as u64 - 1000, 1000).is_err());
    });
}

#[test]
fn a_file_that_was_replaced_is_read_as_it_was() {
    for_each_backend(|path, reader| {
        let other = path.with_extension("new");
        std::fs::write(&other, vec![1; SIZE]).unwrap();
        std::fs::rename(&other, path).unwrap();
        assert_eq!(reader.read(7, SIZE - 7).unwrap(), pattern(SIZE)[7..]);
        std::fs::remove_file(path).unwrap();
        assert_eq!(reader.read(7, SIZE - 7).unwrap(), pattern(SIZE)[7..]);
    });
}
