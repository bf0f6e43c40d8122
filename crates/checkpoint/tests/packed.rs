//! Packed checkpoints: what is written is what is read, and what lies is refused.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use tempfile::tempdir;
use weightstream_checkpoint::packed::{
    ChunkRow, Code, DataFile, Element, FrameError, FrameRow, MANIFEST, Manifest, Packed,
    PackedError, checksum, file_name,
};
use weightstream_checkpoint::{Checkpoint, CheckpointError, Dtype, Tensor};

const CHUNK: u64 = 256 << 10;

fn tensor(name: &str, dtype: Dtype, shape: &[u64], offset: u64) -> Tensor {
    Tensor {
        name: name.into(),
        dtype,
        shape: shape.to_vec(),
        file: 0,
        offset,
        length: dtype.bytes(shape).unwrap(),
    }
}

/// A checkpoint of two chunks, the second of two frames, and its stored bytes.
fn example() -> (Manifest, Vec<u8>, Vec<u8>) {
    let weights: Vec<u8> = (0..CHUNK + 300).map(|index| (index / 3) as u8).collect();
    let mut stored = Vec::new();
    let mut frames = Vec::new();
    for (range, padded, element) in [
        (0..CHUNK, CHUNK, Element::Bf16),
        (CHUNK..CHUNK + 128, 128, Element::Bytes),
        (CHUNK + 128..CHUNK + 300, 4096 - 128, Element::F32),
    ] {
        let start = stored.len();
        stored.extend(&weights[range.start as usize..range.end as usize]);
        stored.resize(start + padded as usize, 0);
        frames.push(FrameRow {
            length: (range.end - range.start) as u32,
            stored_length: padded as u32,
            coded_length: (range.end - range.start) as u32,
            code: Code::Raw,
            element,
            checksum: checksum(&stored[start..]),
        });
    }
    let chunk = |frames, offset| ChunkRow {
        file: 0,
        frames,
        offset,
    };
    let manifest = Manifest {
        files: vec![DataFile {
            name: file_name(0),
            length: stored.len() as u64,
        }],
        tensors: vec![
            tensor("embedding", Dtype::BF16, &[64, 2048], 0),
            tensor("tied", Dtype::BF16, &[2048, 64], 0),
            tensor("scalar", Dtype::F32, &[], CHUNK + 128),
            tensor("empty", Dtype::I64, &[0, 7], CHUNK),
            tensor("tail", Dtype::F32, &[43], CHUNK + 128),
        ],
        chunk_bytes: CHUNK,
        chunks: vec![chunk(1, 0), chunk(2, CHUNK)],
        frames,
        metadata: [("format".to_owned(), "pt".to_owned())].into(),
        origin: Some([7; 32]),
    };
    (manifest, stored, weights)
}

fn write(folder: &Path, manifest: &[u8], stored: &[u8]) -> PathBuf {
    fs::write(folder.join(file_name(0)), stored).unwrap();
    fs::write(folder.join(MANIFEST), manifest).unwrap();
    folder.to_owned()
}

/// With a digest that fits: what a hostile author would write.
fn signed(mut bytes: Vec<u8>) -> Vec<u8> {
    let content = bytes.len() - 32;
    let digest = blake3::hash(&bytes[..content]);
    bytes[content..].copy_from_slice(digest.as_bytes());
    bytes
}

#[test]
fn what_is_written_is_read() {
    let (manifest, stored, weights) = example();
    let folder = tempdir().unwrap();
    write(folder.path(), &manifest.to_bytes(), &stored);
    let packed = Packed::open(folder.path()).unwrap();
    assert_eq!(packed.manifest(), &manifest);
    assert_eq!(packed.weights(), CHUNK + 300);
    assert_eq!(packed.stored(), CHUNK + 4096);
    assert_eq!((packed.chunks(), packed.chunk_bytes()), (2, CHUNK));
    assert_eq!(packed.digest().len(), 64);

    let mut decoded = vec![0; weights.len()];
    for frame in packed.frames_in(0..u64::MAX) {
        let bytes = &stored[frame.offset as usize..][..frame.stored_length as usize];
        let place = frame.address as usize..frame.address as usize + frame.length as usize;
        frame.decode(bytes, &mut decoded[place]).unwrap();
    }
    assert_eq!(decoded, weights);

    let addresses = |range| {
        let frames = packed.frames_in(range);
        frames.map(|frame| frame.address).collect::<Vec<_>>()
    };
    assert_eq!(addresses(CHUNK - 1..CHUNK + 1), [0, CHUNK]);
    assert_eq!(addresses(CHUNK + 127..CHUNK + 128), [CHUNK]);
    assert_eq!(addresses(CHUNK + 128..CHUNK + 128), [0_u64; 0]);
    assert_eq!(addresses(CHUNK + 300..u64::MAX), [0_u64; 0]);
    assert_eq!(packed.frames_of(2).count(), 0);
    assert_eq!(packed.frames_of(u64::MAX).count(), 0);
    let names: Vec<_> = packed.tensors_in(0..CHUNK).map(|t| &t.name).collect();
    assert_eq!(names, ["embedding", "tied"]);
}

