use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use weightstream::{Checkpoint, Forecast, Form, Pace, fit, forecast};
use weightstream_source::sweep::{Range, sweep};

use crate::CliError;
use crate::context::{self, Context, Outcome};
use crate::size;
use crate::usage::Usage;

/// Say what a model will read and how long a pass will take with so much memory.
///
/// The disk is measured by a short sweep. Then the engine itself runs in simulated time, over the tensors in the order
/// in which models like this use them. Nothing of the model is loaded.
#[derive(Debug, Args)]
pub struct Arguments {
    /// A checkpoint: a model's folder, a weights file, or an index of shards
    path: PathBuf,
    /// Memory for weights
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    memory: u64,
    /// Seconds that a pass computes when the model is fully loaded
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "0")]
    compute: f64,
    /// What the disk delivers, in place of measuring it: bytes a second, such as 2GB
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    rate: Option<u64>,
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
}

/// Bytes that the sweep reads.
const SWEEP: u64 = 1 << 30;
/// Reads at once, as in a pass.
const IN_FLIGHT: usize = 6;

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..1e6).contains(&seconds) => Ok(seconds),
        _ => Err(format!("expected seconds such as 0.25, got {text:?}")),
    }
}

pub fn run(arguments: Arguments, context: &mut Context) -> Result<Outcome, CliError> {
    let checkpoint = context::open(&arguments.path)?;
    let usage = Usage::guess(&checkpoint, &arguments.path)?;
    let mut pace = Pace {
        read: 1e9,
        decode: decode_rate(&checkpoint),
        compute: arguments.compute,
    };
    // Before the disk is measured: a budget that can't work is told at once.
    let fit = fit(&checkpoint.contents, &usage.parameters, arguments.memory)?;
    let (rate, how) = match arguments.rate {
        Some(rate) => (rate as f64, "as given"),
        None => measure(&checkpoint, fit.chunk_bytes)?,
    };
    pace.read = rate;
    let least = fit.least_memory;
    let forecast = forecast(&checkpoint.contents, usage.parameters.clone(), arguments.memory, pace, |pass| {
        usage.pass(pass)
    })?;
    if arguments.json {
        let whole = json!({
            "memory": arguments.memory, "model_bytes": forecast.model_bytes, "chunk_bytes": forecast.chunk_bytes,
            "kept_bytes": forecast.kept_bytes, "coded_bytes": forecast.coded_bytes, "buffers": forecast.buffers, "least_memory": least,
            "first_pass_bytes": forecast.first_bytes, "pass_bytes": forecast.pass_bytes,
            "least_pass_bytes": forecast.least_bytes, "first_pass_seconds": forecast.first_seconds,
            "pass_seconds": forecast.pass_seconds, "floor_seconds": forecast.floor,
            "disk_bytes_per_second": rate, "compute_seconds": arguments.compute,
        });
        writeln!(context, "{whole:#}")?;
        return Ok(Outcome::Good);
    }
    show(&arguments, &forecast, least, (rate, how), context)?;
    Ok(Outcome::Good)
}

