//! A program's parameters, buffers and constants: where they lie while it runs.

use crate::graph::{Argument, Graph};
use crate::schema::{Size, TensorMeta};
use crate::signature::Origin;
use crate::{Context, OperatorError, ProgramError, Storage, Tensor, contiguous_strides, itemsize};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use weightstream::{Checkpoint, Options, Parameter, Part, Stream, exported_dtype};

/// The weights of a program, streamed.
pub struct Weights {
    stream: Arc<Stream>,
    /// Of each input of the graph that is a weight.
    placed: HashMap<usize, Placed>,
}

struct Placed {
    /// Its number among the stream's parameters; None where it has no bytes.
    parameter: Option<usize>,
    tensor: Tensor,
    /// Inputs that are written and share bytes have one state.
    state: Option<usize>,
}

/// The values that a program keeps from one run to the next: KV caches, running statistics.
#[derive(Clone)]
pub struct State {
    /// One for each storage.
    storages: Vec<Tensor>,
}

impl State {
    /// Whether it lives in this memory.
    pub(crate) fn has(&self, storage: &Storage) -> bool {
        self.storages
            .iter()
            .any(|tensor| tensor.storage().is_same(storage))
    }
}

impl Weights {
    /// Places the weights that `graph` uses. `written` are the inputs that it may write to.
    pub fn open(
        checkpoint: &Checkpoint,
        prefix: &str,
        graph: &Graph,
        origins: &[Origin],
        metas: &[Option<&TensorMeta>],
        written: &HashSet<usize>,
        options: Options,
    ) -> Result<Self, ProgramError> {
        let rows = used_in_rows(graph);
        let mut wanted = Vec::new();
        for (input, origin) in origins.iter().enumerate() {
            let (Origin::Weight(name), Some(_)) = (origin, graph.inputs[input]) else {
                continue;
            };
            let stored = checkpoint
                .get(&format!("{prefix}{name}"))
                .ok_or_else(|| ProgramError::MissingWeight { name: name.clone() })?;
            let meta = metas[input]
                .ok_or_else(|| ProgramError::Malformed(format!("weight {name:?} has no shape")))?;
            wanted.push((input, name, stored, meta));
        }
        let parameters = wanted
            .iter()
            .map(|(input, name, stored, _)| Parameter {
                name: (*name).clone(),
                parts: vec![Part {
                    file: stored.file,
                    offset: stored.offset,
                    length: stored.length,
                }],
                itemsize: itemsize(stored.dtype) as u64,
                unit: match stored.shape.first() {
                    Some(&entries) if entries > 0 && rows.contains(input) => {
                        stored.length / entries
                    }
                    _ => 0,
                },
            })
            .collect();
        let stream = Arc::new(Stream::over(
            checkpoint.contents.clone(),
            parameters,
            options,
        )?);
        let mut states: HashMap<(u32, u64, u64), usize> = HashMap::new();
        for (input, _, stored, _) in &wanted {
            if written.contains(input) {
                let number = states.len();
                states
                    .entry((stored.file, stored.offset, stored.length))
                    .or_insert(number);
            }
        }
        let mut placed = HashMap::new();
        for (parameter, (input, name, stored, meta)) in wanted.into_iter().enumerate() {
            // SAFETY: the stream keeps the bytes of its parameters readable and unchanged at their address while it
            // lives, which the storage makes sure of.
            let storage = unsafe {
                Storage::borrowed(
                    stream.address(parameter),
                    stored.length as usize,
                    Arc::clone(&stream) as _,
                )
            };
            let tensor = placed_tensor(storage, stored, meta)
                .ok_or_else(|| ProgramError::WrongWeight { name: name.clone() })?;
            placed.insert(
                input,
                Placed {
                    parameter: (stored.length > 0).then_some(parameter),
                    tensor,
                    state: states
                        .get(&(stored.file, stored.offset, stored.length))
                        .copied(),
                },
            );
        }
        Ok(Self { stream, placed })
    }

