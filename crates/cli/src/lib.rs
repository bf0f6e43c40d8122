//! The command `weightstream`.
//!
//! [`run`] is all there is: the program calls it, and so does the console script of the Python package. Each
//! subcommand is a file in `commands`, and `commands/mod.rs` lists them.

mod bar;
mod commands;
mod context;
mod error;
mod heap;
mod npy;
mod size;
mod table;
mod usage;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;

use clap::{CommandFactory, Parser};

use commands::Command;
use context::Context;
pub use error::CliError;
use weightstream::caught;

/// Models larger than memory: pack, inspect, verify and plan.
#[derive(Debug, Parser)]
#[command(name = "weightstream", version, about, max_term_width = 100)]
#[command(after_help = "Documentation of each command: weightstream help COMMAND")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// The command line, for completions and the man page.
pub fn definition() -> clap::Command {
    Arguments::command()
}

/// Runs the command with `arguments`, the first of which is its own name; gives the exit code: 0 if all is well, 1 if
/// not, 2 if the arguments make no sense.
///
/// `python` is the interpreter that has called, if one has: it is asked about its torch.
pub fn run(arguments: impl IntoIterator<Item = OsString>, python: Option<PathBuf>) -> u8 {
    heap::give_back_large_blocks();
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return error.exit_code() as u8;
        }
    };
    let ended = caught(|| {
        let mut context = Context::new(python);
        let outcome = arguments.command.run(&mut context)?;
        context.flush()?;
        Ok(outcome)
    });
    match ended.unwrap_or_else(|panic| Err(panic.into())) {
        Ok(outcome) => outcome.code(),
        // Whoever read the output has seen enough.
        Err(CliError::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => 0,
        Err(error) => {
            let red = anstyle::AnsiColor::Red.on_default().bold();
            anstream::eprintln!("{red}error:{red:#} {error}");
            1
        }
    }
}