fn show(
    arguments: &Arguments,
    forecast: &Forecast,
    least: u64,
    (rate, how): (f64, &str),
    context: &mut Context,
) -> Result<(), CliError> {
    let bytes = |count: f64| size::format(count as u64);
    let mut row = |name: &str, text: String| writeln!(context, "{name:14} {text}");
    row(
        "model",
        format!(
            "{}, {:.1} times its memory of {}",
            size::format(forecast.model_bytes),
            forecast.model_bytes as f64 / arguments.memory as f64,
            size::format(arguments.memory),
        ),
    )?;
    let buffers = match forecast.buffers {
        0 => String::new(),
        buffers => format!(", {} for decoding", size::format(buffers)),
    };
    let coded = match forecast.coded_bytes {
        0 => String::new(),
        coded => format!(" (as stored, in {})", size::format(coded)),
    };
    row(
        "kept",
        format!(
            "{} stay in memory{coded}{buffers}; the rest streams in chunks of {}",
            size::format(forecast.kept_bytes),
            size::format(forecast.chunk_bytes),
        ),
    )?;
    row("disk", format!("{}, {how}", size::format_rate(rate)))?;
    row(
        "first pass",
        format!("{} read, {}", size::format(forecast.first_bytes), size::format_time(forecast.first_seconds)),
    )?;
    row(
        "each later one",
        format!(
            "{} read ({} must be), {}",
            bytes(forecast.pass_bytes),
            bytes(forecast.least_bytes),
            size::format_time(forecast.pass_seconds),
        ),
    )?;
    let floor = if forecast.floor > arguments.compute { "reading" } else { "computing" };
    row(
        "floor",
        format!("{} ({floor})", size::format_time(forecast.floor)),
    )?;
    row("least memory", size::format(least))?;
    Ok(())
}

/// What the disk delivers of this checkpoint's files, in chunks as they are stored.
fn measure(checkpoint: &Checkpoint, chunk_bytes: u64) -> Result<(f64, &'static str), CliError> {
    let mut files = Vec::new();
    let mut ranges = Vec::new();
    for content in &checkpoint.contents {
        let first = files.len() as u32;
        files.extend(content.files().iter().map(|file| file.path.clone()));
        for start in (0..content.length()).step_by(chunk_bytes as usize) {
            let end = (start + chunk_bytes).min(content.length());
            // One read for all that is stored together.
            let mut read: Option<(u32, u64, u64)> = None;
            for extent in content.extents(start..end) {
                let (from, until) = match extent.form {
                    Form::Plain => {
                        let from = start.max(extent.start) - extent.start;
                        (extent.offset + from, extent.offset + end.min(extent.end()) - extent.start)
                    }
                    _ => (extent.offset, extent.offset + extent.stored),
                };
                read = match read {
                    Some((file, begin, end)) if file == extent.file && end == from => Some((file, begin, until)),
                    _ => Some((extent.file, from, until)),
                };
            }
            if let Some((file, from, until)) = read {
                ranges.push(Range {
                    file: first + file,
                    offset: from,
                    length: (until - from) as usize,
                });
            }
        }
    }
    // From all over the files, as a pass reads.
    let total: u64 = ranges.iter().map(|range| range.length as u64).sum();
    let every = (total / SWEEP).max(1) as usize;
    let ranges: Vec<Range> = ranges.into_iter().step_by(every).collect();
    let swept = sweep(&files, &ranges, IN_FLIGHT)?;
    Ok((swept.rate(), swept.source))
}

/// Bytes of weights a second that one thread decodes, tried with some that look like weights.
fn decode_rate(checkpoint: &Checkpoint) -> f64 {
    const BYTES: usize = 8 << 20;
    if checkpoint.packed.is_none() {
        return f64::INFINITY;
    }
    let raw: Vec<u8> = (0..BYTES as u32 / 2)
        .flat_map(|number| {
            let value = (f64::from(number) * 0.7).sin() as f32 * 0.05;
            let [_, _, low, high] = value.to_le_bytes();
            [low, high]
        })
        .collect();
    let mut coded = Vec::new();
    weightstream_codec::encode(weightstream_codec::Element::Bf16, &raw, &mut coded);
    let mut decoded = vec![0; BYTES];
    let mut best = f64::INFINITY;
    for _ in 0..4 {
        let begin = std::time::Instant::now();
        let proven = weightstream_checkpoint::packed::checksum(std::hint::black_box(&coded));
        let outcome = weightstream_codec::decode(std::hint::black_box(&coded), &mut decoded);
        std::hint::black_box((proven, outcome.is_ok()));
        best = best.min(begin.elapsed().as_secs_f64());
    }
    BYTES as f64 / best.max(1e-9)
}
