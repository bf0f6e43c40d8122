//! Archives of torch: what is in them, and what none may do. `fixtures` were written by torch 2.15.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    clippy::disallowed_methods
)]

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use tempfile::TempDir;
use weightstream_checkpoint::{Checkpoint, CheckpointError, Dtype};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

/// An archive of a pickle and of one storage of 64 bytes.
fn archive(pickle: &[u8]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.pt");
    let mut writer = ZipWriter::new(std::fs::File::create(&path).unwrap());
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for (name, bytes) in [("a/data.pkl", pickle), ("a/data/0", &[7; 64])] {
        writer.start_file(name, stored).unwrap();
        std::io::Write::write_all(&mut writer, bytes).unwrap();
    }
    writer.finish().unwrap();
    (folder, path)
}

/// A dict of one tensor of two dimensions, of the storage above.
fn one_tensor(offset: u8, shape: [u8; 2], strides: [u8; 2]) -> Vec<u8> {
    let mut pickle = b"\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n((".to_vec();
    pickle.extend(b"X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x10tQ");
    pickle.extend([b'K', offset]);
    for [first, second] in [shape, strides] {
        pickle.extend([b'K', first, b'K', second, 0x86]);
    }
    pickle.extend(b"\x89ccollections\nOrderedDict\n)RtRs.");
    pickle
}

fn reason(pickle: &[u8]) -> String {
    let (_folder, path) = archive(pickle);
    Checkpoint::open(&path).unwrap_err().to_string()
}

#[test]
fn a_state_dict_is_indexed_where_it_lies() {
    let checkpoint = Checkpoint::open(&fixture("state.pt")).unwrap();
    let weight = checkpoint.get("state_dict.0.weight").unwrap();
    assert_eq!(
        (weight.dtype, &weight.shape[..]),
        (Dtype::BF16, &[8, 4][..])
    );
    let half = checkpoint.get("half").unwrap();
    assert_eq!((half.dtype, half.length), (Dtype::I64, 64));
    let file = std::fs::read(fixture("state.pt")).unwrap();
    let numbers: Vec<u8> = (8_i64..16).flat_map(i64::to_le_bytes).collect();
    assert_eq!(file[half.offset as usize..][..64], numbers);
    // Tied names share their bytes.
    let (tied, weight) = (
        checkpoint.get("tied").unwrap(),
        checkpoint.get("state_dict.1.weight").unwrap(),
    );
    assert_eq!((tied.offset, tied.length), (weight.offset, weight.length));
    assert!(checkpoint.get("steps.0").is_none());
}

#[test]
fn an_exported_program_is_indexed_where_it_lies() {
    let checkpoint = Checkpoint::open(&fixture("linear.pt2")).unwrap();
    let names: Vec<_> = checkpoint
        .tensors
        .iter()
        .map(|tensor| (tensor.name.as_str(), tensor.length))
        .collect();
    assert_eq!(names, [("weight", 128), ("bias", 32)]);
}

#[test]
fn views_must_be_contiguous_and_inside_their_storage() {
    let (_folder, path) = archive(&one_tensor(4, [3, 4], [4, 1]));
    let checkpoint = Checkpoint::open(&path).unwrap();
    let file = std::fs::read(&path).unwrap();
    assert_eq!(file[checkpoint.tensors[0].offset as usize..][..48], [7; 48]);
    let transposed = reason(&one_tensor(0, [3, 4], [1, 3]));
    assert!(
        transposed.contains("\"w\": expected a contiguous tensor"),
        "{transposed}"
    );
    let outside = reason(&one_tensor(5, [3, 4], [4, 1]));
    assert!(
        outside.contains("within the 64 bytes of its storage"),
        "{outside}"
    );
}

#[test]
fn nothing_is_executed_and_what_asks_for_it_is_named() {
    let system = reason(b"\x80\x02cposix\nsystem\nX\x04\x00\x00\x00true\x85R.");
    assert!(
        system.contains("got posix.system, which only executing it could make"),
        "{system}"
    );
    let hidden = reason(
        b"\x80\x04X\x08\x00\x00\x00builtinsX\x04\x00\x00\x00eval\x93X\x01\x00\x00\x001\x85R.",
    );
    assert!(hidden.contains("builtins.eval"), "{hidden}");
    let object = reason(b"\x80\x02cargparse\nNamespace\n)\x81}b.");
    assert!(object.contains("operation 0x81"), "{object}");
}

#[test]
fn an_old_file_says_how_it_is_renewed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("old.bin");
    std::fs::write(
        &path,
        b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.",
    )
    .unwrap();
    let error = Checkpoint::open(&path).unwrap_err();
    assert!(matches!(error, CheckpointError::Torch { .. }));
    assert!(error.to_string().contains("got a bare pickle"), "{error}");
}

#[test]
fn containers_within_themselves_and_deep_ones_end() {
    // A list of itself, twice over: as a tree it would be endless.
    let mut cyclic = b"\x80\x02]q\x00(h\x00h\x00e".to_vec();
    cyclic.push(b'.');
    assert!(reason(&cyclic).contains("at most 16 deep"));
    let mut deep = b"\x80\x02)".to_vec();
    deep.extend(vec![0x85; 10_000]);
    deep.push(b'.');
    assert!(reason(&deep).contains("at most 16 deep"));
    // Each tuple holds the one before twice: 2^60 paths.
    let mut wide = b"\x80\x02)q\x00".to_vec();
    for _ in 0..12 {
        wide.extend(b"h\x00h\x00\x86q\x00");
    }
    wide.push(b'.');
    let (_folder, path) = archive(&wide);
    assert_eq!(Checkpoint::open(&path).unwrap().tensors.len(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever the bytes are, opening ends, and every tensor that it names lies in the file.
    #[test]
    fn damaged_archives_are_refused_or_sound(
        pt2 in any::<bool>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop_oneof![3 => Just(None), 1 => any::<prop::sample::Index>().prop_map(Some)],
    ) {
        let mut bytes = std::fs::read(fixture(if pt2 { "linear.pt2" } else { "state.pt" })).unwrap();
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, &bytes).unwrap();
        if let Ok(checkpoint) = Checkpoint::open(&path) {
            for tensor in &checkpoint.tensors {
                prop_assert!(tensor.offset + tensor.length <= bytes.len() as u64);
            }
        }
    }

    #[test]
    fn any_pickle_ends(pickle in prop::collection::vec(
        prop_oneof![any::<u8>(), prop::sample::select(b"\x80\x95.(01N\x88\x89KMJ\x8aGX\x8c)t\x85]}aesuc\x93qhrjQRb\n".to_vec())],
        0..300,
    )) {
        let (_folder, path) = archive(&pickle);
        let _ = Checkpoint::open(&path);
    }
}
