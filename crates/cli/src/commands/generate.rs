use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use weightstream::Stats;
use weightstream_graph::{Options, Program};
use weightstream_text::{End, Generated, Request, Sampling, TextModel, Tokenizer, generate};

use crate::context::{Context, Outcome};
use crate::{CliError, heap, size};

/// Go on after a prompt with a language model that weightstream.export_text wrote.
///
/// The text goes to the output as it comes, how long it took to the errors' output.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The .pt2 file
    program: PathBuf,
    /// What to go on after; control tokens such as <|im_start|> are understood
    prompt: String,
    /// The model's tokenizer.json; tokenizer.json beside the program where it is left out
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    /// Memory for weights; all of them stay where it is left out
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    memory: Option<u64>,
    /// How many tokens at most
    #[arg(long, value_name = "COUNT", default_value_t = 128)]
    tokens: usize,
    /// Sample: logits are divided by it; 0 takes the likeliest token always
    #[arg(long, value_name = "NUMBER", default_value_t = 0.0)]
    temperature: f32,
    /// Sample among so many of the likeliest tokens; 0: among all
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    top_k: usize,
    /// Sample among the likeliest tokens that together have this probability
    #[arg(long, value_name = "NUMBER", default_value_t = 1.0)]
    top_p: f32,
    /// The same seed gives the same text
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    seed: u64,
    /// A token that ends the text, besides those of generation_config.json beside the tokenizer
    #[arg(long, value_name = "TOKEN")]
    stop: Vec<String>,
    /// Which program, where the file has several
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
}

pub fn run(arguments: Arguments, context: &mut Context) -> Result<Outcome, CliError> {
    let file = match arguments.tokenizer {
        Some(file) => file,
        None => arguments.program.with_file_name("tokenizer.json"),
    };
    let options = Options {
        memory: arguments.memory,
        model: arguments.model,
        ..Options::default()
    };
    let program = Program::open(&arguments.program, options)
        .map_err(|error| CliError::Program(error.to_string()))?;
    let tokenizer = Tokenizer::open(&file)?;
    let mut stop = Tokenizer::ends(&file)?;
    for token in &arguments.stop {
        stop.push(tokenizer.token(token).ok_or_else(|| {
            CliError::Program(format!("expected a token of the tokenizer, got {token:?}"))
        })?);
    }
    let request = Request {
        tokens: arguments.tokens,
        sampling: Sampling {
            temperature: arguments.temperature,
            top_k: arguments.top_k,
            top_p: arguments.top_p,
            seed: arguments.seed,
        },
        stop,
    };
    heap::trim();
    let model = TextModel::new(program)?;
    let prompt = tokenizer.encode(&arguments.prompt)?;

    let mut written = Ok(());
    let generated = generate(
        &mut model.begin()?,
        &tokenizer,
        &prompt,
        &request,
        &mut |text| {
            if written.is_ok() {
                written = context.write_all(text.as_bytes()).and_then(|()| context.flush());
            }
        },
    )?;
    written?;
    writeln!(context)?;
    context.flush()?;
    let activations = model.program().activation_peak() as u64;
    anstream::eprint!(
        "{}",
        report(prompt.len(), &generated, &model.program().stats(), activations)
    );
    Ok(Outcome::Good)
}

fn report(prompt: usize, generated: &Generated, stats: &Stats, activations: u64) -> String {
    let why = match generated.end {
        End::Stopped => "the model ended the text",
        End::Tokens => "as many as were wanted",
        End::Room => "the model's cache is full",
    };
    let mut text = format!(
        "prompt  {prompt} tokens in {}\n",
        size::format_time(generated.prompt.as_secs_f64()),
    );
    text += &format!("text    {} tokens ({why})", generated.tokens.len());
    if generated.passes > 0 {
        let each = generated.rest.as_secs_f64() / generated.passes as f64;
        text += &format!(", {:.1} a second, {} each", 1.0 / each, size::format_time(each));
        if let Some((floor, what)) = floor(stats) {
            let (floor, share) = (floor.as_secs_f64(), 100.0 * floor.as_secs_f64() / each);
            text += &format!(
                "; floor {} ({what}), {share:.0} % of it",
                size::format_time(floor)
            );
        }
    }
    text += &format!(
        "\nmemory  {} of {} of weights, cache and activations {} at most; {} read in all\n",
        size::format(stats.budget.min(stats.model_bytes)),
        size::format(stats.model_bytes),
        size::format(activations),
        size::format(stats.bytes_read),
    );
    text
}

/// The least time that the last pass could have taken: computing, or reading what has no room.
fn floor(stats: &Stats) -> Option<(Duration, &'static str)> {
    let computing = stats.pass_ns.checked_sub(stats.pass_stall_ns).filter(|time| *time > 0)?;
    let missing = stats.model_bytes.saturating_sub(stats.budget) as f64;
    let reading = match stats.busy_bytes {
        0 => 0,
        bytes => (missing * stats.busy_ns as f64 / bytes as f64) as u64,
    };
    Some(if reading > computing {
        (Duration::from_nanos(reading), "reading")
    } else {
        (Duration::from_nanos(computing), "computing")
    })
}
