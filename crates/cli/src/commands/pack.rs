use std::io::Write;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use weightstream::Dtype;
use weightstream_graph::Packing;
use weightstream_pack::{Coding, Options, Order, pack};

use crate::CliError;
use crate::bar::Bar;
use crate::context::{Context, Outcome};
use crate::size;

/// Write a packed checkpoint: fewer bytes to read, each of them verified.
///
/// The destination is a folder that weightstream.load takes like the original one: the model's configuration and
/// tokenizer files are copied along. An exported program (.pt2) is packed in the order in which it uses its weights,
/// and the folder runs as the program does. An interrupted run leaves nothing that opens; the same command goes on where it
/// stopped, if the source's files are still the same ones. What was written is read back and checked before it counts as
/// complete; of a complete checkpoint the same command does that again, and writes what is damaged anew.
#[derive(Debug, Args)]
pub struct Arguments {
    /// A checkpoint: a model's folder, a weights file, an index of shards, or an exported program
    source: PathBuf,
    /// The folder to write
    destination: PathBuf,
    /// Whether weights are coded: auto where that makes them smaller, without loss
    #[arg(long, value_enum, default_value = "auto")]
    code: CodeArgument,
    /// Convert floating-point tensors, as PyTorch's .to() does; without it no bit changes
    #[arg(long, value_enum)]
    dtype: Option<DtypeArgument>,
    /// Threads that code [default: one per processor]
    #[arg(long)]
    jobs: Option<usize>,
    /// The order in which the model uses its tensors: a JSON file as weightstream.order writes it
    #[arg(long, value_name = "FILE")]
    order: Option<PathBuf>,
    /// Weights in one chunk, which is what is read at once: a power of two from 256KiB to 64MiB
    #[arg(long, value_name = "SIZE", value_parser = size::parse, default_value = "2MiB")]
    chunk: u64,
    /// Length of one file at most
    #[arg(long, value_name = "SIZE", value_parser = size::parse, default_value = "32GiB")]
    file_size: u64,
    /// Write all of it, in place of the packed checkpoint and the model's other files that are in the folder
    #[arg(long)]
    overwrite: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum CodeArgument {
    None,
    Auto,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum DtypeArgument {
    Bf16,
    F16,
    F32,
}

pub fn run(arguments: Arguments, context: &mut Context) -> Result<Outcome, CliError> {
    let defaults = Options::default();
    let program = Packing::of(&arguments.source).map_err(|error| CliError::Program(error.to_string()))?;
    if program.is_some() && arguments.dtype.is_some() {
        return Err(CliError::Program(format!(
            "{}: expected no --dtype for a program, which computes in the dtypes it was exported with",
            arguments.source.display()
        )));
    }
    let (used, files) = program.map_or_else(Default::default, |program| (Some(Order(program.order)), program.files));
    let options = Options {
        code: match arguments.code {
            CodeArgument::None => Coding::None,
            CodeArgument::Auto => Coding::Auto,
        },
        dtype: arguments.dtype.map(|dtype| match dtype {
            DtypeArgument::Bf16 => Dtype::BF16,
            DtypeArgument::F16 => Dtype::F16,
            DtypeArgument::F32 => Dtype::F32,
        }),
        jobs: arguments.jobs.unwrap_or(defaults.jobs),
        order: match &arguments.order {
            Some(file) => Some(Order::read(file)?),
            None => used,
        },
        files,
        chunk_bytes: arguments.chunk,
        file_bytes: arguments.file_size,
        overwrite: arguments.overwrite,
    };
    let bar = Bar::new();
    let report = pack(&arguments.source, &arguments.destination, &options, &|progress| bar.show(progress))?;
    bar.finish();
    let ratio = report.stored as f64 / report.weights.max(1) as f64;
    writeln!(
        context,
        "{}: {} tensors, {} stored in {} (ratio {ratio:.3}), verified",
        arguments.destination.display(),
        report.tensors,
        size::format(report.weights),
        size::format(report.stored),
    )?;
    if report.complete {
        writeln!(context, "it was complete already: nothing was written")?;
    } else if report.resumed > 0 {
        let resumed = size::format(report.resumed);
        writeln!(context, "{resumed} of it had been packed by an earlier run")?;
    }
    Ok(Outcome::Good)
}
