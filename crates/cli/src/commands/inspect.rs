use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};
use weightstream::{Checkpoint, Form, Tensor};
use weightstream_checkpoint::packed::{Code, Packed};

use crate::CliError;
use crate::context::{self, Context, Outcome};
use crate::size;
use crate::table::Table;

/// Show the tensors of a checkpoint and how they are stored. No weight is read.
#[derive(Debug, Args)]
pub struct Arguments {
    /// A checkpoint: a model's folder, a weights file, or an index of shards
    path: PathBuf,
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
    /// Leave the list of tensors out
    #[arg(long, conflicts_with = "json")]
    summary: bool,
}

pub fn run(arguments: Arguments, context: &mut Context) -> Result<Outcome, CliError> {
    let checkpoint = context::open(&arguments.path)?;
    let ties = ties(&checkpoint.tensors);
    if arguments.json {
        let whole = as_json(&arguments.path, &checkpoint, &ties);
        writeln!(context, "{whole:#}")?;
        return Ok(Outcome::Good);
    }
    summary(&arguments.path, &checkpoint, context)?;
    writeln!(context)?;
    dtypes(&checkpoint, context)?;
    for names in &ties {
        writeln!(context, "\ntied: {}", names.join(" = "))?;
    }
    if !arguments.summary {
        writeln!(context)?;
        tensors(&checkpoint, context)?;
    }
    Ok(Outcome::Good)
}

fn weights(checkpoint: &Checkpoint) -> u64 {
    let mut ranges: Vec<_> = checkpoint
        .tensors
        .iter()
        .map(|tensor| (tensor.file, tensor.offset, tensor.length))
        .collect();
    // Tied tensors count once.
    ranges.dedup();
    ranges.iter().map(|&(.., length)| length).sum()
}

/// What the format is called.
fn format_of(checkpoint: &Checkpoint) -> String {
    if checkpoint.packed.is_some() {
        return "packed".into();
    }
    let first = checkpoint.contents.first().map(|content| content.path());
    let extension = first.as_deref().and_then(Path::extension);
    extension.map_or("plain".into(), |extension| extension.to_string_lossy().into_owned())
}

fn summary(path: &Path, checkpoint: &Checkpoint, context: &mut Context) -> Result<(), CliError> {
    let bold = anstyle::Style::new().bold();
    let files: usize = checkpoint
        .contents
        .iter()
        .map(|content| content.files().len())
        .sum();
    writeln!(
        context,
        "{bold}{}{bold:#}: {}, {} tensors, {} in {files} file{}",
        path.display(),
        format_of(checkpoint),
        checkpoint.tensors.len(),
        size::format(weights(checkpoint)),
        if files == 1 { "" } else { "s" },
    )?;
    if let Some(packed) = &checkpoint.packed {
        writeln!(
            context,
            "stored: {} (ratio {:.3}), {} chunks of {}, of which coded: {:.0} %",
            size::format(packed.stored()),
            packed.stored() as f64 / packed.weights().max(1) as f64,
            packed.chunks(),
            size::format(packed.chunk_bytes()),
            100.0 * coded(packed) as f64 / packed.weights().max(1) as f64,
        )?;
        writeln!(context, "identity: {}", packed.digest())?;
    }
    for (key, value) in &checkpoint.metadata {
        writeln!(context, "metadata: {key} = {}", shortened(value))?;
    }
    Ok(())
}

/// Bytes of weights that are coded.
fn coded(packed: &Packed) -> u64 {
    let frames = packed.manifest().frames.iter();
    frames
        .filter(|frame| frame.code != Code::Raw)
        .map(|frame| u64::from(frame.length))
        .sum()
}

fn shortened(value: &str) -> String {
    const MOST: usize = 100;
    match value.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}...", value.get(..end).unwrap_or_default()),
        None => value.to_owned(),
    }
}

