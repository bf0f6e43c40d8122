//! The `safetensors` crate has the last word on what a file says.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::HashMap;
use std::path::Path;

use common::write;
use proptest::collection::{hash_map, vec};
use proptest::prelude::*;
use proptest::sample::Index;
use safetensors::tensor::TensorView;
use safetensors::{Dtype as Theirs, SafeTensors};
use tempfile::tempdir;
use weightstream_checkpoint::{Checkpoint, CheckpointError};

fn dtypes() -> impl Strategy<Value = Theirs> {
    prop::sample::select(vec![
        Theirs::BOOL,
        Theirs::F4,
        Theirs::F6_E2M3,
        Theirs::F6_E3M2,
        Theirs::U8,
        Theirs::I8,
        Theirs::F8_E5M2,
        Theirs::F8_E4M3,
        Theirs::F8_E8M0,
        Theirs::F8_E4M3FNUZ,
        Theirs::F8_E5M2FNUZ,
        Theirs::I16,
        Theirs::U16,
        Theirs::F16,
        Theirs::BF16,
        Theirs::I32,
        Theirs::U32,
        Theirs::F32,
        Theirs::C64,
        Theirs::F64,
        Theirs::I64,
        Theirs::U64,
    ])
}

/// A valid file as the reference writes it. (It can't read what it writes for metadata without
/// tensors.)
fn valid_files() -> impl Strategy<Value = Vec<u8>> {
    let shape = vec(0_usize..5, 0..4);
    let tensors = hash_map("\\PC{0,12}", (dtypes(), shape), 0..12);
    let metadata = prop::option::of(hash_map("\\PC{0,8}", "\\PC{0,8}", 0..4));
    (tensors, metadata).prop_map(|(tensors, metadata)| {
        let data: Vec<u8> = (0..1024).map(|byte| (byte * 31) as u8).collect();
        let views: Vec<_> = tensors
            .into_iter()
            .filter(|(name, _)| name != "__metadata__")
            .map(|(name, (dtype, mut shape))| {
                // Packed floats come in whole bytes.
                if dtype.bitsize() < 8 {
                    shape.push(4);
                }
                let length = shape.iter().product::<usize>() * dtype.bitsize() / 8;
                let view = TensorView::new(dtype, shape, &data[..length]).unwrap();
                (name, view)
            })
            .collect();
        let metadata = metadata.filter(|_| !views.is_empty());
        safetensors::serialize(views, metadata).unwrap()
    })
}

fn open(bytes: &[u8]) -> Result<Checkpoint, CheckpointError> {
    let folder = tempdir().unwrap();
    Checkpoint::open(Path::new(&write(folder.path(), "x.safetensors", bytes)))
}

/// Both say the same of a file that both accept.
fn compare(bytes: &[u8], ours: &Checkpoint) {
    let (header, metadata) = SafeTensors::read_metadata(bytes).unwrap();
    let theirs = SafeTensors::deserialize(bytes).unwrap();
    assert_eq!(ours.tensors.len(), theirs.len());
    for (name, view) in theirs.iter() {
        let tensor = ours.get(name).unwrap();
        assert_eq!(tensor.name, name);
        assert_eq!(tensor.dtype.name(), view.dtype().to_string());
        assert_eq!(tensor.dtype.bits(), view.dtype().bitsize() as u64);
        let shape: Vec<u64> = view.shape().iter().map(|&size| size as u64).collect();
        assert_eq!(tensor.shape, shape);
        let info = metadata.info(name).unwrap();
        assert_eq!(tensor.offset as usize, 8 + header + info.data_offsets.0);
        let data = &bytes[tensor.offset as usize..][..tensor.length as usize];
        assert_eq!(data, view.data());
    }
    let said: HashMap<_, _> = ours.metadata.clone().into_iter().collect();
    assert_eq!(said, metadata.metadata().clone().unwrap_or_default());
    assert!(ours.tensors.is_sorted_by_key(|tensor| tensor.offset));
}

