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
use tempfile::TempDir;
use weightstream::source::fault::{Effect, Fault, Faults, Faulty};
use weightstream::source::{ReadErrorKind, open};
use weightstream::{
    Content, Extent, Form, Options, Parameter, Part, StoredFile, Stream, StreamError,
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
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let files = [folder.path().join("a"), folder.path().join("b")];
        let mut stored = [vec![1; 4096], vec![2; 100]];
        let (mut extents, mut weights) = (Vec::new(), Vec::new());
        for number in 0..EXTENTS {
            let length = if number % 7 == 3 {
                1000
            } else {
                200_000 + number * 64
            };
            let mut bytes = noise(number + 1, length);
            let mut kept = bytes.clone();
            let file = usize::from(number >= EXTENTS / 2);
            let form = if number % 5 == 4 {
                Form::Plain
            } else if number % 5 == 3 {
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
        }
    }

    /// Even tensors are a range of the content, odd ones are rows of it in reverse order.
    fn parts(&self, index: u64) -> Vec<Part> {
        let length = self.weights.len() as u64 / TENSORS / 8 * 8;
        let (row, start) = (length / 8, index * length);
        let part = |offset, length| Part {
            file: 0,
            offset,
            length,
        };
        if index.is_multiple_of(2) {
            return vec![part(start, length)];
        }
        (0..8)
            .rev()
            .map(|number| part(start + number * row, row))
            .collect()
    }

    /// In little more than the least memory.
    fn stream(&self, faults: &Faults) -> Stream {
        let Err(StreamError::Budget { least, .. }) = self.try_stream(faults, 0) else {
            panic!("no memory is too little")
        };
        self.try_stream(faults, least + (1 << 20)).unwrap()
    }

    fn try_stream(&self, faults: &Faults, memory: u64) -> Result<Stream, StreamError> {
        let parameters = (0..TENSORS).map(|index| Parameter {
            name: format!("tensor.{index}"),
            parts: self.parts(index),
            itemsize: 1,
            unit: 0,
        });
        let faults = faults.clone();
        let options = Options {
            memory,
            chunk_bytes: Some(256 << 10),
            backend: None,
            source: Some(Box::new(move |files, listener| {
                Faulty::open(files, faults, listener, |listener| open(files, listener))
            })),
            alarm: None,
        };
        Stream::over(vec![self.content.clone()], parameters.collect(), options)
    }

    fn pass(&self, stream: &Stream) -> Result<(), StreamError> {
        stream.enter(0)?;
        let mut right = true;
        for index in 0..TENSORS {
            let parts = self.parts(index);
            let expected: Vec<u8> = parts
                .iter()
                .flat_map(|part| {
                    &self.weights[part.offset as usize..(part.offset + part.length) as usize]
                })
                .copied()
                .collect();
            let start = stream.address(index as usize) as *const u8;
            right &= unsafe { std::slice::from_raw_parts(start, expected.len()) } == expected;
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
    assert!(
        matches!(error.cause.kind, ReadErrorKind::Damaged { .. }),
        "{error}"
    );
    assert!(error.tensor.starts_with("tensor."), "{error}");
    assert_eq!(
        (&*error.cause.path, error.cause.offset),
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
