//! Makes safetensors of a packed checkpoint again.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use weightstream::{Part, Reader, Tensor};
use weightstream_checkpoint::packed::{FRAME_ALIGNMENT, Packed};

use crate::companions;
use crate::lock::FolderLock;
use crate::pipeline::{Steps, run};
use crate::progress::{OnProgress, Phase, Progress};
use crate::{PackError, Report};

/// How to unpack.
#[derive(Debug, Clone)]
pub struct UnpackOptions {
    /// Threads.
    pub jobs: usize,
    /// A file ends before it is longer than this.
    pub file_bytes: u64,
}

impl Default for UnpackOptions {
    fn default() -> Self {
        Self {
            jobs: std::thread::available_parallelism().map_or(1, usize::from),
            file_bytes: 5_000_000_000,
        }
    }
}

/// Bytes that are decoded at a time.
const STEP: u64 = 2 << 20;

/// Writes the tensors of the packed checkpoint at `source` to safetensors files in the folder `destination`, with
/// the model's other files.
///
/// # Errors
/// Damage, which is not written anywhere; a destination that holds safetensors files, or that another process writes to.
pub fn unpack(
    source: &Path,
    destination: &Path,
    options: &UnpackOptions,
    on_progress: OnProgress<'_>,
) -> Result<Report, PackError> {
    let packed = Packed::open(source)?;
    let folder = packed.path().parent().unwrap_or(Path::new(".")).to_owned();
    std::fs::create_dir_all(destination).map_err(PackError::io(destination, "make the folder"))?;
    let _lock = FolderLock::take(destination)?;
    refuse_weights(destination)?;

    let shards = shards(&packed, options.file_bytes);
    let count = shards.len();
    let contents = [packed.content().map_err(|error| PackError::Decode {
        tensor: String::new(),
        reason: error.to_string(),
    })?];
    let total = packed.tensors().iter().map(|tensor| tensor.length).sum();
    let mut done = 0;
    let mut finished: Vec<(PathBuf, PathBuf)> = Vec::new();
    let mut index = Map::new();
    for (number, tensors) in shards.iter().enumerate() {
        let name = match count {
            1 => "model.safetensors".to_owned(),
            _ => format!("model-{:05}-of-{count:05}.safetensors", number + 1),
        };
        let path = destination.join(&name);
        let partial = destination.join(format!("{name}.partial"));
        let file = File::create(&partial).map_err(PackError::io(&partial, "write"))?;
        let mut file = BufWriter::with_capacity(1 << 20, file);
        let failed = PackError::io(&partial, "write");
        file.write_all(&header(&packed, tensors)).map_err(failed)?;
        let pieces = pieces(tensors);
        let mut reader = Reader::new(&contents);
        let steps = Steps {
            read: |piece: u64, raw: &mut Vec<u8>| {
                let (offset, length) = pieces[piece as usize];
                raw.resize(length as usize, 0);
                let part = Part {
                    file: 0,
                    offset,
                    length,
                };
                Ok(reader.read(&[part], raw)?)
            },
            code: |_, raw: &[u8]| Ok(raw.to_vec()),
            write: |_, raw: Vec<u8>| {
                file.write_all(&raw)
                    .map_err(PackError::io(&partial, "write"))?;
                done += raw.len() as u64;
                on_progress(Progress {
                    phase: Phase::Unpacking,
                    done,
                    total,
                    stored: done,
                });
                Ok(())
            },
        };
        run(0..pieces.len() as u64, options.jobs, steps)?;
        let file = file
            .into_inner()
            .map_err(|error| error.into_error())
            .map_err(PackError::io(&partial, "write"))?;
        file.sync_all().map_err(PackError::io(&partial, "flush"))?;
        for tensor in tensors {
            index.insert(tensor.name.clone(), Value::String(name.clone()));
        }
        finished.push((partial, path));
    }
    companions::copy(&folder, destination, None, false)?;
    for (partial, path) in &finished {
        std::fs::rename(partial, path).map_err(PackError::io(path, "write"))?;
    }
    if count > 1 {
        let path = destination.join("model.safetensors.index.json");
        let index = json!({"metadata": {"total_size": total}, "weight_map": index});
        companions::write(&path, format!("{index:#}\n").as_bytes(), true)?;
    }
    Ok(Report {
        tensors: packed.tensors().len(),
        weights: packed.weights(),
        stored: total,
        resumed: 0,
        complete: false,
        digest: packed.digest().to_owned(),
    })
}

fn refuse_weights(folder: &Path) -> Result<(), PackError> {
    let entries = folder
        .read_dir()
        .map_err(PackError::io(folder, "list the folder"))?;
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json") {
            return Err(PackError::NotEmpty {
                folder: folder.to_owned(),
                name,
            });
        }
    }
    Ok(())
}

/// The tensors of each file, by address.
fn shards(packed: &Packed, file_bytes: u64) -> Vec<Vec<&Tensor>> {
    let mut tensors: Vec<&Tensor> = packed.tensors().iter().collect();
    tensors.sort_by_key(|tensor| (tensor.offset, tensor.length));
    let mut shards: Vec<Vec<&Tensor>> = vec![Vec::new()];
    let mut length = 0;
    for tensor in tensors {
        if length > 0 && length + tensor.length > file_bytes {
            shards.push(Vec::new());
            length = 0;
        }
        length += tensor.length;
        if let Some(shard) = shards.last_mut() {
            shard.push(tensor);
        }
    }
    shards
}

/// Length and JSON. Spaces at its end bring the data to where the first tensor is aligned as it is in the weights.
fn header(packed: &Packed, tensors: &[&Tensor]) -> Vec<u8> {
    let mut rows = Map::new();
    if !packed.metadata().is_empty() {
        rows.insert("__metadata__".into(), json!(packed.metadata()));
    }
    let mut end = 0;
    for tensor in tensors {
        let begin = end;
        end += tensor.length;
        let row = json!({
            "dtype": tensor.dtype.name(), "shape": tensor.shape, "data_offsets": [begin, end],
        });
        rows.insert(tensor.name.clone(), row);
    }
    let mut json = Value::Object(rows).to_string();
    let first = tensors.iter().find(|tensor| tensor.length > 0);
    let wanted = first.map_or(0, |tensor| tensor.offset % FRAME_ALIGNMENT);
    while (json.len() as u64 + 8) % FRAME_ALIGNMENT != wanted {
        json.push(' ');
    }
    let mut header = (json.len() as u64).to_le_bytes().to_vec();
    header.extend(json.into_bytes());
    header
}

/// (address, length) of what is read at a time, in the order of the file.
fn pieces(tensors: &[&Tensor]) -> Vec<(u64, u64)> {
    tensors
        .iter()
        .flat_map(|tensor| {
            let end = tensor.offset + tensor.length;
            (tensor.offset..end)
                .step_by(STEP as usize)
                .map(move |start| (start, STEP.min(end - start)))
        })
        .collect()
}