#[test]
fn a_checkpoint_like_any_other() {
    let (manifest, stored, _) = example();
    let folder = tempdir().unwrap();
    write(folder.path(), &manifest.to_bytes(), &stored);
    for path in [folder.path().to_owned(), folder.path().join(MANIFEST)] {
        let checkpoint = Checkpoint::open(&path).unwrap();
        assert_eq!(checkpoint.contents.len(), 1);
        assert_eq!(checkpoint.contents[0].length(), CHUNK + 300);
        assert_eq!(checkpoint.get("tied").unwrap().shape, [2048, 64]);
        assert_eq!(checkpoint.get("scalar").unwrap().offset, CHUNK + 128);
        assert_eq!(checkpoint.metadata["format"], "pt");
        assert!(checkpoint.packed.is_some());
    }
}

#[test]
fn damaged_weights_are_told() {
    let (manifest, mut stored, _) = example();
    let folder = tempdir().unwrap();
    write(folder.path(), &manifest.to_bytes(), &stored);
    let packed = Packed::open(folder.path()).unwrap();
    for position in [0, 1000, CHUNK + 127, CHUNK + 130, CHUNK + 4095] {
        stored[position as usize] ^= 4;
        let wrong = packed.frames_in(0..u64::MAX).filter(|frame| {
            let bytes = &stored[frame.offset as usize..][..frame.stored_length as usize];
            let mut weights = vec![7; frame.length as usize];
            let refused = matches!(
                frame.decode(bytes, &mut weights),
                Err(FrameError::Checksum { .. })
            );
            assert!(!refused || weights.iter().all(|&byte| byte == 7));
            refused
        });
        assert_eq!(wrong.count(), 1, "{position}");
        stored[position as usize] ^= 4;
    }
}

#[test]
fn data_files_must_be_there_and_whole() {
    let (manifest, stored, _) = example();
    let folder = tempdir().unwrap();
    write(folder.path(), &manifest.to_bytes(), &stored[1..]);
    let error = Packed::open(folder.path()).unwrap_err();
    assert!(error.to_string().contains(&file_name(0)), "{error}");
    fs::remove_file(folder.path().join(file_name(0))).unwrap();
    let error = Packed::open(folder.path()).unwrap_err();
    assert!(matches!(error, CheckpointError::File(_)), "{error}");
}

#[test]
fn every_flipped_bit_of_a_manifest_is_told() {
    let bytes = example().0.to_bytes();
    for position in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[position / 8] ^= 1 << (position % 8);
        assert!(Manifest::from_bytes(&damaged).is_err(), "bit {position}");
    }
    for length in 0..bytes.len() {
        assert!(Manifest::from_bytes(&bytes[..length]).is_err());
    }
}

/// The error of reading the example with a change to it.
fn refused(change: impl FnOnce(&mut Manifest)) -> PackedError {
    let mut manifest = example().0;
    change(&mut manifest);
    Manifest::from_bytes(&manifest.to_bytes()).unwrap_err()
}