    pub fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    /// The inputs of the graph that are weights.
    pub fn inputs(&self) -> impl Iterator<Item = usize> {
        self.placed.keys().copied()
    }

    /// The stream's parameter behind an input.
    pub fn parameter(&self, input: usize) -> Option<usize> {
        self.placed.get(&input)?.parameter
    }

    /// Whether runs change anything that later runs see.
    pub fn has_state(&self) -> bool {
        self.placed.values().any(|placed| placed.state.is_some())
    }

    /// The state of a program that has not run yet.
    pub fn new_state(&self, context: &Context) -> Result<State, OperatorError> {
        let mut storages: Vec<(usize, Tensor)> = Vec::new();
        for placed in self.placed.values() {
            let Some(state) = placed.state else { continue };
            if storages.iter().any(|(other, _)| *other == state) {
                continue;
            }
            let weight = &placed.tensor;
            let elements = weight.storage().bytes() / weight.itemsize();
            let whole = weight.as_strided(vec![elements], vec![1], 0)?;
            storages.push((state, context.copied(&whole)?));
        }
        storages.sort_by_key(|(state, _)| *state);
        Ok(State {
            storages: storages.into_iter().map(|(_, tensor)| tensor).collect(),
        })
    }

    /// The tensor that is the graph's input number `input` in a run with this state.
    pub fn tensor(
        &self,
        input: usize,
        state: Option<&State>,
    ) -> Option<Result<Tensor, OperatorError>> {
        let placed = self.placed.get(&input)?;
        let kept = placed.state.and_then(|number| state?.storages.get(number));
        Some(match kept {
            None => Ok(placed.tensor.clone()),
            Some(kept) => Tensor::new(
                kept.storage().clone(),
                placed.tensor.dtype(),
                placed.tensor.shape().to_vec(),
                placed.tensor.strides().to_vec(),
                placed.tensor.offset(),
            ),
        })
    }
}

fn placed_tensor(
    storage: Storage,
    stored: &weightstream::Tensor,
    meta: &TensorMeta,
) -> Option<Tensor> {
    let ints = |sizes: &[Size]| {
        sizes
            .iter()
            .map(|size| match size {
                Size::AsInt(size) => usize::try_from(*size).ok(),
                Size::AsExpr(_) => None,
            })
            .collect::<Option<Vec<usize>>>()
    };
    let shape = ints(&meta.sizes)?;
    let stored_shape: Vec<usize> = stored.shape.iter().map(|&size| size as usize).collect();
    if exported_dtype(meta.dtype) != Some(stored.dtype) {
        return None;
    }
    let (strides, offset) = if shape == stored_shape {
        (contiguous_strides(&shape), 0)
    } else {
        let offset = ints(std::slice::from_ref(&meta.storage_offset))?;
        (ints(&meta.strides)?, offset[0])
    };
    Tensor::new(storage, stored.dtype, shape, strides, offset).ok()
}

/// Inputs of which a run reads only some rows: an embedding's table, where nothing else uses it.
fn used_in_rows(graph: &Graph) -> HashSet<usize> {
    let (mut rows, mut whole) = (HashSet::new(), HashSet::new());
    for node in &graph.nodes {
        let in_rows = matches!(
            node.target.as_str(),
            "torch.ops.aten.embedding.default" | "torch.ops.aten.index_select.default"
        );
        for (position, (_, argument)) in node.arguments.iter().enumerate() {
            let used = if in_rows && position == 0 {
                &mut rows
            } else {
                &mut whole
            };
            argument.values(&mut |value| {
                used.insert(value);
            });
        }
    }
    for output in &graph.outputs {
        if let Argument::Value { index, .. } = output {
            whole.insert(*index);
        }
    }
    graph
        .inputs
        .iter()
        .enumerate()
        .filter(|(_, value)| {
            value.is_some_and(|value| rows.contains(&value) && !whole.contains(&value))
        })
        .map(|(input, _)| input)
        .collect()
}
