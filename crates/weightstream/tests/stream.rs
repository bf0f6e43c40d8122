//! Whole streams over real files: bytes, budget, failures, changes while threads read.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    clippy::undocumented_unsafe_blocks
)]

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use tempfile::TempDir;
use weightstream::source::fault::{Effect, Fault, Faults, Faulty};
use weightstream::source::{ReadErrorKind, open};
use weightstream::{
    MemoryBackend, Options, Parameter, Part, RecordKind, Stream, StreamError, WeightError,
};

const TENSORS: usize = 24;
const TENSOR: usize = 1_000_000;

/// A file of random bytes, cut into tensors that no page boundary respects.
struct Model {
    _folder: TempDir,
    file: PathBuf,
    bytes: Vec<u8>,
}

impl Model {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("model");
        let mut random = 1u64;
        let bytes: Vec<u8> = (0..TENSORS * TENSOR + 777)
            .map(|_| {
                random = random
                    .wrapping_mul(6364136223846793005)
                    .wrapping_add(1442695040888963407);
                (random >> 56) as u8
            })
            .collect();
        std::fs::write(&file, &bytes).unwrap();
        Self {
            _folder: folder,
            file,
            bytes,
        }
    }

    fn range(index: usize) -> Range<usize> {
        let start = 777 + index * TENSOR;
        start..start + TENSOR
    }

    fn parameters() -> Vec<Parameter> {
        let parameter = |index: usize| Parameter {
            name: format!("tensor.{index}"),
            parts: vec![Part {
                file: 0,
                offset: Self::range(index).start as u64,
                length: TENSOR as u64,
            }],
            itemsize: 1,
            unit: 0,
        };
        let mut parameters: Vec<Parameter> = (0..TENSORS).map(parameter).collect();
        // One that is put together from the ends of two others.
        let parts = [3, 11].map(|index| Part {
            file: 0,
            offset: Self::range(index).end as u64 - 300_001,
            length: 300_001,
        });
        parameters.push(Parameter {
            name: "gathered".into(),
            parts: parts.to_vec(),
            itemsize: 1,
            unit: 0,
        });
        parameters
    }

    fn expected(&self, index: usize) -> Vec<u8> {
        if index < TENSORS {
            return self.bytes[Self::range(index)].to_vec();
        }
        [3, 11]
            .iter()
            .flat_map(|&index| self.bytes[Self::range(index)][TENSOR - 300_001..].to_vec())
            .collect()
    }

    fn stream(&self, options: Options) -> Stream {
        Stream::open(
            std::slice::from_ref(&self.file),
            Self::parameters(),
            options,
        )
        .unwrap()
    }

    fn faulty(&self, faults: &Faults) -> Stream {
        let faults = faults.clone();
        self.stream(Options {
            source: Some(Box::new(move |files, listener| {
                Faulty::open(files, faults, listener, |listener| open(files, listener))
            })),
            ..budget()
        })
    }
}

fn budget() -> Options {
    Options {
        chunk_bytes: Some(256 << 10),
        ..Options::with_memory(Stream::least_memory() + (1 << 20))
    }
}

/// Reads a parameter as an operator would.
fn read(stream: &Stream, index: usize, length: usize) -> Vec<u8> {
    unsafe { std::slice::from_raw_parts(stream.address(index) as *const u8, length) }.to_vec()
}

fn pass(stream: &Stream, model: &Model) -> Result<(), StreamError> {
    stream.enter(0)?;
    for index in 0..=TENSORS {
        stream.enter(1 + index as u32)?;
        let expected = model.expected(index);
        let same = read(stream, index, expected.len()) == expected;
        stream.leave(1 + index as u32)?;
        assert!(
            same,
            "parameter {index} has other bytes, and no error was raised"
        );
    }
    stream.leave(0)?;
    Ok(())
}

fn failure() -> Effect {
    Effect::Fail(ReadErrorKind::from(std::io::Error::from_raw_os_error(5)))
}

#[test]
fn every_byte_is_right_within_the_budget() {
    let model = Model::new();
    for backend in [MemoryBackend::Move, MemoryBackend::Share] {
        let stream = model.stream(Options {
            backend: Some(backend),
            ..budget()
        });
        for _ in 0..3 {
            pass(&stream, &model).unwrap();
            assert!(stream.stats().used <= stream.stats().budget);
        }
        assert!(stream.stats().bytes_read >= 24_000_000);
    }
}

