//! What a pass of a model is likely to do, guessed from the names of its tensors and its configuration.
//!
//! What a run does is learned by the engine; this is for a plan made before. Layers are used in the order of their
//! numbers, embeddings by a few rows, and of a mixture's experts as many as the configuration says.

use std::path::Path;

use serde_json::Value;
use weightstream::{Checkpoint, Parameter, Part, Tensor, Use};
use weightstream_source::read_small;

use crate::CliError;

/// Larger than any model's configuration.
const MAX_CONFIG: u64 = 16 << 20;

/// The parameters of a checkpoint and how passes use them.
pub struct Usage {
    pub parameters: Vec<Parameter>,
    steps: Vec<Step>,
    /// Experts that are used of those that there are.
    routed: Option<(u64, u64)>,
}

struct Step {
    parameter: usize,
    block: u32,
    length: u64,
    kind: Kind,
}

enum Kind {
    Whole,
    /// A row of so many bytes.
    Row(u64),
    /// One expert of several, by its number.
    Expert(u64),
    /// All experts in one tensor, each of so many bytes.
    Experts(u64),
}

/// What embeddings are called.
const EMBEDDINGS: [&str; 6] = [
    "embed_tokens.weight",
    "wte.weight",
    "word_embeddings.weight",
    "tok_embeddings.weight",
    "position_embeddings.weight",
    "wpe.weight",
];

impl Usage {
    /// Guesses from `checkpoint` and the `config.json` beside it.
    ///
    /// # Errors
    /// The `config.json` is there and can't be read, or is no JSON.
    pub fn guess(checkpoint: &Checkpoint, path: &Path) -> Result<Self, CliError> {
        let config = config(path)?;
        let number = |name: &str| config.get(name).and_then(Value::as_u64);
        let experts = number("num_experts").or_else(|| number("num_local_experts"));
        let routed = number("num_experts_per_tok").zip(experts);
        let tied = config.get("tie_word_embeddings") == Some(&Value::Bool(true))
            && checkpoint.get("lm_head.weight").is_none();

        let mut order: Vec<usize> = (0..checkpoint.tensors.len()).collect();
        if checkpoint.packed.is_none() {
            // Packed ones are in the order of use, where one was known.
            order.sort_by_key(|&tensor| place(&checkpoint.tensors[tensor].name));
        }
        let (mut parameters, mut steps, mut last) = (Vec::new(), Vec::new(), Vec::new());
        let mut blocks: Vec<String> = Vec::new();
        for position in order {
            let tensor = &checkpoint.tensors[position];
            if tensor.length == 0 {
                continue;
            }
            let kind = kind(tensor, experts);
            let name = block(&tensor.name);
            if blocks.last() != Some(&name) {
                blocks.push(name);
            }
            let step = |kind| Step {
                parameter: parameters.len(),
                block: blocks.len() as u32,
                length: tensor.length,
                kind,
            };
            if tied && matches!(kind, Kind::Row(_)) && tensor.name.ends_with("embed_tokens.weight")
            {
                last.push(step(Kind::Whole));
            }
            let unit = match kind {
                Kind::Row(unit) | Kind::Experts(unit) => unit,
                Kind::Whole | Kind::Expert(_) => 0,
            };
            steps.push(step(kind));
            parameters.push(Parameter {
                name: tensor.name.clone(),
                parts: vec![Part {
                    file: tensor.file,
                    offset: tensor.offset,
                    length: tensor.length,
                }],
                itemsize: tensor.dtype.bits().div_ceil(8),
                unit,
            });
        }
        for mut step in last {
            step.block = blocks.len() as u32 + 1;
            steps.push(step);
        }
        Ok(Self {
            parameters,
            steps,
            routed,
        })
    }

