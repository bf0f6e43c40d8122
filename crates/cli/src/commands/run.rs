use std::convert::Infallible;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use weightstream::{Dtype, Stats};
use weightstream_source::read_small;
use weightstream_graph::{Input, InputKind, Options, Program, Report, Run, Value};

use crate::context::{Context, Outcome};
use crate::npy::{self, Array};
use crate::table::Table;
use crate::{CliError, heap, size};

/// Run a program that torch.export.save wrote.
///
/// Inputs come from .npy files, by name or in the program's order; the outputs go to .npy files.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The .pt2 file
    program: PathBuf,
    /// An input: NAME=FILE.npy, or FILE.npy for the next one in the program's order; a number: NAME=3
    #[arg(long = "input", value_name = "NAME=FILE", value_parser = given)]
    inputs: Vec<Given>,
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
    /// Where random numbers begin, as after torch.manual_seed; the same place at every start where it is left out
    #[arg(long)]
    seed: Option<u64>,
    /// The report as JSON
    #[arg(long)]
    json: bool,
}

/// What the command line says of an input.
#[derive(Debug, Clone)]
struct Given {
    /// None: the next one in the program's order.
    name: Option<String>,
    /// A file's name or a number.
    text: String,
}

fn given(text: &str) -> Result<Given, Infallible> {
    let (name, text) = match text.split_once('=') {
        Some((name, text)) => (Some(name.to_owned()), text),
        None => (None, text),
    };
    Ok(Given {
        name,
        text: text.to_owned(),
    })
}

