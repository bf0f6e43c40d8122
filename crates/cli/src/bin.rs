//! The command as a program of its own.

use std::process::ExitCode;

fn main() -> ExitCode {
    weightstream_cli::run(std::env::args_os(), None).into()
}
