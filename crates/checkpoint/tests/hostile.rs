//! What does not open, and why.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::fs::File;
use std::io::Write;
use std::path::Path;

use CheckpointError as E;
use common::{file, row, single, write};
use tempfile::tempdir;
use weightstream_checkpoint::{Checkpoint, CheckpointError, Dtype};
use weightstream_source::FileError;

/// The error of opening this file, which must name it.
fn refused(bytes: &[u8]) -> CheckpointError {
    let folder = tempdir().unwrap();
    let path = write(folder.path(), "evil.safetensors", bytes);
    let error = Checkpoint::open(&path).unwrap_err();
    assert!(error.to_string().contains("evil.safetensors"), "{error}");
    error
}

/// The error of opening a file with this header and data, which must name the file and `tensor`.
fn refused_tensor(tensor: &str, header: &str, data: usize) -> CheckpointError {
    let error = refused(&file(header, data));
    assert!(
        error.to_string().contains(&format!("{tensor:?}")),
        "{error}"
    );
    error
}

/// A header of one tensor called `t`.
fn one(dtype: &str, shape: &str, offsets: &str) -> String {
    format!(r#"{{"t":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#)
}

#[test]
fn a_header_that_does_not_fit() {
    for length in 0..8 {
        let error = refused(&vec![0; length]);
        assert!(matches!(error, E::TooShort { length: got, .. } if got == length as u64));
    }
    let mut bytes = single("t");
    bytes[..8].copy_from_slice(&1000_u64.to_le_bytes());
    let got = bytes.len() as u64;
    let error = refused(&bytes);
    assert!(
        matches!(error, E::HeaderBeyondFile { expected: 1008, got: length, .. } if length == got)
    );
    for length in [100_000_001, u64::MAX, u64::MAX - 7, 1 << 63] {
        bytes[..8].copy_from_slice(&length.to_le_bytes());
        let error = refused(&bytes);
        assert!(matches!(error, E::HeaderTooLarge { length: got, .. } if got == length));
    }
}

#[test]
fn a_header_that_is_not_json() {
    let mut bytes = single("t");
    bytes[10] = 0xFF;
    assert!(matches!(refused(&bytes), E::NotUtf8 { position: 2, .. }));
    for header in [
        "",
        " ",
        "{",
        "[]",
        "null",
        "7",
        "\"t\"",
        "{}{}",
        "{} x",
        "{\"t\"}",
        "{\"t\":1,}",
        "\u{feff}{}",
        "\0\0",
    ] {
        let error = refused(&file(header, 0));
        assert!(matches!(error, E::Json { .. }), "{header}: {error}");
    }
    let deep = format!("{{\"t\":{}", "[".repeat(1_000_000));
    assert!(matches!(refused(&file(&deep, 0)), E::Json { .. }));
    let deep = format!("{{\"t\":{{\"x\":{}", "[".repeat(1_000_000));
    assert!(matches!(refused(&file(&deep, 0)), E::Json { .. }));
}

#[test]
fn a_row_that_is_not_one() {
    for row in [
        "1",
        "null",
        "[]",
        "{}",
        r#"{"dtype":"U8","shape":[4]}"#,
        r#"{"dtype":"U8","data_offsets":[0,4]}"#,
        r#"{"shape":[4],"data_offsets":[0,4]}"#,
        r#"{"dtype":8,"shape":[4],"data_offsets":[0,4]}"#,
        r#"{"dtype":"U8","shape":4,"data_offsets":[0,4]}"#,
        r#"{"dtype":"U8","shape":[-4],"data_offsets":[0,4]}"#,
        r#"{"dtype":"U8","shape":[4.0],"data_offsets":[0,4]}"#,
        r#"{"dtype":"U8","shape":["4"],"data_offsets":[0,4]}"#,
        r#"{"dtype":"U8","shape":[18446744073709551616],"data_offsets":[0,4]}"#,
        r#"{"dtype":"U8","shape":[4],"data_offsets":[0]}"#,
        r#"{"dtype":"U8","shape":[4],"data_offsets":[0,4,8]}"#,
        r#"{"dtype":"U8","shape":[4],"data_offsets":[-1,4]}"#,
        r#"{"dtype":"U8","shape":[4],"data_offsets":{"0":0}}"#,
        r#"{"dtype":"U8","dtype":"U8","shape":[4],"data_offsets":[0,4]}"#,
    ] {
        let error = refused_tensor("t", &format!("{{\"t\":{row}}}"), 4);
        assert!(matches!(error, E::Json { .. }), "{row}: {error}");
    }
    let shape = format!("[{}]", vec!["1"; 65].join(","));
    let error = refused_tensor("t", &one("U8", &shape, "[0,1]"), 1);
    assert!(
        error.to_string().contains("at most 64 dimensions"),
        "{error}"
    );
}

#[test]
fn metadata_that_is_not_text() {
    for metadata in [
        "1",
        "[]",
        r#"{"a":1}"#,
        r#"{"a":{}}"#,
        r#"{},"__metadata__":{}"#,
    ] {
        let error = refused(&file(&format!("{{\"__metadata__\":{metadata}}}"), 0));
        assert!(matches!(error, E::Json { .. }), "{metadata}: {error}");
    }
}

#[test]
fn a_dtype_that_the_format_lacks() {
    for name in ["", "bf16", "Q4_0", "BF16 ", "F8"] {
        let error = refused_tensor("t", &one(name, "[4]", "[0,4]"), 4);
        assert!(matches!(&error, E::UnknownDtype { dtype, .. } if dtype == name));
    }
}

#[test]
fn a_shape_of_another_length() {
    for (dtype, shape, expected) in [
        ("F32", "[2]", 8),
        ("U8", "[3]", 3),
        ("U8", "[0]", 0),
        ("U8", "[]", 1),
        ("F6_E2M3", "[4]", 3),
        ("C64", "[1,1]", 8),
    ] {
        let error = refused_tensor("t", &one(dtype, shape, "[0,4]"), 4);
        assert!(
            matches!(error, E::WrongLength { expected: wanted, got: 4, .. } if wanted == expected),
            "{error}"
        );
    }
}

#[test]
fn a_shape_that_no_tensor_has() {
    for (dtype, shape) in [
        ("U8", "[4294967296,4294967296]"),
        ("F64", "[2305843009213693952]"),
        ("U8", "[18446744073709551615,2]"),
        ("F4", "[3]"),
        ("F6_E3M2", "[2]"),
    ] {
        let error = refused_tensor("t", &one(dtype, shape, "[0,4]"), 4);
        assert!(matches!(error, E::ImpossibleShape { .. }), "{error}");
    }
}

#[test]
fn offsets_out_of_order() {
    let error = refused_tensor("t", &one("U8", "[4]", "[4,0]"), 4);
    assert!(matches!(
        error,
        E::ReversedOffsets {
            begin: 4,
            end: 0,
            ..
        }
    ));
}

#[test]
fn offsets_with_a_hole_or_an_overlap() {
    let header = format!("{{{},{}}}", row("a", 0, 4), row("b", 5, 8));
    let error = refused_tensor("b", &header, 8);
    assert!(matches!(
        error,
        E::NotContiguous {
            expected: 4,
            got: 5,
            ..
        }
    ));
    assert!(error.to_string().contains("leaves a hole"), "{error}");

    let header = format!("{{{}}}", row("first", 2, 4));
    let error = refused_tensor("first", &header, 4);
    assert!(
        error.to_string().contains("right after the header"),
        "{error}"
    );

    for second in [row("b", 3, 8), row("b", 0, 4), row("b", 0, 8)] {
        let header = format!("{{{},{second}}}", row("a", 0, 4));
        let error = refused_tensor("b", &header, 8);
        assert!(matches!(error, E::NotContiguous { .. }));
        assert!(error.to_string().contains("overlaps"), "{error}");
    }
    let end = 1 << 60;
    let header = format!("{{{},{}}}", row("a", 0, end), row("b", end, end));
    let error = refused_tensor("a", &header, 8);
    assert!(matches!(error, E::Truncated { .. }));
}

#[test]
fn a_truncated_file_names_the_tensor_that_falls_off() {
    let header = format!(
        "{{{},{},{}}}",
        row("c", 8, 12),
        row("a", 0, 4),
        row("b", 4, 8)
    );
    let whole = file(&header, 12);
    let expected = whole.len() as u64;
    for (lost, tensor) in [(1, "c"), (4, "c"), (5, "b"), (12, "a")] {
        let error = refused(&whole[..whole.len() - lost]);
        assert!(
            matches!(&error, E::Truncated { tensor: name, expected: wanted, got, .. }
                if name == tensor && *wanted == expected && *got == expected - lost as u64),
            "{error}"
        );
    }
}

#[test]
fn bytes_of_no_tensor() {
    let mut bytes = single("t");
    bytes.push(0);
    let got = bytes.len() as u64;
    let error = refused(&bytes);
    assert!(
        matches!(error, E::TrailingBytes { expected, got: length, .. }
            if (expected, length) == (got - 1, got))
    );
    assert!(matches!(refused(&file("{}", 1)), E::TrailingBytes { .. }));
}

#[test]
fn a_name_twice_in_a_file() {
    for second in [row(r"\u0061", 4, 8), row("a", 0, 4), row("a", 2, 8)] {
        let header = format!("{{{},{second}}}", row("a", 0, 4));
        let error = refused_tensor("a", &header, 8);
        assert!(matches!(error, E::Duplicate { .. }), "{error}");
    }
}

#[test]
fn a_name_twice_in_shards() {
    let folder = tempdir().unwrap();
    write(folder.path(), "m-1-of-2.safetensors", single("a"));
    write(folder.path(), "m-2-of-2.safetensors", single("a"));
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let [tensor] = &checkpoint.tensors[..] else {
        panic!("{:?}", checkpoint.tensors)
    };
    assert_eq!((tensor.name.as_str(), tensor.file), ("a", 1));
    assert_eq!(checkpoint.get("a"), Some(tensor));
    let [note] = &checkpoint.notes[..] else {
        panic!("{:?}", checkpoint.notes)
    };
    assert!(
        note.contains("\"a\"") && note.contains("m-2-of-2"),
        "{note}"
    );
}

#[test]
fn a_huge_sparse_header_of_zeros() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    let mut file = File::create(&path).unwrap();
    file.write_all(&50_000_000_u64.to_le_bytes()).unwrap();
    file.set_len(1 << 40).unwrap();
    let error = Checkpoint::open(&path).unwrap_err();
    assert!(matches!(error, E::Json { .. }), "{error}");
}

