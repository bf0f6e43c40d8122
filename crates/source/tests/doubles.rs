//! The doubles do what they are told and nothing else.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::PathBuf;
use std::time::Duration;

use common::{Memory, Reader, UNTOUCHED, pattern};
use weightstream_source::fault::{Effect, Fault, Faults, Faulty};
use weightstream_source::throttle::{Speed, Throttle};
use weightstream_source::{ReadErrorKind, Request, open};

const SIZE: usize = 100_000;

fn file() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights");
    std::fs::write(&path, pattern(SIZE)).unwrap();
    (folder, path)
}

fn faulty(path: &PathBuf, faults: &Faults) -> Reader {
    let files = std::slice::from_ref(path);
    Reader::new(|listener| {
        Faulty::open(files, faults.clone(), listener, |inner| open(files, inner))
    })
    .unwrap()
}

fn broken() -> Effect {
    Effect::Fail(std::io::Error::from_raw_os_error(5).into())
}

#[test]
fn a_throttled_source_completes_each_request_once_with_its_token() {
    let (_folder, path) = file();
    let speed = Speed {
        bytes_per_second: 50e6,
        latency: Duration::from_micros(100),
    };
    let reader =
        Reader::new(|listener| Throttle::open(speed, listener, |inner| open(&[path], inner)))
            .unwrap();
    let mut memories: Vec<_> = (0..20).map(|_| Memory::new(0, 5000, 0)).collect();
    for memory in &mut memories {
        reader.source.submit(Request {
            token: 7,
            pieces: vec![memory.piece(0, 500)],
        });
    }
    for _ in 0..20 {
        let completion = reader.next();
        assert_eq!((completion.token, completion.result), (7, Ok(())));
    }
    drop(reader.source);
    assert!(
        reader.completions.recv().is_err(),
        "nothing completes twice"
    );
    assert!(
        memories
            .iter()
            .all(|memory| memory.taken() == &pattern(SIZE)[500..5500])
    );
}

#[test]
fn a_throttle_that_is_dropped_delivers_what_it_holds() {
    let (_folder, path) = file();
    let speed = Speed {
        bytes_per_second: 1.0,
        latency: Duration::ZERO,
    };
    let reader =
        Reader::new(|listener| Throttle::open(speed, listener, |inner| open(&[path], inner)))
            .unwrap();
    let mut memory = Memory::new(0, 50_000, 0);
    reader.source.submit(Request {
        token: 3,
        pieces: vec![memory.piece(0, 0)],
    });
    drop(reader.source);
    assert!(
        reader
            .completions
            .iter()
            .map(|completion| completion.token)
            .eq([3])
    );
}

#[test]
fn the_nth_read_fails_and_the_next_works() {
    let (_folder, path) = file();
    let faults = Faults::default();
    let reader = faulty(&path, &faults);
    faults.add(Fault::nth(2, broken()));
    assert_eq!(reader.read(0, 10).unwrap(), pattern(10));
    let error = reader.read(4000, 10).unwrap_err();
    assert!(
        matches!(error.kind, ReadErrorKind::Io { errno: Some(5), .. }),
        "{error}"
    );
    assert_eq!(
        (&*error.path, error.offset, error.length),
        (path.as_path(), 4000, 10)
    );
    assert_eq!(reader.read(0, 10).unwrap(), pattern(10));
    assert_eq!(faults.pieces(), 3);
}

#[test]
fn a_range_fails_until_it_is_repaired() {
    let (_folder, path) = file();
    let faults = Faults::default();
    let reader = faulty(&path, &faults);
    let fault = faults.add(Fault {
        range: 1000..2000,
        ..Fault::always(broken())
    });
    for _ in 0..3 {
        assert!(reader.read(1999, 1).is_err());
        assert!(reader.read(0, SIZE).is_err());
        assert!(reader.read(0, 1000).is_ok());
        assert!(reader.read(2000, 1000).is_ok());
    }
    faults.remove(fault);
    assert!(reader.read(1999, 1).is_ok());
}

#[test]
fn corruption_hits_just_its_range_once() {
    let (_folder, path) = file();
    let faults = Faults::default();
    let reader = faulty(&path, &faults);
    faults.add(Fault::once(0, 100..103, Effect::Corrupt));
    let mut expected = pattern(200)[50..].to_vec();
    expected[50..53].iter_mut().for_each(|byte| *byte = !*byte);
    assert_eq!(reader.read(50, 150).unwrap(), expected);
    assert_eq!(reader.read(50, 150).unwrap(), pattern(200)[50..]);
}

#[test]
fn a_delayed_read_comes_after_a_later_one() {
    let (_folder, path) = file();
    let faults = Faults::default();
    let reader = faulty(&path, &faults);
    // So long that only closing the source delivers it.
    faults.add(Fault::once(
        0,
        0..1,
        Effect::Delay(Duration::from_secs(3600)),
    ));
    let mut memories = [Memory::new(0, 10, 0), Memory::new(0, 10, 0)];
    for (token, memory) in memories.iter_mut().enumerate() {
        let pieces = vec![memory.piece(0, token as u64)];
        reader.source.submit(Request {
            token: token as u64,
            pieces,
        });
    }
    assert_eq!(reader.next().token, 1);
    drop(reader.source);
    assert_eq!(reader.completions.recv().unwrap().token, 0);
}

#[test]
fn a_short_read_leaves_the_rest_as_it_was() {
    let (_folder, path) = file();
    let faults = Faults::default();
    let reader = faulty(&path, &faults);
    faults.add(Fault::nth(1, Effect::Short));
    let mut memory = Memory::new(0, 1000, 0);
    reader.source.submit(Request {
        token: 1,
        pieces: vec![memory.piece(0, 40)],
    });
    let error = reader.next().result.unwrap_err();
    assert_eq!(error.kind, ReadErrorKind::UnexpectedEnd { got: 500 });
    assert_eq!((error.offset, error.length), (40, 1000));
    assert_eq!(&memory.taken()[..500], &pattern(540)[40..]);
    assert!(memory.taken()[500..].iter().all(|&byte| byte == UNTOUCHED));
    assert_eq!(reader.read(40, 1000).unwrap(), pattern(1040)[40..]);
}