#[test]
fn threads_read_what_they_like_while_the_budget_changes() {
    let model = Model::new();
    let stream = model.stream(budget());
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for seed in 1..5usize {
            let (stream, model, stop) = (&stream, &model, &stop);
            scope.spawn(move || {
                let mut random = seed;
                while !stop.load(Ordering::Relaxed) {
                    random = random.wrapping_mul(25_214_903_917).wrapping_add(11) % (1 << 48);
                    let index = (random >> 17) % (TENSORS + 1);
                    let expected = model.expected(index);
                    assert!(read(stream, index, expected.len()) == expected);
                }
            });
        }
        let least = Stream::least_memory();
        for step in 0..30u64 {
            let memory = least + step % 5 * (3 << 20);
            stream.resize(memory).unwrap();
            assert!(stream.stats().used <= memory);
            thread::yield_now();
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn too_small_a_budget_is_refused_with_the_least() {
    let model = Model::new();
    let refused = Stream::open(
        std::slice::from_ref(&model.file),
        Model::parameters(),
        Options::with_memory(1000),
    );
    let Err(StreamError::Budget { given: 1000, least }) = refused else {
        panic!("accepted")
    };
    let stream = model.stream(Options::with_memory(least));
    assert!(matches!(
        stream.resize(least - 1),
        Err(StreamError::Budget { .. })
    ));
    pass(&stream, &model).unwrap();
}

#[test]
fn a_passing_fault_is_retried_and_nobody_notices() {
    let model = Model::new();
    let faults = Faults::default();
    let stream = model.faulty(&faults);
    for n in [1, 5, 9, 30] {
        faults.add(Fault::nth(n, failure()));
    }
    pass(&stream, &model).unwrap();
    pass(&stream, &model).unwrap();
    assert_eq!(stream.stats().retries, 4);
    assert_eq!(stream.stats().errors, 0);
}

#[test]
fn a_lasting_fault_is_an_error_with_a_name_and_the_next_pass_works() {
    let model = Model::new();
    let faults = Faults::default();
    let stream = model.faulty(&faults);
    pass(&stream, &model).unwrap();
    let broken = Model::range(7);
    faults.add(Fault {
        range: broken.start as u64..broken.end as u64,
        ..Fault::always(failure())
    });
    for _ in 0..2 {
        let error = pass(&stream, &model).unwrap_err().to_string();
        assert!(
            error.contains("tensor.7") || error.contains("tensor.6"),
            "{error}"
        );
        assert!(
            error.contains("model") && error.contains("offset"),
            "{error}"
        );
        // What the failed blocks left open is closed, as hooks that are always called do.
        for block in 0..10 {
            let _ = stream.leave(block);
        }
    }
    faults.clear();
    for _ in 0..2 {
        pass(&stream, &model).unwrap();
    }
}

#[test]
fn a_fault_outside_of_all_blocks_is_told_at_the_next_one() {
    let model = Model::new();
    let faults = Faults::default();
    let stream = model.faulty(&faults);
    faults.add(Fault::always(failure()));
    let substitute = read(&stream, 5, 64);
    assert!(substitute.iter().all(|&byte| byte == 0xFF), "not NaN");
    faults.clear();
    assert!(matches!(stream.enter(0), Err(StreamError::Weight(_))));
    pass(&stream, &model).unwrap();
}

#[test]
fn after_close_everything_is_refused() {
    let model = Model::new();
    let stream = model.stream(budget());
    pass(&stream, &model).unwrap();
    stream.close();
    stream.close();
    assert!(matches!(stream.enter(0), Err(StreamError::Closed)));
    assert!(matches!(stream.resize(64 << 20), Err(StreamError::Closed)));
    assert!(matches!(stream.record(true), Err(StreamError::Closed)));
    assert_eq!(stream.stats().used, 0);
}

/// Threads inside a block when the stream is closed: one that leaves in time has its weights, one that doesn't has
/// substitutes and hears of it, and one that closes is not waited for.
#[test]
fn closing_waits_for_those_inside() {
    let model = Model::new();
    let stream = model.stream(budget());
    let (inside, ended) = (Barrier::new(3), Barrier::new(2));
    thread::scope(|scope| {
        let quick = scope.spawn(|| {
            stream.enter(0).unwrap();
            inside.wait();
            while !stream.is_closed() {
                thread::yield_now();
            }
            assert!(matches!(stream.enter(1), Err(StreamError::Closed)));
            let seen = read(&stream, 7, TENSOR);
            (seen, stream.leave(0))
        });
        let slow = scope.spawn(|| {
            stream.enter(0).unwrap();
            inside.wait();
            // Gives the memory back, or waits for nobody.
            stream.close();
            ended.wait();
            let seen = read(&stream, 8, TENSOR);
            (seen, stream.leave(0))
        });
        inside.wait();
        stream.close();
        ended.wait();
        let (seen, left) = quick.join().unwrap();
        assert!(seen == model.expected(7));
        assert!(left.unwrap());
        let (seen, left) = slow.join().unwrap();
        assert!(seen.iter().all(|&byte| byte == 0xFF));
        assert!(matches!(left, Err(StreamError::Closed)));
    });
}

/// Writes to a parameter as an operator would.
fn write(stream: &Stream, index: usize, value: u8) {
    unsafe { (stream.address(index) as *mut u8).write_bytes(value, TENSOR) };
}

#[test]
fn what_is_written_to_a_weight_is_told_and_undone() {
    let model = Model::new();
    let stream = model.stream(budget());
    for inside in [true, false] {
        pass(&stream, &model).unwrap();
        let told = if inside {
            stream.enter(0).unwrap();
            write(&stream, 9, 1);
            stream.leave(0).map(drop)
        } else {
            write(&stream, 9, 1);
            stream.check_outside(true)
        };
        let Err(StreamError::Weight(error)) = told else {
            panic!("{told:?}")
        };
        assert!(
            matches!(&*error, WeightError::Written { tensor, .. } if tensor == "tensor.9"),
            "{error}"
        );
    }
    pass(&stream, &model).unwrap();
}

/// A buffer that could not be read is not kept as it was written: nobody knows what the rest of it is.
#[test]
fn what_is_written_to_an_unreadable_buffer_is_told_and_undone() {
    let model = Model::new();
    let faults = Faults::default();
    let source = faults.clone();
    let stream = model.stream(Options {
        memory: Stream::least_memory() + (4 << 20),
        writable: vec![9],
        source: Some(Box::new(move |files, listener| {
            Faulty::open(files, source, listener, |listener| open(files, listener))
        })),
        ..budget()
    });
    faults.add(Fault::always(failure()));
    stream.enter(0).unwrap();
    read(&stream, 9, TENSOR);
    write(&stream, 9, 1);
    assert!(matches!(stream.leave(0), Err(StreamError::Weight(_))));
    faults.clear();
    pass(&stream, &model).unwrap();
}

#[test]
fn what_is_written_to_a_buffer_stays_and_is_part_of_the_budget() {
    for backend in [MemoryBackend::Move, MemoryBackend::Share] {
        let model = Model::new();
        let stream = model.stream(Options {
            memory: Stream::least_memory() + (4 << 20),
            writable: vec![9],
            backend: Some(backend),
            ..budget()
        });
        let before = stream.stats();
        stream.enter(0).unwrap();
        write(&stream, 9, 1);
        stream.leave(0).unwrap();
        for _ in 0..3 {
            for index in (0..TENSORS).filter(|&index| index != 9) {
                assert!(read(&stream, index, TENSOR) == model.expected(index));
            }
            assert!(read(&stream, 9, TENSOR).iter().all(|&byte| byte == 1));
        }
        let after = stream.stats();
        let kept = after.buffers - before.buffers;
        assert!((TENSOR as u64..(2 << 20)).contains(&kept), "{kept}");
        assert_eq!(after.least - before.least, kept);
        assert!(after.used <= after.budget);
        let error = stream.resize(before.least).unwrap_err();
        assert!(matches!(error, StreamError::Budget { least, .. } if least == after.least));
        stream.resize(after.least).unwrap();
        assert!(read(&stream, 9, TENSOR).iter().all(|&byte| byte == 1));
        assert!(stream.stats().used <= after.least);
        stream.close();
        assert_eq!(stream.stats().used, 0);
    }
}

#[test]
fn what_is_written_to_a_buffer_without_room_is_told_and_undone() {
    let model = Model::new();
    let stream = model.stream(Options {
        memory: Stream::least_memory(),
        writable: vec![9],
        ..budget()
    });
    stream.enter(0).unwrap();
    write(&stream, 9, 1);
    let Err(StreamError::Weight(error)) = stream.leave(0) else {
        panic!("never told")
    };
    let WeightError::Full { tensor, least, .. } = &*error else {
        panic!("{error}")
    };
    assert_eq!(tensor, "tensor.9");
    assert!(*least > Stream::least_memory());
    pass(&stream, &model).unwrap();
}

#[test]
fn a_fetch_brings_ranges_in_with_few_waits() {
    let model = Model::new();
    let stream = model.stream(Options {
        memory: 30 << 20,
        ..budget()
    });
    let whole = (0..TENSORS).map(|index| (stream.address(index), TENSOR));
    stream
        .fetch(whole.chain([(0, 10), (usize::MAX - 5, 10)]))
        .unwrap();
    let read_before = stream.stats().bytes_read;
    for index in 0..TENSORS {
        assert!(read(&stream, index, TENSOR) == model.expected(index));
    }
    assert_eq!(stream.stats().bytes_read, read_before);
}

#[test]
fn a_recording_holds_reads_blocks_and_stalls() {
    let model = Model::new();
    let stream = model.stream(budget());
    stream.record(true).unwrap();
    pass(&stream, &model).unwrap();
    let records = stream.record(false).unwrap();
    for kind in [
        RecordKind::Read,
        RecordKind::Publish,
        RecordKind::Withdraw,
        RecordKind::Stall,
        RecordKind::Block,
    ] {
        assert!(
            records.iter().any(|record| record.kind == kind),
            "no {}",
            kind.name()
        );
    }
    assert!(
        records
            .iter()
            .all(|record| record.start_ns <= record.end_ns)
    );
    assert!(stream.record(false).unwrap().is_empty());
}