/// The error of opening this index beside `a.safetensors` and `b.safetensors`.
fn refused_index(index: &str) -> CheckpointError {
    let folder = tempdir().unwrap();
    let here = folder.path().join("model");
    write(folder.path(), "outside.safetensors", single("o"));
    write(&here, "a.safetensors", single("a"));
    write(&here, "b.safetensors", single("b"));
    let path = write(&here, "model.safetensors.index.json", index);
    let error = Checkpoint::open(&path).unwrap_err();
    let message = error.to_string();
    assert!(message.contains("model.safetensors.index.json"), "{error}");
    error
}

fn weight_map(entries: &str) -> String {
    format!("{{\"weight_map\":{{{entries}}}}}")
}

#[test]
fn an_index_that_is_not_one() {
    for index in [
        "",
        "[]",
        "null",
        "\"x\"",
        "{}",
        "{} {}",
        r#"{"weight_map":null}"#,
        r#"{"weight_map":[]}"#,
        r#"{"weight_map":{"a":1}}"#,
        r#"{"weight_map":{},"weight_map":{}}"#,
    ] {
        let error = refused_index(index);
        assert!(matches!(error, E::Json { .. }), "{index}: {error}");
    }
    let deep = format!("{{\"metadata\":{}", "[".repeat(1_000_000));
    assert!(matches!(refused_index(&deep), E::Json { .. }));
    let folder = tempdir().unwrap();
    let path = folder.path().join("x.safetensors.index.json");
    File::create(&path).unwrap().set_len(1 << 40).unwrap();
    let error = Checkpoint::open(&path).unwrap_err();
    assert!(
        matches!(error, E::File(FileError::TooLarge { .. })),
        "{error}"
    );
}

