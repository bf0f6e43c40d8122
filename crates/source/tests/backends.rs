//! Every backend reads what the file holds, wherever it goes, and says what is missing.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods)]

mod common;

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use common::{KINDS, Memory, Reader, pattern};
use proptest::prelude::*;
use weightstream_source::{OpenError, ReadErrorKind, Request, open};

const SIZE: usize = 3_000_001;

fn range() -> impl Strategy<Value = (usize, usize, usize, usize)> {
    let offset = prop_oneof![0..SIZE, (0..SIZE / 4096).prop_map(|block| block * 4096)];
    let length = prop_oneof![0..9000_usize, 0..SIZE, Just(SIZE)];
    let misalignment = prop_oneof![Just(None), (0..4096_usize).prop_map(Some)];
    let slack = prop_oneof![Just(0), Just(4096_usize), 0..5000_usize];
    (offset, length, misalignment, slack).prop_map(|(offset, length, misalignment, slack)| {
        let length = length.min(SIZE - offset);
        (offset, length, misalignment.unwrap_or(offset % 4096), slack)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn pieces_equal_the_file(ranges in prop::collection::vec(range(), 1..12)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights");
        let expected = pattern(SIZE);
        std::fs::write(&path, &expected).unwrap();
        for kind in KINDS {
            let Some(reader) = Reader::with(&[path.clone(), path.clone()], kind) else { continue };
            let mut memories: Vec<_> =
                ranges.iter().map(|&(_, length, misalignment, slack)| Memory::new(misalignment, length, slack)).collect();
            let mut pieces: Vec<_> = memories
                .iter_mut()
                .zip(&ranges)
                .enumerate()
                .map(|(index, (memory, range))| memory.piece(index as u32 % 2, range.0 as u64))
                .collect();
            // The first half as one request, the others one by one.
            let single = pieces.split_off(pieces.len() / 2);
            reader.source.submit(Request { token: 0, pieces });
            let count = 1 + single.len();
            for (index, piece) in single.into_iter().enumerate() {
                reader.source.submit(Request { token: 1 + index as u64, pieces: vec![piece] });
            }
            let mut tokens: Vec<_> = (0..count)
                .map(|_| {
                    let completion = reader.next();
                    assert_eq!(completion.result, Ok(()));
                    completion.token
                })
                .collect();
            tokens.sort_unstable();
            prop_assert_eq!(tokens, (0..count as u64).collect::<Vec<_>>());
            for (memory, &(offset, length, ..)) in memories.iter().zip(&ranges) {
                prop_assert!(memory.taken() == &expected[offset..offset + length], "{:?}: {}+{}", kind, offset, length);
                prop_assert!(memory.margin_is_untouched(), "{:?}: {}+{}", kind, offset, length);
            }
        }
    }
}

#[test]
fn a_read_past_the_end_says_how_much_there_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("short");
    std::fs::write(&path, pattern(1_000_000)).unwrap();
    for kind in KINDS {
        let Some(reader) = Reader::with(std::slice::from_ref(&path), kind) else {
            continue;
        };
        for (offset, length, got) in [
            (999_000, 2000, 1000),
            (0, 1_000_001, 1_000_000),
            (4096, 3_000_000, 995_904),
            (700, 5_000_000, 999_300),
            (1_000_000, 1, 0),
            (5_000_000, 10, 0),
            (u64::MAX - 3, 10, 0),
        ] {
            let error = reader.read(offset, length).unwrap_err();
            assert_eq!(
                error.kind,
                ReadErrorKind::UnexpectedEnd { got },
                "{kind:?} {offset}+{length}"
            );
            assert_eq!((error.offset, error.length), (offset, length));
            let message = error.to_string();
            assert!(
                message.contains("short") && message.contains(&offset.to_string()),
                "{message}"
            );
        }
        assert_eq!(
            reader.read(999_990, 10).unwrap(),
            pattern(1_000_000)[999_990..]
        );
    }
}

#[test]
fn a_file_that_shrank_is_an_error_that_says_where() {
    let folder = tempfile::tempdir().unwrap();
    for kind in KINDS {
        let path = folder.path().join("weights");
        std::fs::write(&path, pattern(100_000)).unwrap();
        let Some(reader) = Reader::with(std::slice::from_ref(&path), kind) else {
            continue;
        };
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(50_000)
            .unwrap();
        let error = reader.read(40_960, 20_000).unwrap_err();
        assert_eq!(
            error.kind,
            ReadErrorKind::UnexpectedEnd { got: 9040 },
            "{kind:?}"
        );
        assert!(error.to_string().contains("40960"), "{error}");
    }
}

#[test]
fn a_missing_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("absent.safetensors");
    let error = open(&[missing], Arc::new(|_| ())).err().unwrap();
    assert!(error.to_string().contains("absent.safetensors"), "{error}");
    let error = open(&[folder.path().to_owned()], Arc::new(|_| ()))
        .err()
        .unwrap();
    assert!(matches!(error, OpenError::File { .. }), "{error}");
}

