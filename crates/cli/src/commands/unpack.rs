use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use weightstream_pack::{UnpackOptions, unpack};

use crate::CliError;
use crate::bar::Bar;
use crate::context::{Context, Outcome};
use crate::size;

/// Make safetensors of a packed checkpoint again: the same tensors, byte for byte, and the same metadata.
#[derive(Debug, Args)]
pub struct Arguments {
    /// A packed checkpoint
    source: PathBuf,
    /// The folder to write
    destination: PathBuf,
    /// Length of one file at most; several get an index
    #[arg(long, value_name = "SIZE", value_parser = size::parse, default_value = "5GB")]
    file_size: u64,
    /// Threads [default: one per processor]
    #[arg(long)]
    jobs: Option<usize>,
}

pub fn run(arguments: Arguments, context: &mut Context) -> Result<Outcome, CliError> {
    let options = UnpackOptions {
        jobs: arguments.jobs.unwrap_or(UnpackOptions::default().jobs),
        file_bytes: arguments.file_size,
    };
    let bar = Bar::new();
    let report = unpack(&arguments.source, &arguments.destination, &options, &|progress| bar.show(progress))?;
    bar.finish();
    let (folder, bytes) = (arguments.destination.display(), size::format(report.stored));
    writeln!(context, "{folder}: {} tensors, {bytes}", report.tensors)?;
    Ok(Outcome::Good)
}