#[test]
fn an_index_that_names_what_is_not_there() {
    let error = refused_index(&weight_map(r#""a":"a.safetensors","c":"c.safetensors""#));
    assert!(matches!(&error, E::MissingShard { tensor, shard, .. }
        if tensor == "c" && shard == "c.safetensors"));
}

#[test]
fn an_index_that_is_wrong_about_its_shards() {
    let opened = |entries: &str| {
        let folder = tempdir().unwrap();
        let here = folder.path().join("model");
        write(&here, "a.safetensors", single("a"));
        write(&here, "b.safetensors", single("b"));
        let path = write(&here, "model.safetensors.index.json", weight_map(entries));
        let checkpoint = Checkpoint::open(&path).unwrap();
        let names: Vec<String> = checkpoint.tensors.iter().map(|t| t.name.clone()).collect();
        assert_eq!(names, ["a", "b"]);
        checkpoint.notes.join("; ")
    };
    let note = opened(r#""a":"a.safetensors","c":"b.safetensors""#);
    assert!(
        note.contains(r#"tensor "c""#) && note.contains("no shard"),
        "{note}"
    );
    let note = opened(r#""a":"b.safetensors","b":"a.safetensors""#);
    assert!(
        note.contains(r#"tensor "a""#) && note.contains("and 1 more"),
        "{note}"
    );
    let note = opened(r#""a":"a.safetensors","a":"b.safetensors""#);
    assert!(note.contains(r#"tensor "a""#), "{note}");
    assert_eq!(
        opened(r#""a":"./a.safetensors","b":"b.safetensors","a":"a.safetensors""#),
        ""
    );
}

#[test]
fn an_index_that_leads_outside() {
    let outside = [
        "../outside.safetensors",
        "sub/../../outside.safetensors",
        "./../outside.safetensors",
        "/etc/passwd",
        "..",
        ".",
        "./",
        "",
        "/",
    ];
    for name in outside {
        let error = refused_index(&weight_map(&format!("\"o\":{name:?}")));
        assert!(
            matches!(&error, E::ShardOutside { tensor, source, .. } if tensor == "o" && source.name == name),
            "{name}: {error}"
        );
    }
    let error = refused_index(&weight_map(r#""o":"a\u0000.safetensors""#));
    assert!(matches!(error, E::MissingShard { .. }));
}

#[test]
fn an_index_with_a_broken_shard_names_the_shard() {
    let folder = tempdir().unwrap();
    let bytes = single("a");
    write(folder.path(), "a.safetensors", &bytes[..bytes.len() - 1]);
    let index = weight_map(r#""a":"a.safetensors""#);
    let path = write(folder.path(), "m.safetensors.index.json", index);
    let error = Checkpoint::open(&path).unwrap_err();
    assert!(matches!(&error, E::Truncated { file, .. } if file.ends_with("a.safetensors")));
}

#[test]
fn every_dtype_has_its_size() {
    let folder = tempdir().unwrap();
    for dtype in Dtype::ALL {
        let length = 8 * dtype.bits() / 8;
        let header = one(dtype.name(), "[8]", &format!("[0,{length}]"));
        let path = write(
            folder.path(),
            "x.safetensors",
            file(&header, length as usize),
        );
        assert_eq!(
            Checkpoint::open(Path::new(&path)).unwrap().tensors[0].dtype,
            dtype
        );
    }
}
