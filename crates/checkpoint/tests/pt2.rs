//! Exported programs: where their weights lie in the archive, and archives that lie.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use weightstream_checkpoint::{Archive, Checkpoint, CheckpointError};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

fn archive(folder: &Path, entries: &[(&str, &[u8])]) -> PathBuf {
    let path = folder.join("model.pt2");
    let mut writer = ZipWriter::new(File::create(&path).unwrap());
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for (name, bytes) in entries {
        writer.start_file(*name, stored).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap();
    path
}

fn weight(name: &str, entry: &str, sizes: &[u64], strides: &[u64], offset: u64) -> String {
    let ints = |values: &[u64]| {
        let ints: Vec<_> = values
            .iter()
            .map(|value| format!(r#"{{"as_int":{value}}}"#))
            .collect();
        ints.join(",")
    };
    format!(
        r#""{name}":{{"path_name":"{entry}","is_param":true,"use_pickle":false,"tensor_meta":{{"dtype":7,
        "sizes":[{}],"strides":[{}],"storage_offset":{{"as_int":{offset}}},"requires_grad":true,"layout":7,
        "device":{{"type":"cpu","index":null}}}}}}"#,
        ints(sizes),
        ints(strides)
    )
}

fn program(folder: &Path, weights: &[String], bytes: &[u8]) -> PathBuf {
    let config = format!(r#"{{"config":{{{}}}}}"#, weights.join(","));
    archive(
        folder,
        &[
            ("m/data/weights/weight_0", bytes),
            (
                "m/data/weights/model_weights_config.json",
                config.as_bytes(),
            ),
            (
                "m/data/constants/model_constants_config.json",
                br#"{"config":{}}"#,
            ),
            ("m/models/model.json", b"{}"),
        ],
    )
}

#[test]
fn tensors_are_found_in_place() {
    let folder = tempfile::tempdir().unwrap();
    let bytes: Vec<u8> = (0..48).collect();
    let weights = [
        weight("whole", "weight_0", &[3, 4], &[4, 1], 0),
        weight("tied", "weight_0", &[3, 4], &[4, 1], 0),
        weight("row", "weight_0", &[4], &[1], 4),
        weight("transposed", "weight_0", &[4, 3], &[1, 4], 0),
        weight("none", "weight_9", &[0, 3], &[3, 1], 0),
    ];
    let path = program(folder.path(), &weights, &bytes);
    let checkpoint = Checkpoint::open(&path).unwrap();
    let file = std::fs::read(&path).unwrap();
    let read = |name: &str| {
        let tensor = checkpoint.get(name).unwrap();
        file[tensor.offset as usize..(tensor.offset + tensor.length) as usize].to_vec()
    };
    assert_eq!(read("whole"), bytes);
    assert_eq!(read("tied"), bytes);
    assert_eq!(read("row"), bytes[16..32]);
    assert_eq!(checkpoint.get("transposed").unwrap().shape, [12]);
    assert_eq!(checkpoint.get("none").unwrap().length, 0);
}

#[test]
fn archives_that_lie_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |weights: &[String]| {
        let path = program(folder.path(), weights, &[0; 48]);
        Checkpoint::open(&path).unwrap_err().to_string()
    };
    let beyond = refused(&[weight("w", "weight_0", &[4, 4], &[4, 1], 0)]);
    assert!(beyond.contains("within their entries"), "{beyond}");
    let offset = refused(&[weight("w", "weight_0", &[4], &[1], u64::MAX / 4)]);
    assert!(offset.contains("within their entries"), "{offset}");
    let huge = refused(&[weight("w", "weight_0", &[u64::MAX, 3], &[3, 1], 0)]);
    assert!(huge.contains("within their entries"), "{huge}");
    let missing = refused(&[weight("w", "weight_7", &[4], &[1], 0)]);
    assert!(missing.contains("weight_7"), "{missing}");

    let path = archive(folder.path(), &[("m/something", b"else")]);
    assert!(matches!(
        Checkpoint::open(&path),
        Err(CheckpointError::Archive { .. })
    ));
    let whole = std::fs::read(&path).unwrap();
    for length in [0, 10, whole.len() - 1] {
        std::fs::write(&path, &whole[..length]).unwrap();
        assert!(matches!(
            Archive::open(&path),
            Err(CheckpointError::Archive { .. })
        ));
    }
}

#[test]
fn an_entry_may_be_a_zip_file_itself() {
    let folder = tempfile::tempdir().unwrap();
    // As torch.export.save writes sample inputs.
    let inner = std::fs::read(archive(folder.path(), &[("inputs/0", &[1; 100])])).unwrap();
    let path = archive(
        folder.path(),
        &[("m/first", &[2; 50]), ("m/sample_inputs.pt", &inner)],
    );
    let outer = Archive::open(&path).unwrap();
    assert_eq!(outer.read("m/first", 50).unwrap(), [2; 50]);
    assert_eq!(outer.read("m/sample_inputs.pt", 1 << 20).unwrap(), inner);
}
