//! Streams over weights that are stored in another form: verified and decoded on their way into the pool.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    clippy::undocumented_unsafe_blocks
)]

use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;
use weightstream::source::fault::{Effect, Fault, Faults, Faulty};
use weightstream::source::throttle::{Speed, Throttle};
use weightstream::source::{ReadErrorKind, open};
use weightstream::{
    Content, Extent, Form, OpenSource, Options, Parameter, Part, Residency, StoredFile, Stream,
    StreamError, WeightError,
};
use weightstream_codec::{Element, encode};
use xxhash_rust::xxh3::xxh3_64;

const EXTENTS: u64 = 64;
const TENSORS: u64 = 20;

/// Extents of odd lengths, in two files, none where it lies in the content.
struct Model {
    _folder: TempDir,
    files: [PathBuf; 2],
    content: Content,
    weights: Vec<u8>,
    /// Whether odd tensors are rows in reverse order.
    gathered: bool,
}

fn noise(seed: u64, length: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let byte = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..length).map(byte).collect()
}

impl Model {
    /// Weights in every form.
    fn new() -> Self {
        let length = |number| {
            if number % 7 == 3 {
                1000
            } else {
                200_000 + number * 64
            }
        };
        Self::of(EXTENTS, length, |number| number % 5)
    }

    /// More weights, all coded and as a packed checkpoint has them: nothing is read for what lies beside it.
    fn coded() -> Self {
        Self {
            gathered: false,
            ..Self::of(8 * EXTENTS, |_| 64 << 10, |_| 3)
        }
    }

    /// Extents of so many bytes, and of the kinds that `kind` gives: 4 plain, 3 coded, others checked.
    fn of(count: u64, length: impl Fn(u64) -> u64, kind: impl Fn(u64) -> u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let files = [folder.path().join("a"), folder.path().join("b")];
        let mut stored = [vec![1; 4096], vec![2; 100]];
        let (mut extents, mut weights) = (Vec::new(), Vec::new());
        for number in 0..count {
            let length = length(number);
            let mut bytes = noise(number + 1, length);
            let mut kept = bytes.clone();
            let file = usize::from(number >= count / 2);
            let form = if kind(number) == 4 {
                Form::Plain
            } else if kind(number) == 3 {
                // Exponents of weights, so that it becomes smaller.
                let narrow =
                    |(at, byte): (usize, &u8)| if at % 2 == 1 { 60 + byte % 3 } else { *byte };
                bytes = bytes.iter().enumerate().map(narrow).collect();
                kept.clear();
                encode(Element::Bf16, &bytes, &mut kept);
                let coded = kept.len() as u32;
                kept.resize(kept.len().next_multiple_of(64), 0);
                Form::Coded {
                    coded,
                    checksum: xxh3_64(&kept),
                }
            } else {
                Form::Checked {
                    checksum: xxh3_64(&bytes),
                }
            };
            extents.push(Extent {
                start: weights.len() as u64,
                length,
                file: file as u32,
                offset: stored[file].len() as u64,
                stored: kept.len() as u64,
                form,
            });
            weights.extend(&bytes);
            stored[file].extend(&kept);
            stored[file].extend(vec![0; number as usize]);
        }
        for (file, bytes) in files.iter().zip(&stored) {
            std::fs::write(file, bytes).unwrap();
        }
        let stored_files = files.iter().zip(&stored).map(|(path, bytes)| StoredFile {
            path: path.clone(),
            length: bytes.len() as u64,
        });
        let content = Content::new(stored_files.collect(), extents).unwrap();
        Self {
            _folder: folder,
            files,
            content,
            weights,
            gathered: true,
        }
    }