/// A change to a file, at places that depend on its length.
#[derive(Debug, Clone)]
enum Mutation {
    Set(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    Copy(Index, usize, Index),
    HeaderLength(i8),
    Cut(Index),
    Append(u8),
}

fn mutations() -> impl Strategy<Value = Mutation> {
    let telling = prop::sample::select(b"{}[]\",:0123456789-.eE \\".to_vec());
    prop_oneof![
        3 => (any::<Index>(), telling).prop_map(|(at, byte)| Mutation::Set(at, byte)),
        1 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Mutation::Set(at, byte)),
        1 => (any::<Index>(), vec(any::<u8>(), 1..5)).prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
        1 => (any::<Index>(), 1_usize..40).prop_map(|(at, count)| Mutation::Remove(at, count)),
        2 => (any::<Index>(), 1_usize..80, any::<Index>()).prop_map(|(from, count, to)| Mutation::Copy(from, count, to)),
        1 => any::<i8>().prop_map(Mutation::HeaderLength),
        1 => any::<Index>().prop_map(Mutation::Cut),
        1 => any::<u8>().prop_map(Mutation::Append),
    ]
}

fn mutate(bytes: &mut Vec<u8>, mutation: Mutation) {
    let mut length = bytes
        .first_chunk()
        .map_or(0, |length| u64::from_le_bytes(*length) as usize);
    let header = (bytes.len().saturating_sub(8)).min(length);
    if header == 0 {
        return;
    }
    let place = |index: Index| 8 + index.index(header);
    let end = 8 + header;
    match mutation {
        Mutation::Set(at, byte) => bytes[place(at)] = byte,
        Mutation::Insert(at, new) => {
            length = length.wrapping_add(new.len());
            let at = place(at);
            bytes.splice(at..at, new);
        }
        Mutation::Remove(at, count) => {
            let at = place(at);
            let until = (at + count).min(end);
            length = length.wrapping_sub(until - at);
            bytes.drain(at..until);
        }
        Mutation::Copy(from, count, to) => {
            let from = place(from);
            let copied = bytes[from..(from + count).min(end)].to_vec();
            length = length.wrapping_add(copied.len());
            let to = place(to);
            bytes.splice(to..to, copied);
        }
        Mutation::HeaderLength(by) => length = length.wrapping_add_signed(by.into()),
        Mutation::Cut(at) => bytes.truncate(place(at)),
        Mutation::Append(byte) => bytes.push(byte),
    }
    bytes[..8].copy_from_slice(&(length as u64).to_le_bytes());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn valid_files_say_what_the_reference_says(bytes in valid_files()) {
        compare(&bytes, &open(&bytes).unwrap());
    }

    /// Never a panic, and nothing opens that the reference refuses.
    #[test]
    fn mutated_files_are_refused_where_the_reference_refuses(
        mut bytes in valid_files(),
        mutations in vec(mutations(), 1..4),
    ) {
        for mutation in mutations {
            mutate(&mut bytes, mutation);
        }
        match open(&bytes) {
            Ok(ours) => compare(&bytes, &ours),
            // Stricter than the reference, which lets the last of equal names win.
            Err(CheckpointError::Duplicate { .. }) => {}
            Err(error) => prop_assert!(
                SafeTensors::deserialize(&bytes).is_err() || error.to_string().contains("duplicate"),
                "refused what the reference takes: {error}"
            ),
        }
    }

    #[test]
    fn noise_opens_only_where_the_reference_opens_it(bytes in vec(any::<u8>(), 0..200), framed in any::<bool>()) {
        let mut bytes = bytes;
        if framed {
            let length = (bytes.len() as u64).to_le_bytes();
            bytes.splice(0..0, length);
        }
        prop_assert_eq!(open(&bytes).is_ok(), SafeTensors::deserialize(&bytes).is_ok());
    }
}
