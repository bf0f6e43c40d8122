//! The subcommands: one file each, and this table.

use clap::Subcommand;

use crate::CliError;
use crate::context::{Context, Outcome};

macro_rules! commands {
    ($($(#[doc = $about:literal])+ $module:ident $name:ident,)+) => {
        $(mod $module;)+

        /// What can be done.
        #[derive(Debug, Subcommand)]
        pub enum Command {
            $($(#[doc = $about])+ $name($module::Arguments),)+
        }

        impl Command {
            pub fn run(self, context: &mut Context) -> Result<Outcome, CliError> {
                match self {
                    $(Command::$name(arguments) => $module::run(arguments, context),)+
                }
            }
        }
    };
}

commands! {
    /// Write a packed checkpoint: fewer bytes to read, each of them verified
    pack Pack,
    /// Make safetensors of a packed checkpoint again
    unpack Unpack,
    /// Show the tensors of a checkpoint and how they are stored
    inspect Inspect,
    /// Read all of a checkpoint and check it
    verify Verify,
    /// Say what a model will read and how long a pass will take with so much memory
    plan Plan,
    /// Measure what this disk delivers and how fast it is decoded
    bench Bench,
    /// Show what of this machine is used, what is missing, and what that costs
    doctor Doctor,
    /// Run a program that torch.export.save wrote
    run Run,
    /// Go on after a prompt with an exported language model
    generate Generate,
    /// Print the completions for a shell
    completions Completions,
    /// Print the man page, or write those of all commands to a folder
    man Man,
}