    /// Tensors are ranges of the content; where it is gathered, odd ones are rows of it in reverse order.
    fn parts(&self, index: u64) -> Vec<Part> {
        let length = self.weights.len() as u64 / TENSORS / 8 * 8;
        let (row, start) = (length / 8, index * length);
        let part = |offset, length| Part {
            file: 0,
            offset,
            length,
        };
        if !self.gathered || index.is_multiple_of(2) {
            return vec![part(start, length)];
        }
        (0..8)
            .rev()
            .map(|number| part(start + number * row, row))
            .collect()
    }

    /// In little more than the least memory.
    fn stream(&self, faults: &Faults) -> Stream {
        let decoded = Some(Residency::Decoded);
        let memory = self.least() + (1 << 20);
        self.try_stream(faults, memory, decoded).unwrap()
    }

    fn least(&self) -> u64 {
        match self.try_stream(&Faults::default(), 0, None) {
            Err(StreamError::Budget { least, .. }) => least,
            _ => panic!("no memory is too little"),
        }
    }

    fn try_stream(
        &self,
        faults: &Faults,
        memory: u64,
        residency: Option<Residency>,
    ) -> Result<Stream, StreamError> {
        let faults = faults.clone();
        let source: OpenSource = Box::new(move |files, listener| {
            Faulty::open(files, faults, listener, |listener| open(files, listener))
        });
        self.over(source, memory, residency)
    }

    fn over(
        &self,
        source: OpenSource,
        memory: u64,
        residency: Option<Residency>,
    ) -> Result<Stream, StreamError> {
        let parameters = (0..TENSORS).map(|index| Parameter {
            name: format!("tensor.{index}"),
            parts: self.parts(index),
            itemsize: 1,
            unit: 0,
        });
        let options = Options {
            chunk_bytes: Some(256 << 10),
            residency,
            source: Some(source),
            ..Options::with_memory(memory)
        };
        Stream::over(vec![self.content.clone()], parameters.collect(), options)
    }

    fn pass(&self, stream: &Stream) -> Result<(), StreamError> {
        stream.enter(0)?;
        let mut right = true;
        for index in 0..TENSORS {
            let mut address = stream.address(index as usize) as *const u8;
            for part in self.parts(index) {
                let expected = part.offset as usize..(part.offset + part.length) as usize;
                let expected = &self.weights[expected];
                right &= unsafe { std::slice::from_raw_parts(address, expected.len()) } == expected;
                address = unsafe { address.add(expected.len()) };
            }
        }
        stream.leave(0)?;
        assert!(right, "a wrong byte, and no error");
        Ok(())
    }
}

#[test]
fn every_byte_is_right_and_only_stored_bytes_are_read() {
    let model = Model::new();
    let stream = model.stream(&Faults::default());
    for _ in 0..4 {
        model.pass(&stream).unwrap();
        let stats = stream.stats();
        assert!(stats.used <= stats.budget && stats.buffers > 0);
        assert!(
            stats.kept_bytes < stats.model_bytes,
            "it fits, so nothing streams"
        );
    }
}

#[test]
fn a_flipped_bit_is_an_error_that_names_the_tensor_and_goes_when_it_is_mended() {
    let model = Model::new();
    let stream = model.stream(&Faults::default());
    model.pass(&stream).unwrap();
    let extent = *model.content.extents(0..u64::MAX).nth(41).unwrap();
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .open(&model.files[1])
        .unwrap();
    // As a failing disk does it: a file that was written to would be told by its time.
    let written = file.metadata().unwrap().modified().unwrap();
    let flip = || {
        let mut byte = [0];
        file.read_exact_at(&mut byte, extent.offset + 77).unwrap();
        file.write_all_at(&[byte[0] ^ 4], extent.offset + 77)
            .unwrap();
        file.set_modified(written).unwrap();
        file.sync_all().unwrap();
    };
    flip();
    // Whatever was kept in memory is right: a pass may succeed as long as the damaged bytes are not read.
    let failed = (0..20).find_map(|_| model.pass(&stream).err());
    let Some(StreamError::Weight(error)) = failed else {
        panic!("never told")
    };
    let WeightError::Unread { tensor, cause } = &*error else {
        panic!("{error}")
    };
    assert!(
        matches!(cause.kind, ReadErrorKind::Damaged { .. }),
        "{error}"
    );
    assert!(tensor.starts_with("tensor."), "{error}");
    assert_eq!(
        (&*cause.path, cause.offset),
        (model.files[1].as_path(), extent.offset)
    );
    flip();
    model.pass(&stream).unwrap();
    model.pass(&stream).unwrap();
}