#[test]
fn what_lies_is_refused() {
    use PackedError as E;
    for name in [
        "../chunks",
        "/etc/passwd",
        "a/b",
        "..",
        ".",
        "",
        "a\\b",
        "c:d",
        "a\0b",
        "./a",
        "a/",
    ] {
        let error = refused(|manifest| manifest.files[0].name = name.into());
        assert!(
            matches!(&error, E::FileOutside { name: got } if got == name),
            "{name:?}: {error}"
        );
    }
    assert!(matches!(
        refused(|m| m.files[0].length += 4096),
        E::Malformed { .. }
    ));
    assert!(matches!(
        refused(|m| m.files.push(m.files[0].clone())),
        E::Malformed { .. }
    ));
    assert!(matches!(
        refused(|m| m.tensors[4].offset += 1),
        E::OutsideWeights { .. }
    ));
    assert!(matches!(
        refused(|m| m.tensors[4].offset = u64::MAX),
        E::OutsideWeights { .. }
    ));
    assert!(matches!(
        refused(|m| m.tensors[4].shape = vec![1 << 40, 1 << 40]),
        E::ImpossibleShape { .. }
    ));
    assert!(matches!(
        refused(|m| m.tensors[4].shape = vec![1; 65]),
        E::Malformed { .. }
    ));
    assert!(matches!(
        refused(|m| m.tensors[1].name = "empty".into()),
        E::Duplicate { .. }
    ));
    assert!(matches!(
        refused(|m| m.chunk_bytes = 0),
        E::Malformed { .. }
    ));
    assert!(matches!(
        refused(|m| m.chunk_bytes = 1 << 40),
        E::Malformed { .. }
    ));
    assert!(matches!(
        refused(|m| m.chunks[1].file = 1),
        E::Chunk { chunk: 1, .. }
    ));
    assert!(matches!(
        refused(|m| m.chunks[1].offset = 0),
        E::Chunk { chunk: 1, .. }
    ));
    assert!(matches!(
        refused(|m| m.chunks[0].frames = 2),
        E::Chunk { .. }
    ));
    assert!(matches!(
        refused(|m| m.chunks[1].frames = 3),
        E::Chunk { chunk: 1, .. }
    ));
    assert!(matches!(
        refused(|m| m.chunks[1].frames = 1),
        E::Chunk { .. } | E::Malformed { .. }
    ));
    assert!(matches!(
        refused(|m| m.frames[0].length -= 64),
        E::Chunk { chunk: 0, .. }
    ));
    assert!(matches!(
        refused(|m| m.frames[1].length -= 1),
        E::Chunk { chunk: 1, .. }
    ));
    assert!(matches!(
        refused(|m| m.frames[1].stored_length += 1),
        E::Chunk { chunk: 1, .. }
    ));
    assert!(matches!(
        refused(|m| m.frames[2].stored_length += 64),
        E::Chunk { chunk: 1, .. }
    ));
    assert!(matches!(
        refused(|m| m.frames[2].stored_length = u32::MAX - 63),
        E::Chunk { chunk: 1, .. }
    ));
    assert!(matches!(
        refused(|m| m.frames[2].coded_length = 9000),
        E::Chunk { chunk: 1, .. }
    ));
}

/// Where the table of sections has the flags of its first row.
const FIRST_FLAGS: usize = 64 + 24;

#[test]
fn what_is_new_is_refused_or_ignored() {
    let bytes = example().0.to_bytes();
    let with = |position: usize, value: u8| {
        let mut changed = bytes.clone();
        changed[position] = value;
        Manifest::from_bytes(&signed(changed))
    };
    assert!(matches!(
        with(8, 2),
        Err(PackedError::Version { got: 2, .. })
    ));
    assert!(matches!(
        with(16, 1),
        Err(PackedError::Features { got: 1, .. })
    ));
    assert!(with(24, 1).is_ok(), "an optional feature");
    assert!(matches!(with(40, 1), Err(PackedError::Malformed { .. })));
    assert!(matches!(with(64, b'F'), Err(PackedError::Section { .. })));
    // The same section, no longer required: what is missing then is told.
    let mut unknown = bytes.clone();
    unknown[64] = b'F';
    unknown[FIRST_FLAGS] = 0;
    assert!(matches!(
        Manifest::from_bytes(&signed(unknown)),
        Err(PackedError::MissingSection { section: "files" })
    ));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    /// Whatever a manifest says, reading it ends without a panic; and where it is taken, all that it says holds.
    #[test]
    fn hostile_manifests(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4), long in any::<u64>()) {
        let mut bytes = example().0.to_bytes();
        for (position, value) in &changes {
            let length = bytes.len() - 32;
            bytes[position.index(length)] = *value;
        }
        // Counts and lengths are where a parser can be led astray.
        let place = changes[0].0.index(bytes.len() - 48);
        if changes.len() == 3 {
            bytes[place..place + 8].copy_from_slice(&long.to_le_bytes());
        }
        if let Ok(manifest) = Manifest::from_bytes(&signed(bytes)) {
            let weights = manifest.weights();
            for tensor in &manifest.tensors {
                prop_assert!(tensor.offset + tensor.length <= weights);
            }
            for file in &manifest.files {
                prop_assert!(!file.name.contains('/'));
            }
            prop_assert_eq!(Manifest::from_bytes(&manifest.to_bytes()).unwrap(), manifest);
        }
    }

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(Manifest::from_bytes(&bytes).is_err());
    }
}
