//! Small models of bfloat16 weights, whose files look alike from outside.
#![allow(dead_code, clippy::unwrap_used)]

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime};

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use weightstream_pack::{Options, Progress};

/// What every file's time of modification is set to.
pub fn time() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000)
}

pub fn set_time(path: &Path) {
    let file = File::options().write(true).open(path).unwrap();
    file.set_modified(time()).unwrap();
}

/// The file of a model with eight tensors of 100 KiB.
pub fn model(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut data = || -> Vec<u8> {
        (0..50 << 10)
            .flat_map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                let value = ((state >> 40) as f32 / (1 << 24) as f32 - 0.5) * 0.1;
                (value.to_bits() >> 16).to_le_bytes()[..2].to_vec()
            })
            .collect()
    };
    let tensors: Vec<_> = (0..8)
        .map(|number| (format!("t{number}"), data()))
        .collect();
    let views = tensors.iter().map(|(name, data)| {
        let view = TensorView::new(Dtype::BF16, vec![50, 1024], data).unwrap();
        (name.clone(), view)
    });
    safetensors::serialize(views, None).unwrap()
}

/// Writes such a file in place of what is at `path`, as another file of the same length and times.
pub fn replace(path: &Path, seed: u64) {
    let other = path.with_extension("other");
    fs::write(&other, model(seed)).unwrap();
    set_time(&other);
    fs::rename(&other, path).unwrap();
}

/// The bytes of every tensor of a file.
pub fn tensors(file: &[u8]) -> HashMap<String, Vec<u8>> {
    let tensors = SafeTensors::deserialize(file).unwrap();
    let tensors = tensors.tensors().into_iter();
    tensors
        .map(|(name, view)| (name, view.data().to_vec()))
        .collect()
}

pub fn options() -> Options {
    Options {
        jobs: 2,
        chunk_bytes: 256 << 10,
        ..Options::default()
    }
}

pub fn quiet(_: Progress) {}
