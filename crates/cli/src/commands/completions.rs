use std::io::Write;

use clap::Args;
use clap_complete::Shell;

use crate::CliError;
use crate::context::{Context, Outcome};

/// Print the completions for a shell. For bash: weightstream completions bash >
/// ~/.local/share/bash-completion/completions/weightstream
#[derive(Debug, Args)]
pub struct Arguments {
    /// The shell
    shell: Shell,
}

pub fn run(arguments: Arguments, context: &mut Context) -> Result<Outcome, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut crate::definition(), "weightstream", &mut script);
    context.write_all(&script)?;
    Ok(Outcome::Good)
}