    /// What pass number `pass` does.
    pub fn pass(&self, pass: usize) -> Vec<Use> {
        let mut uses = vec![Use::Enter(0)];
        let mut inside = None;
        for step in &self.steps {
            if inside != Some(step.block) {
                uses.extend(inside.map(Use::Leave));
                uses.push(Use::Enter(step.block));
                inside = Some(step.block);
            }
            let mut weights = |start: u64, length: u64| {
                uses.push(Use::Weights {
                    parameter: step.parameter,
                    bytes: start..(start + length).min(step.length),
                });
            };
            match step.kind {
                Kind::Whole => weights(0, step.length),
                Kind::Row(bytes) => {
                    let rows = step.length / bytes.max(1);
                    weights(scattered(pass, step.parameter) % rows.max(1) * bytes, bytes);
                }
                Kind::Expert(number) => {
                    if self.is_routed(pass, step.block, number) {
                        weights(0, step.length);
                    }
                }
                Kind::Experts(bytes) => {
                    for number in 0..step.length / bytes.max(1) {
                        if self.is_routed(pass, step.block, number) {
                            weights(number * bytes, bytes);
                        }
                    }
                }
            }
        }
        uses.extend(inside.map(Use::Leave));
        uses.push(Use::Leave(0));
        uses
    }

    /// Whether a pass uses an expert: others in every pass and block, as many as the configuration says.
    fn is_routed(&self, pass: usize, block: u32, expert: u64) -> bool {
        let Some((used, all)) = self.routed else {
            return true;
        };
        let rank = |expert: u64| scattered(pass, (u64::from(block) * all + expert) as usize);
        let own = rank(expert);
        let before = (0..all).filter(|&other| rank(other) < own).count() as u64;
        before < used
    }
}

fn kind(tensor: &Tensor, experts: Option<u64>) -> Kind {
    let name = tensor.name.as_str();
    if EMBEDDINGS.iter().any(|ending| name.ends_with(ending)) {
        let rows = tensor.shape.first().copied().unwrap_or(1).max(1);
        return Kind::Row(tensor.length / rows);
    }
    let Some((_, rest)) = name.split_once(".experts.") else {
        return Kind::Whole;
    };
    let number = rest.split('.').next().and_then(|part| part.parse().ok());
    match (number, experts) {
        (Some(number), _) => Kind::Expert(number),
        (None, Some(experts)) if tensor.shape.first() == Some(&experts) => {
            Kind::Experts(tensor.length / experts.max(1))
        }
        _ => Kind::Whole,
    }
}

/// The layer that a tensor belongs to: its name up to the first number.
fn block(name: &str) -> String {
    let mut block = Vec::new();
    for part in name.split('.') {
        block.push(part);
        if part.parse::<u64>().is_ok() {
            return block.join(".");
        }
    }
    name.to_owned()
}

/// What is used first comes first: embeddings, then layers by their numbers, then norms and heads.
fn place(name: &str) -> (u8, String, u64) {
    let mut before = Vec::new();
    for part in name.split('.') {
        if let Ok(number) = part.parse() {
            return (1, before.join("."), number);
        }
        before.push(part);
    }
    let first = ["embed", "wte", "wpe", "patch", "conv_in", "pos_"];
    let rank = if first.iter().any(|word| name.contains(word)) {
        0
    } else {
        2
    };
    (rank, String::new(), 0)
}

/// A number that looks random and is always the same.
fn scattered(pass: usize, number: usize) -> u64 {
    let mixed = (pass as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)
        ^ (number as u64).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    let mixed = (mixed ^ (mixed >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    (mixed ^ (mixed >> 29)) >> 1
}

/// Null where there is none.
fn config(path: &Path) -> Result<Value, CliError> {
    let folder = if path.is_dir() {
        path
    } else {
        path.parent().unwrap_or(path)
    };
    let file = folder.join("config.json");
    match read_small(&file, MAX_CONFIG) {
        Err(error) if error.is_missing() => Ok(Value::Null),
        text => {
            serde_json::from_slice(&text?).map_err(|cause| CliError::Json { path: file, cause })
        }
    }
}