pub fn run(arguments: Arguments, context: &mut Context) -> Result<Outcome, CliError> {
    let options = Options {
        memory: arguments.memory,
        model: arguments.model,
        ..Options::default()
    };
    let failed = |error: weightstream_graph::ProgramError| CliError::Program(error.to_string());
    let program = Program::open(&arguments.program, options).map_err(failed)?;
    if let Some(seed) = arguments.seed {
        program.seed(seed);
    }
    heap::trim();
    let inputs = inputs(&program, &arguments.inputs)?;
    for _ in 1..arguments.runs {
        program.run(&inputs).map_err(failed)?;
    }
    let before = program.stats();
    let (outputs, report) = program
        .run_with(&inputs, Run::default())
        .map_err(failed)?;
    let pace = Pace::of(&report, &before, &program.stats());
    if arguments.json {
        let facts = facts(&report, &pace, &program);
        serde_json::to_writer(&mut *context, &facts).map_err(std::io::Error::from)?;
        writeln!(context)?;
    } else {
        tell(&report, &pace, &program, context)?;
    }
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

/// The program's inputs in its order; what is not given has the program's own value.
fn inputs(program: &Program, given: &[Given]) -> Result<Vec<Value>, CliError> {
    let mut values = vec![Value::None; program.inputs().len()];
    let mut next = 0;
    for given in given {
        let wanted = match &given.name {
            Some(name) => program.inputs().iter().position(|input| input.name == *name),
            None => Some(next),
        };
        let Some((number, input)) = wanted.and_then(|number| Some((number, program.inputs().get(number)?))) else {
            let names: Vec<_> = program.inputs().iter().map(|input| &input.name[..]).collect();
            return Err(CliError::Program(format!(
                "expected inputs {}, got {}",
                names.join(", "),
                given.name.as_deref().unwrap_or("one more"),
            )));
        };
        values[number] = value(program, input, &given.text)?;
        next = number + 1;
    }
    Ok(values)
}

/// How long a run took, and the least that it could have taken. In seconds and bytes.
struct Pace {
    run: f64,
    waited: f64,
    /// What this run read, and what every run must: what the memory can't hold.
    read: u64,
    must_read: u64,
    /// Reading that, at the rate that the source has delivered.
    reading: f64,
    computing: f64,
}

impl Pace {
    fn of(report: &Report, before: &Stats, after: &Stats) -> Self {
        let run = report.time.as_secs_f64();
        let waited = (after.stall_ns - before.stall_ns) as f64 / 1e9;
        let read = after.bytes_read - before.bytes_read;
        let must_read = read.min(after.model_bytes.saturating_sub(after.budget));
        let (bytes, nanoseconds) = match after.busy_ns {
            0 => (after.bytes_read, after.reading_ns),
            busy => (after.busy_bytes, busy),
        };
        let rate = bytes as f64 / (nanoseconds.max(1) as f64 / 1e9);
        Self {
            run,
            waited,
            read,
            must_read,
            reading: if must_read == 0 { 0.0 } else { must_read as f64 / rate.max(1.0) },
            computing: (run - waited).max(0.0),
        }
    }

    fn floor(&self) -> f64 {
        self.reading.max(self.computing)
    }
}

/// The most memory that this process took, where the system says so.
fn process_peak() -> Option<u64> {
    let status = read_small("/proc/self/status".as_ref(), 1 << 20).ok()?;
    let status = String::from_utf8(status).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

fn facts(report: &Report, pace: &Pace, program: &Program) -> serde_json::Value {
    let stats = program.stats();
    let blocks: Vec<_> = report
        .blocks
        .iter()
        .map(|block| {
            serde_json::json!({
                "name": block.name, "bytes": block.bytes, "seconds": block.time.as_secs_f64(),
            })
        })
        .collect();
    serde_json::json!({
        "seconds": pace.run, "waited_seconds": pace.waited, "floor_seconds": pace.floor(),
        "reading_seconds": pace.reading, "computing_seconds": pace.computing,
        "bytes_read": pace.read, "must_read": pace.must_read,
        "model_bytes": stats.model_bytes, "budget": stats.budget, "source": program.source_name(),
        "activation_peak": report.activation_peak, "process_peak": process_peak(), "blocks": blocks,
    })
}

fn tell(
    report: &Report,
    pace: &Pace,
    program: &Program,
    context: &mut Context,
) -> Result<(), CliError> {
    let mut table = Table::new(&["block", ">weights", ">ms", ">%"]);
    for block in &report.blocks {
        let seconds = block.time.as_secs_f64();
        table.row([
            if block.name.is_empty() { "(the program)".to_owned() } else { block.name.clone() },
            size::format(block.bytes),
            format!("{:.2}", seconds * 1e3),
            format!("{:.1}", seconds / pace.run.max(1e-9) * 100.0),
        ]);
    }
    table.write(context)?;
    let stats = program.stats();
    writeln!(context)?;
    let mut facts = Table::new(&["this run", ""]);
    let mut fact = |name: &str, text: String| facts.row([name.to_owned(), text]);
    fact(
        "time",
        format!(
            "{}, of which {} waited for weights",
            size::format_time(pace.run),
            size::format_time(pace.waited)
        ),
    );
    let limit = if pace.reading > pace.computing { "reading" } else { "computing" };
    fact(
        "floor",
        format!(
            "{} ({limit}): computing {}, reading {} {}; this run took {:.2} times that",
            size::format_time(pace.floor()),
            size::format_time(pace.computing),
            size::format(pace.must_read),
            size::format_time(pace.reading),
            pace.run / pace.floor().max(1e-9),
        ),
    );
    fact(
        "read",
        format!(
            "{} of {} of weights ({})",
            size::format(pace.read),
            size::format(stats.model_bytes),
            program.source_name()
        ),
    );
    fact("memory", format!("{} for weights", size::format(stats.budget)));
    fact(
        "activations",
        format!("{} at most", size::format(report.activation_peak as u64)),
    );
    if let Some(peak) = process_peak() {
        fact("process", format!("{} at most", size::format(peak)));
    }
    Ok(facts.write(context)?)
}

/// A number, or the array in a file. Files can't hold bfloat16: float32 stands for it.
fn value(program: &Program, input: &Input, text: &str) -> Result<Value, CliError> {
    if let Ok(number) = text.parse::<i64>() {
        return Ok(number.into());
    }
    let array = npy::read(text.as_ref())?;
    let context = program.context();
    let wanted = match input.kind {
        InputKind::Tensor { dtype: Dtype::BF16, .. } if array.dtype == Dtype::F32 => Dtype::BF16,
        _ => array.dtype,
    };
    context
        .tensor_of_bytes(array.dtype, &array.bytes, &array.shape)
        .and_then(|tensor| context.cast(&tensor, wanted))
        .map(Value::from)
        .map_err(|error| CliError::Program(error.to_string()))
}