fn dtypes(checkpoint: &Checkpoint, context: &mut Context) -> Result<(), CliError> {
    let mut counts: BTreeMap<&str, (u64, u64, u64)> = BTreeMap::new();
    for tensor in &checkpoint.tensors {
        let count = counts.entry(tensor.dtype.name()).or_default();
        *count = (count.0 + 1, count.1 + tensor.length, count.2 + stored(checkpoint, tensor));
    }
    let mut table = Table::new(&["dtype", ">tensors", ">bytes", ">stored", ">ratio"]);
    for (dtype, (tensors, bytes, stored)) in counts {
        table.row([
            dtype.to_owned(),
            tensors.to_string(),
            size::format(bytes),
            size::format(stored),
            ratio(stored, bytes),
        ]);
    }
    Ok(table.write(context)?)
}

fn tensors(checkpoint: &Checkpoint, context: &mut Context) -> Result<(), CliError> {
    let mut table = Table::new(&["tensor", "dtype", "shape", ">bytes", ">ratio", ">offset"]);
    for tensor in &checkpoint.tensors {
        table.row([
            tensor.name.clone(),
            tensor.dtype.name().to_owned(),
            format!("{:?}", tensor.shape),
            size::format(tensor.length),
            ratio(stored(checkpoint, tensor), tensor.length),
            tensor.offset.to_string(),
        ]);
    }
    Ok(table.write(context)?)
}

fn ratio(stored: u64, bytes: u64) -> String {
    if bytes == 0 {
        return "-".into();
    }
    format!("{:.3}", stored as f64 / bytes as f64)
}

/// Bytes that a tensor takes on disk; of extents that it shares, its share.
fn stored(checkpoint: &Checkpoint, tensor: &Tensor) -> u64 {
    let Some(content) = checkpoint.contents.get(tensor.file as usize) else {
        return tensor.length;
    };
    let (start, end) = (tensor.offset, tensor.offset + tensor.length);
    let shares = content.extents(start..end).map(|extent| {
        if extent.form == Form::Plain {
            return extent.end().min(end) - extent.start.max(start);
        }
        let shared = extent.end().min(end) - extent.start.max(start);
        (extent.stored as f64 * shared as f64 / extent.length.max(1) as f64) as u64
    });
    shares.sum()
}

/// Names of tensors that share their bytes.
fn ties(tensors: &[Tensor]) -> Vec<Vec<String>> {
    let mut groups: BTreeMap<(u32, u64, u64), Vec<String>> = BTreeMap::new();
    for tensor in tensors.iter().filter(|tensor| tensor.length > 0) {
        let place = (tensor.file, tensor.offset, tensor.length);
        groups.entry(place).or_default().push(tensor.name.clone());
    }
    groups.into_values().filter(|names| names.len() > 1).collect()
}

fn as_json(path: &Path, checkpoint: &Checkpoint, ties: &[Vec<String>]) -> Value {
    let files: Vec<Value> = checkpoint
        .contents
        .iter()
        .flat_map(|content| content.files())
        .map(|file| json!({"path": file.path, "bytes": file.length}))
        .collect();
    let tensors: Vec<Value> = checkpoint
        .tensors
        .iter()
        .map(|tensor| {
            json!({
                "name": tensor.name, "dtype": tensor.dtype.name(), "shape": tensor.shape, "file": tensor.file,
                "offset": tensor.offset, "bytes": tensor.length, "stored": stored(checkpoint, tensor),
            })
        })
        .collect();
    let packed = checkpoint.packed.as_ref().map(|packed| {
        json!({
            "identity": packed.digest(), "chunk_bytes": packed.chunk_bytes(), "chunks": packed.chunks(),
            "frames": packed.manifest().frames.len(), "weights": packed.weights(), "stored": packed.stored(),
            "coded": coded(packed),
        })
    });
    json!({
        "path": path, "format": format_of(checkpoint), "bytes": weights(checkpoint), "files": files,
        "metadata": checkpoint.metadata, "packed": packed, "ties": ties, "tensors": tensors,
    })
}
