use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use weightstream::Dtype;
use weightstream_graph::{Options, Program, Run, Value};

use crate::context::{Context, Outcome};
use crate::npy::{self, Array};
use crate::table::Table;
use crate::{CliError, size};

/// Run a program that torch.export.save wrote.
///
/// Inputs come from .npy files, by name or in the program's order; the outputs go to .npy files.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The .pt2 file
    program: PathBuf,
    /// An input: NAME=FILE.npy, once for each; a number: NAME=3
    #[arg(long = "input", value_name = "NAME=FILE", value_parser = named)]
    inputs: Vec<(String, String)>,
    /// Memory for weights; all of them stay where it is left out
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    memory: Option<u64>,
    /// Where the outputs go: the first, and further ones to FILE.1.npy and so on
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Which program, where the file has several
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// How often it is run; the last run is reported
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    runs: usize,
}

fn named(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .map(|(name, file)| (name.to_owned(), file.to_owned()))
        .ok_or_else(|| format!("expected NAME=FILE, came {text:?}"))
}

pub fn run(arguments: Arguments, context: &mut Context) -> Result<Outcome, CliError> {
    let options = Options {
        memory: arguments.memory,
        model: arguments.model,
        ..Options::default()
    };
    let failed = |error: weightstream_graph::ProgramError| CliError::Program(error.to_string());
    let program = Program::open(&arguments.program, options).map_err(failed)?;
    let mut inputs = Vec::new();
    for input in program.inputs() {
        let given = arguments.inputs.iter().find(|(name, _)| *name == input.name);
        inputs.push(match given {
            Some((_, text)) => value(&program, text)?,
            None => Value::None,
        });
    }
    for (name, _) in &arguments.inputs {
        if !program.inputs().iter().any(|input| input.name == *name) {
            let names: Vec<_> = program.inputs().iter().map(|input| &input.name[..]).collect();
            return Err(CliError::Program(format!(
                "expected inputs {}, came {name}",
                names.join(", ")
            )));
        }
    }
    for _ in 1..arguments.runs {
        program.run(&inputs).map_err(failed)?;
    }
    let (outputs, report) = program
        .run_with(&inputs, Run::default())
        .map_err(failed)?;

    let mut table = Table::new(&["block", ">weights", ">ms"]);
    for block in &report.blocks {
        table.row([
            block.name.clone(),
            size::format(block.bytes),
            format!("{:.2}", block.time.as_secs_f64() * 1e3),
        ]);
    }
    table.write(context)?;
    let stats = program.stats();
    writeln!(
        context,
        "{:.1} ms; {} of weights, {} read in all, {} waited; activations took {} at most",
        report.time.as_secs_f64() * 1e3,
        size::format(stats.model_bytes),
        size::format(stats.bytes_read),
        format_args!("{:.1} ms", stats.stall_ns as f64 / 1e6),
        size::format(report.activation_peak as u64),
    )?;
    if let Some(out) = arguments.out {
        for (number, output) in outputs.iter().enumerate() {
            let Value::Tensor(tensor) = output else {
                continue;
            };
            let path = match number {
                0 => out.clone(),
                number => out.with_extension(format!("{number}.npy")),
            };
            let calculate = program.context();
            let wanted = match tensor.dtype() {
                Dtype::BF16 => Dtype::F32,
                dtype => dtype,
            };
            let bytes = calculate
                .cast(tensor, wanted)
                .and_then(|tensor| Ok(tensor.bytes()?.to_vec()))
                .map_err(|error| CliError::Program(error.to_string()))?;
            npy::write(
                &path,
                &Array {
                    dtype: wanted,
                    shape: tensor.shape().to_vec(),
                    bytes,
                },
            )?;
        }
    }
    Ok(Outcome::Good)
}

/// A number, or the array in a file.
fn value(program: &Program, text: &str) -> Result<Value, CliError> {
    if let Ok(number) = text.parse::<i64>() {
        return Ok(number.into());
    }
    let array = npy::read(text.as_ref())?;
    program
        .context()
        .tensor_of_bytes(array.dtype, &array.bytes, &array.shape)
        .map(Value::from)
        .map_err(|error| CliError::Program(error.to_string()))
}
