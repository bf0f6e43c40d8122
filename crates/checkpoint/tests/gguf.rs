//! GGUF headers: what they say, and what hostile ones can't do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use proptest::prelude::*;
use weightstream_checkpoint::{Checkpoint, Dtype, Form, Part, cast};

fn text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}

/// Two tensors: `a`, 64 by 32 in Q4_0 (kind 2), and `b`, 5 of F32.
fn file() -> Vec<u8> {
    let mut bytes = b"GGUF\x03\0\0\0".to_vec();
    bytes.extend(2_u64.to_le_bytes());
    bytes.extend(2_u64.to_le_bytes());
    text(&mut bytes, "general.architecture");
    bytes.extend(8_u32.to_le_bytes());
    text(&mut bytes, "llama");
    text(&mut bytes, "words");
    bytes.extend(9_u32.to_le_bytes());
    bytes.extend(8_u32.to_le_bytes());
    bytes.extend(300_u64.to_le_bytes());
    (0..300).for_each(|_| text(&mut bytes, "word"));
    for (name, shape, kind, offset) in
        [("a", &[32_u64, 64][..], 2_u32, 0_u64), ("b", &[5], 0, 1152)]
    {
        text(&mut bytes, name);
        bytes.extend((shape.len() as u32).to_le_bytes());
        shape
            .iter()
            .for_each(|size| bytes.extend(size.to_le_bytes()));
        bytes.extend(kind.to_le_bytes());
        bytes.extend(offset.to_le_bytes());
    }
    bytes.resize(bytes.len().next_multiple_of(32) + 1152 + 20, 7);
    bytes
}

fn open(bytes: &[u8]) -> Result<Checkpoint, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.gguf");
    std::fs::write(&path, bytes).unwrap();
    Checkpoint::open(&path).map_err(|error| error.to_string())
}

#[test]
fn tensors_can_be_had_as_three_dtypes() {
    let checkpoint = open(&file()).unwrap();
    assert_eq!(checkpoint.metadata["general.architecture"], "\"llama\"");
    assert_eq!(checkpoint.metadata["words"], r#"{"length":300}"#);
    let tensor = checkpoint.get("a").unwrap();
    assert_eq!(
        (tensor.dtype, &tensor.shape[..], tensor.length),
        (Dtype::F32, &[64, 32][..], 8192)
    );
    let part = |offset, length| Part {
        file: 0,
        offset: tensor.offset + offset,
        length,
    };
    let there = cast(&checkpoint.contents, part(128, 256), Dtype::BF16).unwrap();
    assert_eq!(there.len(), 1);
    assert_eq!(
        (there[0].offset - tensor.offset, there[0].length),
        (64, 128)
    );
    let range = there[0].offset..there[0].offset + there[0].length;
    let extent = checkpoint.contents[there[0].file as usize]
        .extents(range)
        .next()
        .unwrap();
    assert!(matches!(
        extent.form,
        Form::Quantised {
            to: Dtype::BF16,
            ..
        }
    ));
    assert!(cast(&checkpoint.contents, part(1, 4), Dtype::BF16).is_none());
    assert!(cast(&checkpoint.contents, part(0, 4), Dtype::I8).is_none());
}

#[test]
fn what_is_cut_off_is_missed() {
    let bytes = file();
    let error = open(&bytes[..bytes.len() - 1]).unwrap_err();
    assert!(
        error.contains("\"b\"") && error.contains("truncated"),
        "{error}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Whatever the bytes are, opening ends, and every extent lies in the file.
    #[test]
    fn damaged_headers_are_refused_or_sound(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop_oneof![3 => Just(None), 1 => any::<prop::sample::Index>().prop_map(Some)],
    ) {
        let mut bytes = file();
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(checkpoint) = open(&bytes) {
            for content in &checkpoint.contents {
                for extent in content.extents(0..u64::MAX) {
                    prop_assert!(extent.offset + extent.stored <= bytes.len() as u64);
                }
            }
        }
    }
}
