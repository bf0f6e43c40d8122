use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use weightstream::{Checkpoint, Part};
use weightstream_pack::verify;

use crate::CliError;
use crate::bar::Bar;
use crate::context::{self, Context, Outcome};
use crate::size;

/// Read all of a checkpoint and check it.
///
/// Of a packed checkpoint every byte is checked against its checksum, and what is damaged is named: tensor, chunk,
/// file and offset. Other formats have no checksums: their headers are checked, and that all bytes can be read. The
/// exit code is 0 if all is well and 1 if not.
#[derive(Debug, Args)]
pub struct Arguments {
    /// A checkpoint
    path: PathBuf,
    /// Threads [default: one per processor]
    #[arg(long)]
    jobs: Option<usize>,
}

pub fn run(arguments: Arguments, context: &mut Context) -> Result<Outcome, CliError> {
    let path = arguments.path.display();
    let checkpoint = context::open(&arguments.path)?;
    let Some(packed) = &checkpoint.packed else {
        let read = read_all(&checkpoint)?;
        writeln!(
            context,
            "{path}: {} tensors, {} can be read; the format has no checksums, so damage would not show",
            checkpoint.tensors.len(),
            size::format(read),
        )?;
        return Ok(Outcome::Good);
    };
    let bar = Bar::new();
    let jobs = arguments
        .jobs
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let (count, damages) = verify(packed, jobs, &|progress| bar.show(progress))?;
    bar.finish();
    if count == 0 {
        writeln!(
            context,
            "{path}: {} tensors, {} chunks, {}: every byte is as it was written",
            checkpoint.tensors.len(),
            packed.chunks(),
            size::format(packed.stored()),
        )?;
        return Ok(Outcome::Good);
    }
    let red = anstyle::AnsiColor::Red.on_default();
    for damage in &damages {
        writeln!(context, "{red}damaged:{red:#} {damage}")?;
    }
    let pieces = match count {
        1 => "1 piece is damaged".to_owned(),
        count => format!("{count} pieces are damaged"),
    };
    writeln!(context, "{path}: {pieces}; pack it again from the original, or copy it again")?;
    Ok(Outcome::Bad)
}

fn read_all(checkpoint: &Checkpoint) -> Result<u64, CliError> {
    const STEP: u64 = 4 << 20;
    let mut buffer = vec![0; STEP as usize];
    let mut read = 0;
    for tensor in &checkpoint.tensors {
        for start in (0..tensor.length).step_by(STEP as usize) {
            let length = STEP.min(tensor.length - start);
            let part = Part {
                file: tensor.file,
                offset: tensor.offset + start,
                length,
            };
            let room = &mut buffer[..length as usize];
            weightstream::read(&checkpoint.contents, &[part], room)?;
            read += length;
        }
    }
    Ok(read)
}