#[test]
fn damage_on_the_way_is_read_again_and_nobody_notices() {
    let model = Model::new();
    let faults = Faults::default();
    let stream = model.stream(&faults);
    model.pass(&stream).unwrap();
    let damaged = model.content.extents(0..u64::MAX).step_by(5);
    for extent in damaged {
        let range = extent.offset..extent.offset + extent.stored;
        faults.add(Fault::once(extent.file, range, Effect::Corrupt));
    }
    for _ in 0..3 {
        model.pass(&stream).unwrap();
    }
    assert!(stream.stats().retries > 0 && stream.stats().errors == 0);
}

/// More than streaming takes, so that something stays.
const ROOM: u64 = 8 << 20;

#[test]
fn what_stays_as_it_is_stored_is_not_read_again() {
    let model = Model::new();
    let memory = model.least() + 4 * ROOM;
    let coded = Some(Residency::Coded);
    let stream = model.try_stream(&Faults::default(), memory, coded).unwrap();
    let mut read = Vec::new();
    for _ in 0..6 {
        let before = stream.stats().bytes_read;
        model.pass(&stream).unwrap();
        let stats = stream.stats();
        assert!(stats.used <= stats.budget, "{stats:?}");
        read.push(stats.bytes_read - before);
    }
    let stats = stream.stats();
    assert!(read[0] > 0 && stats.coded_bytes > 0, "{stats:?}");
    assert_eq!(read[5], 0, "{read:?}");
}

#[test]
fn the_shelf_follows_the_budget() {
    let model = Model::new();
    let least = model.least();
    let coded = Some(Residency::Coded);
    let stream = model
        .try_stream(&Faults::default(), least + ROOM, coded)
        .unwrap();
    for _ in 0..3 {
        model.pass(&stream).unwrap();
    }
    let full = stream.stats().coded_bytes;
    std::thread::scope(|scope| {
        let passes = scope.spawn(|| {
            for _ in 0..30 {
                model.pass(&stream).unwrap();
            }
        });
        while !passes.is_finished() {
            for memory in [least, least + ROOM / 2, least + ROOM] {
                stream.resize(memory).unwrap();
                let stats = stream.stats();
                assert!(stats.used <= memory, "{stats:?}");
            }
        }
    });
    stream.resize(least).unwrap();
    assert!(stream.stats().coded_bytes < full / 2);
    stream.resize(least + ROOM).unwrap();
    for _ in 0..4 {
        model.pass(&stream).unwrap();
    }
    assert!(stream.stats().coded_bytes > full / 2);
}

#[test]
fn a_slow_disk_makes_chunks_stay_as_they_are_stored() {
    let model = Model::coded();
    let memory = model.least() + 3 * ROOM;
    let slow = Speed {
        bytes_per_second: 20e6,
        latency: Duration::ZERO,
    };
    let source: OpenSource = Box::new(move |files, listener| {
        Throttle::open(slow, listener, |listener| open(files, listener))
    });
    let stream = model.over(source, memory, None).unwrap();
    let becomes_coded = |_| {
        model.pass(&stream).unwrap();
        stream.stats().coded_bytes > 1 << 20
    };
    assert!((0..60).any(becomes_coded), "{:?}", stream.stats());
    for _ in 0..4 {
        model.pass(&stream).unwrap();
    }
    let stats = stream.stats();
    assert!(stats.used <= stats.budget, "{stats:?}");
}
