//! How long a checkpoint takes to open: the one at the path given, or a sparse one of 100 GB,
//! 100,000 tensors and 20 shards.
//!
//! `cargo run --release -p weightstream-checkpoint --example open [path]`

use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use weightstream_checkpoint::{Checkpoint, Content, Layout, Parameter, Part};

const SHARDS: u64 = 20;
const TENSORS: u64 = 5000;
const TENSOR_BYTES: u64 = 1 << 20;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let path = match std::env::args_os().nth(1) {
        Some(path) => PathBuf::from(path),
        None => {
            write_sparse(folder.path())?;
            folder.path().to_owned()
        }
    };
    let start = Instant::now();
    let checkpoint = Checkpoint::open(&path)?;
    let opened = start.elapsed();
    let lengths = checkpoint
        .contents
        .iter()
        .map(Content::length)
        .collect::<Vec<_>>();
    let parameters: Vec<Parameter> = checkpoint
        .tensors
        .iter()
        .map(|tensor| Parameter {
            name: tensor.name.clone(),
            parts: vec![Part {
                file: tensor.file,
                offset: tensor.offset,
                length: tensor.length,
            }],
            itemsize: tensor.dtype.bits().div_ceil(8),
            unit: 0,
        })
        .collect();
    let start = Instant::now();
    let layout = Layout::new(&lengths, parameters, 4 << 20)?;
    let laid_out = start.elapsed();
    println!(
        "{} tensors in {} files of {:.1} GB: opened in {opened:.1?}, laid out in {laid_out:.1?}",
        checkpoint.tensors.len(),
        checkpoint.contents.len(),
        layout.weight_bytes() as f64 / 1e9,
    );
    Ok(())
}

fn write_sparse(folder: &Path) -> Result<(), Box<dyn Error>> {
    let mut weights = Vec::new();
    for shard in 1..=SHARDS {
        let name = format!("model-{shard:05}-of-{SHARDS:05}.safetensors");
        let mut rows = Vec::new();
        for number in 0..TENSORS {
            let tensor = format!("model.layers.{shard}.mlp.experts.{number}.up_proj.weight");
            let (begin, end) = (number * TENSOR_BYTES, (number + 1) * TENSOR_BYTES);
            rows.push(format!(
                r#""{tensor}":{{"dtype":"BF16","shape":[512,1024],"data_offsets":[{begin},{end}]}}"#
            ));
            weights.push(format!("{tensor:?}:{name:?}"));
        }
        let mut header = format!("{{{}}}", rows.join(","));
        header.extend(std::iter::repeat_n(' ', header.len().wrapping_neg() % 8));
        let mut file = File::create(folder.join(&name))?;
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(header.as_bytes())?;
        file.set_len(8 + header.len() as u64 + TENSORS * TENSOR_BYTES)?;
    }
    let index = format!("{{\"weight_map\":{{{}}}}}", weights.join(","));
    std::fs::write(folder.join("model.safetensors.index.json"), index)?;
    Ok(())
}
