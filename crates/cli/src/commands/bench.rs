use std::hint::black_box;
use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use weightstream::{Checkpoint, Part, Reader};
use weightstream_codec::{Element, decode, encode};
use weightstream_source::sweep::{Range, sweep};

use crate::CliError;
use crate::context::{self, Context, Outcome};
use crate::size;
use crate::table::Table;

/// Measure what this disk delivers and how fast it is decoded.
///
/// Reads a part of the checkpoint past the page cache, as a pass would, and codes, decodes, checks and copies a
/// sample of its weights on one processor. Every rate is taken three times; shown are the least and the most.
#[derive(Debug, Args)]
pub struct Arguments {
    /// A checkpoint, on the disk that is measured
    path: PathBuf,
    /// How much is read each time
    #[arg(long, value_name = "SIZE", value_parser = size::parse, default_value = "1GiB")]
    read: u64,
}

const ROUNDS: usize = 3;

pub fn run(arguments: Arguments, context: &mut Context) -> Result<Outcome, CliError> {
    let checkpoint = context::open(&arguments.path)?;
    let files: Vec<PathBuf> = checkpoint
        .contents
        .iter()
        .flat_map(|content| content.files())
        .map(|file| file.path.clone())
        .collect();
    let mut table = Table::new(&["what", ">least", ">most", "how"]);
    let mut row = |what: &str, mut rates: Vec<f64>, how: String| {
        rates.sort_by(f64::total_cmp);
        let (least, most) = (rates.first().copied(), rates.last().copied());
        table.row([
            what.to_owned(),
            size::format_rate(least.unwrap_or(0.0)),
            size::format_rate(most.unwrap_or(0.0)),
            how,
        ]);
        rates.get(rates.len() / 2).copied().unwrap_or(0.0)
    };

    let lengths = checkpoint
        .contents
        .iter()
        .flat_map(|content| content.files())
        .map(|file| file.length);
    let lengths: Vec<u64> = lengths.collect();
    let mut disk = 0.0;
    for (bytes, depth) in [(256 << 10, 6), (1 << 20, 6), (2 << 20, 6)] {
        let ranges = ranges(&lengths, arguments.read, bytes);
        let mut how = "";
        let mut rates = Vec::new();
        for _ in 0..ROUNDS {
            let swept = sweep(&files, &ranges, depth)?;
            how = swept.source;
            rates.push(swept.rate());
        }
        let reads = format!("{how}, {depth} in flight");
        disk = row(&format!("read {} at a time", size::format(bytes)), rates, reads);
    }

    let sample = Sample::of(&checkpoint)?;
    if sample.raw.is_empty() {
        writeln!(context, "the checkpoint has no weights")?;
        return Ok(Outcome::Good);
    }
    let length = sample.raw.len();
    let mut copy = vec![0; length];
    let copied = row("copy", timed(length, || copy.copy_from_slice(black_box(&sample.raw))), "memcpy".into());
    let kernel = weightstream_codec::kernel();
    let mut coded = Vec::new();
    let encoded = timed(length, || {
        coded.clear();
        encode(sample.element, black_box(&sample.raw), &mut coded);
    });
    row("encode", encoded, format!("{:?}, {kernel}", sample.element));
    let decoded = timed(length, || {
        let _ = black_box(decode(black_box(&coded), &mut copy));
    });
    let decoded = row("decode", decoded, format!("{:?}, {kernel}", sample.element));
    let checked = timed(coded.len(), || {
        black_box(weightstream_checkpoint::packed::checksum(black_box(&coded)));
    });
    row("check", checked, "XXH3-64 of stored bytes".into());
    table.write(context)?;

    let ratio = coded.len() as f64 / length as f64;
    let stored: u64 = lengths.iter().sum();
    writeln!(context)?;
    writeln!(
        context,
        "Reading all {} of this checkpoint once takes {}.",
        size::format(stored),
        size::format_time(stored as f64 / disk.max(1.0)),
    )?;
    writeln!(
        context,
        "Coded, these weights take {:.1} % of their size; decoding runs at {:.2} times the speed of copying.",
        ratio * 100.0,
        decoded / copied.max(1.0),
    )?;
    if checkpoint.packed.is_none() && ratio < 0.99 {
        writeln!(
            context,
            "Packed, this disk would deliver weights at {} instead of {}: weightstream pack {} FOLDER",
            size::format_rate((disk / ratio).min(decoded)),
            size::format_rate(disk),
            arguments.path.display(),
        )?;
    }
    Ok(Outcome::Good)
}

/// Ranges of `bytes` from the start of each file on, `most` bytes in all.
fn ranges(lengths: &[u64], most: u64, bytes: u64) -> Vec<Range> {
    let mut left = most;
    let mut ranges = Vec::new();
    for (file, &length) in lengths.iter().enumerate() {
        for offset in (0..length).step_by(bytes as usize) {
            let length = bytes.min(length - offset);
            if left < length {
                return ranges;
            }
            left -= length;
            ranges.push(Range {
                file: file as u32,
                offset,
                length: length as usize,
            });
        }
    }
    ranges
}

/// Rates, in bytes of `length` a second.
fn timed(length: usize, mut work: impl FnMut()) -> Vec<f64> {
    work();
    let mut rate = || {
        let begin = Instant::now();
        work();
        length as f64 / begin.elapsed().as_secs_f64().max(1e-9)
    };
    (0..ROUNDS).map(|_| rate()).collect()
}

/// Weights of one kind, more than processors' caches hold.
struct Sample {
    element: Element,
    raw: Vec<u8>,
}

impl Sample {
    const LENGTH: u64 = 256 << 20;

    fn of(checkpoint: &Checkpoint) -> Result<Self, CliError> {
        let bytes_of = |element| {
            let tensors = checkpoint.tensors.iter();
            let alike = tensors
                .filter(move |tensor| weightstream_checkpoint::packed::element(tensor.dtype) == element);
            alike.map(|tensor| tensor.length).sum::<u64>()
        };
        let element = [Element::Bf16, Element::F16, Element::F32, Element::Bytes]
            .into_iter()
            .max_by_key(|&element| bytes_of(element))
            .unwrap_or(Element::Bytes);
        let mut raw = Vec::new();
        let mut reader = Reader::new(&checkpoint.contents);
        for tensor in &checkpoint.tensors {
            let length = tensor.length.min(Self::LENGTH - raw.len() as u64);
            if weightstream_checkpoint::packed::element(tensor.dtype) != element || length == 0 {
                continue;
            }
            let start = raw.len();
            raw.resize(start + length as usize, 0);
            let part = Part {
                file: tensor.file,
                offset: tensor.offset,
                length,
            };
            reader.read(&[part], &mut raw[start..])?;
        }
        Ok(Self { element, raw })
    }
}