#[test]
fn an_unknown_file_is_an_error_and_no_pieces_are_none() {
    for kind in KINDS {
        let Some(reader) = Reader::with(&[], kind) else {
            continue;
        };
        let mut memory = Memory::new(0, 1, 0);
        reader.source.submit(Request {
            token: 1,
            pieces: vec![memory.piece(3, 0)],
        });
        let error = reader.next().result.unwrap_err();
        assert_eq!(error.kind, ReadErrorKind::UnknownFile { files: 0 });
        reader.source.submit(Request {
            token: 2,
            pieces: vec![],
        });
        assert_eq!(reader.next().result, Ok(()));
    }
}

#[test]
fn dropping_completes_every_request_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights");
    let expected = pattern(SIZE);
    std::fs::write(&path, &expected).unwrap();
    for kind in KINDS {
        let Some(Reader {
            source,
            completions,
        }) = Reader::with(std::slice::from_ref(&path), kind)
        else {
            continue;
        };
        let mut memories: Vec<_> = (0..100).map(|_| Memory::new(0, 1 << 20, 0)).collect();
        for (token, memory) in memories.iter_mut().enumerate() {
            source.submit(Request {
                token: token as u64,
                pieces: vec![memory.piece(0, 4096)],
            });
        }
        drop(source);
        let mut seen: Vec<_> = completions.iter().collect();
        seen.sort_by_key(|completion| completion.token);
        assert!(
            seen.iter().map(|completion| completion.token).eq(0..100),
            "{kind:?}"
        );
        for (completion, memory) in seen.iter().zip(&memories) {
            match &completion.result {
                Ok(()) => assert!(memory.taken() == &expected[4096..4096 + (1 << 20)]),
                Err(error) => assert_eq!(error.kind, ReadErrorKind::Abandoned),
            }
        }
    }
}

#[test]
fn a_listener_that_panics_or_drops_the_source_harms_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights");
    std::fs::write(&path, pattern(10_000)).unwrap();
    for (backend, caching) in KINDS {
        let kept = Arc::new(std::sync::Mutex::new(None));
        let calls = Arc::new(AtomicU32::new(0));
        let (sender, dropped) = std::sync::mpsc::channel();
        let (own, count) = (Arc::clone(&kept), Arc::clone(&calls));
        let opened = weightstream_source::open_with(
            std::slice::from_ref(&path),
            backend,
            caching,
            Arc::new(move |_| {
                if count.fetch_add(1, Ordering::SeqCst) == 0 {
                    panic!("the first completion's listener panics: expected by the test");
                }
                drop(own.lock().unwrap().take());
                sender.send(()).unwrap();
            }),
        );
        let Ok(source) = opened else { continue };
        source.submit(Request {
            token: 1,
            pieces: vec![],
        });
        while calls.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
        let mut source_slot = kept.lock().unwrap();
        source.submit(Request {
            token: 2,
            pieces: vec![],
        });
        *source_slot = Some(source);
        drop(source_slot);
        dropped.recv().unwrap();
        assert_eq!(calls.load(Ordering::SeqCst), 2);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_file_system_without_direct_reads_is_read_through_the_page_cache() {
    let path = std::path::PathBuf::from("/proc/version");
    let expected = std::fs::read(&path).unwrap();
    for kind in KINDS {
        let Some(reader) = Reader::with(std::slice::from_ref(&path), kind) else {
            continue;
        };
        assert!(
            reader.source.name().ends_with(" buffered"),
            "{}",
            reader.source.name()
        );
        assert_eq!(reader.read(3, expected.len() - 3).unwrap(), expected[3..]);
    }
    let reader = Reader::new(|listener| open(&[path], listener)).unwrap();
    assert_eq!(reader.source.name(), "pread buffered");
}

/// Direct reads, and buffered ones once over, leave nothing of a large file in the page cache.
#[test]
#[cfg(target_os = "linux")]
fn the_page_cache_does_not_grow() {
    use std::os::fd::AsRawFd;
    const LENGTH: usize = 32 << 20;

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights");
    std::fs::write(&path, pattern(LENGTH)).unwrap();
    let file = File::open(&path).unwrap();
    file.sync_all().unwrap();
    // SAFETY: a hint, and a mapping of the file that nothing touches.
    let cached = |file: &File| unsafe {
        let (protection, flags) = (libc::PROT_READ, libc::MAP_SHARED);
        let map = libc::mmap(
            std::ptr::null_mut(),
            LENGTH,
            protection,
            flags,
            file.as_raw_fd(),
            0,
        );
        assert_ne!(map, libc::MAP_FAILED);
        let mut pages = vec![0_u8; LENGTH / 4096];
        assert_eq!(libc::mincore(map, LENGTH, pages.as_mut_ptr()), 0);
        libc::munmap(map, LENGTH);
        pages.iter().filter(|&page| page & 1 == 1).count() * 4096
    };
    for kind in KINDS {
        // SAFETY: a hint.
        unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
        let Some(reader) = Reader::with(std::slice::from_ref(&path), kind) else {
            continue;
        };
        for offset in (0..LENGTH).step_by(1 << 20) {
            reader.read(offset as u64, 1 << 20).unwrap();
        }
        let left = cached(&file);
        assert!(left <= LENGTH / 8, "{kind:?} leaves {left} bytes");
    }
}
