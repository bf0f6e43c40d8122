use std::path::PathBuf;

use clap::Args;

use crate::CliError;
use crate::context::{Context, Outcome};

/// Print the man page, or write those of all commands to a folder: weightstream man ~/.local/share/man/man1
#[derive(Debug, Args)]
pub struct Arguments {
    /// A folder for the pages of all commands
    folder: Option<PathBuf>,
}

pub fn run(arguments: Arguments, context: &mut Context) -> Result<Outcome, CliError> {
    match arguments.folder {
        None => clap_mangen::Man::new(crate::definition()).render(context)?,
        Some(folder) => {
            let failed = |source| CliError::File {
                path: folder.clone(),
                action: "write the man pages",
                source,
            };
            std::fs::create_dir_all(&folder).map_err(failed)?;
            clap_mangen::generate_to(crate::definition(), &folder).map_err(failed)?;
        }
    }
    Ok(Outcome::Good)
}
