use crate::arena::Arena;
use crate::blocks::{self, Block};
use crate::execute::Execution;
use crate::graph::{self, Graph, Missing};
use crate::signature::{Destination, Input, Origin, Signature};
use crate::weights::{State, Weights};
use crate::{Context, ProgramError, Tensor, Value, aliases, archive, kernels, schema};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use weightstream::{Checkpoint, Stats};

/// How a program is opened.
#[derive(Default)]
pub struct Options {
    /// Bytes of memory for weights; None keeps all of them, once read.
    pub memory: Option<u64>,
    /// Which model, where the archive has several.
    pub model: Option<String>,
    /// Threads that compute; None takes as many as there are processors.
    pub threads: Option<usize>,
    /// Where bytes come from; None reads the files directly. Tests put throttles and faults around it.
    pub source: Option<weightstream::OpenSource>,
}

/// A program that `torch.export.save` wrote, ready to be run. Several threads may run it at once; those that share a
/// state wait for each other.
pub struct Program {
    graph: Graph,
    signature: Signature,
    weights: Weights,
    blocks: Vec<Block>,
    /// The user's inputs that the graph writes to, which are copied before.
    written_inputs: Vec<usize>,
    arena: Arc<Arena>,
    context: Context,
    state: Mutex<Option<State>>,
}

/// How one run is to go.
#[derive(Default)]
pub struct Run<'r> {
    /// What earlier runs left; None uses the program's own.
    pub state: Option<&'r mut State>,
    /// Ends the run before its next node when it becomes true.
    pub cancel: Option<&'r AtomicBool>,
    /// Is told how many nodes have run, and of how many.
    pub progress: Option<&'r mut dyn FnMut(usize, usize)>,
}

/// How a run went.
#[derive(Debug, Clone)]
pub struct Report {
    /// From the first node to the last.
    pub time: Duration,
    /// The most bytes that activations and state took since the program was opened.
    pub activation_peak: usize,
    /// Where the time went.
    pub blocks: Vec<BlockReport>,
}

/// One block in one run.
#[derive(Debug, Clone)]
pub struct BlockReport {
    /// The module that its weights belong to.
    pub name: String,
    /// Bytes of its weights.
    pub bytes: u64,
    /// Time in it.
    pub time: Duration,
}

impl Program {
    /// Opens a `.pt2` file, or the folder that `weightstream pack` made of one.
    ///
    /// # Errors
    /// Files that can't be read, another version of the format, operators that are not known (all of them at once),
    /// or a budget that is too small.
    pub fn open(path: &Path, options: Options) -> Result<Self, ProgramError> {
        let found = archive::read(path, options.model.as_deref())?;
        let program = &found.program;
        let mut missing = Missing::default();
        let mut graph = graph::compile(&program.graph_module.graph, &mut missing)?;
        if !missing.operators.is_empty() {
            return Err(unsupported(missing));
        }
        let signature = Signature::new(program)?;
        let checkpoint = Checkpoint::open(&found.weights)?;
        let mut written = aliases::written_inputs(&graph);
        for (input, origin) in signature.origins.iter().enumerate() {
            if let Origin::Weight(name) = origin
                && signature
                    .destinations
                    .contains(&Destination::Weight(name.clone()))
            {
                written.insert(input);
            }
        }
        let graph_inputs = &program.graph_module.graph.inputs;
        let metas: Vec<_> = graph_inputs
            .iter()
            .map(|input| match input {
                schema::Argument::AsTensor(name) => {
                    program.graph_module.graph.tensor_values.get(&name.name)
                }
                _ => None,
            })
            .collect();
        let all: u64 = checkpoint.tensors.iter().map(|tensor| tensor.length).sum();
        let mut stream = weightstream::Options::with_memory(
            options.memory.unwrap_or(all + all / 8 + (64 << 20)),
        );
        stream.source = options.source;
        let weights = Weights::open(
            &checkpoint,
            &found.prefix,
            &graph,
            &signature.origins,
            &metas,
            &written,
            stream,
        )?;
        let values: HashMap<usize, usize> = weights
            .inputs()
            .filter(|input| !written.contains(input))
            .filter_map(|input| Some((graph.inputs[input]?, input)))
            .collect();
        let blocks = blocks::assign(&mut graph, &values);
        for (number, block) in blocks.iter().enumerate() {
            let parameters: Vec<usize> = block
                .weights
                .iter()
                .filter_map(|&input| weights.parameter(input))
                .collect();
            weights.stream().expect(number as u32, &parameters);
        }
        let written_inputs = signature
            .origins
            .iter()
            .enumerate()
            .filter(|(input, _)| written.contains(input))
            .filter_map(|(_, origin)| match origin {
                Origin::User(number) => Some(*number),
                _ => None,
            })
            .collect();
        let arena = Arc::new(Arena::default());
        let threads = options.threads.unwrap_or_else(rayon::current_num_threads);
        Ok(Self {
            graph,
            signature,
            weights,
            blocks,
            written_inputs,
            context: Context::new(Arc::clone(&arena), threads),
            arena,
            state: Mutex::new(None),
        })
    }

    /// What a run takes, in order.
    pub fn inputs(&self) -> &[Input] {
        &self.signature.inputs
    }

    /// The names of what a run gives, in order: the way to each in nested containers, empty for a single result.
    pub fn outputs(&self) -> &[String] {
        &self.signature.outputs
    }

    /// The structure of inputs and outputs, as torch's `treespec_loads` reads it.
    pub fn structure(&self) -> (&str, &str) {
        (&self.signature.in_spec, &self.signature.out_spec)
    }

    /// Memory for tensors to give to [`run`](Self::run).
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Whether a run changes what later runs give, as a KV cache does.
    pub fn has_state(&self) -> bool {
        self.weights.has_state()
    }

    /// The state of a program that has not run yet.
    ///
    /// # Errors
    /// There is no memory, or a weight can't be read.
    pub fn new_state(&self) -> Result<State, ProgramError> {
        self.weights.stream().enter(None)?;
        let state = self.weights.new_state(&self.context);
        self.weights.stream().leave(None)?;
        Ok(state?)
    }

    /// Forgets what earlier runs left.
    pub fn reset(&self) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Runs the program once and returns what it gives, in the order of [`outputs`](Self::outputs).
    ///
    /// # Errors
    /// Inputs that it doesn't take, a weight that can't be read, an operator that can't compute, or no memory. The
    /// program can be run again.
    pub fn run(&self, inputs: &[Value]) -> Result<Vec<Value>, ProgramError> {
        self.run_with(inputs, Run::default())
            .map(|(outputs, _)| outputs)
    }

    /// As [`run`](Self::run), with a state of the caller's, cancellation and progress, and tells how it went.
    ///
    /// # Errors
    /// As `run`, and [`ProgramError::Cancelled`].
    pub fn run_with(
        &self,
        inputs: &[Value],
        run: Run<'_>,
    ) -> Result<(Vec<Value>, Report), ProgramError> {
        self.signature.check(inputs)?;
        if !self.has_state() {
            return self.pass(inputs, None, run.cancel, run.progress);
        }
        if let Some(state) = run.state {
            return self.pass(inputs, Some(state), run.cancel, run.progress);
        }
        let mut own = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = match &mut *own {
            Some(state) => state,
            none => none.insert(self.new_state()?),
        };
        self.pass(inputs, Some(state), run.cancel, run.progress)
    }

    fn pass(
        &self,
        inputs: &[Value],
        state: Option<&mut State>,
        cancel: Option<&AtomicBool>,
        progress: Option<&mut dyn FnMut(usize, usize)>,
    ) -> Result<(Vec<Value>, Report), ProgramError> {
        let state = state.map(|state| &*state);
        let began = Instant::now();
        let values = self.values(inputs, state)?;
        let mut execution = Execution::new(&self.context, self.weights.stream(), self.blocks.len());
        execution.cancel = cancel;
        execution.progress = progress;
        let results = execution.run(&self.graph, values)?;
        let times = execution.times;
        let outputs = self.deliver(results, state)?;
        let blocks = self
            .blocks
            .iter()
            .zip(times)
            .map(|(block, time)| BlockReport {
                name: block.name.clone(),
                bytes: self.bytes_of(block),
                time,
            });
        let report = Report {
            time: began.elapsed(),
            activation_peak: self.arena.peak(),
            blocks: blocks.collect(),
        };
        Ok((outputs, report))
    }

    /// The graph's inputs.
    fn values(&self, inputs: &[Value], state: Option<&State>) -> Result<Vec<Value>, ProgramError> {
        let mut values = Vec::with_capacity(self.signature.origins.len());
        for (number, origin) in self.signature.origins.iter().enumerate() {
            values.push(match origin {
                Origin::Weight(_) => match self.weights.tensor(number, state) {
                    Some(tensor) => tensor?.into(),
                    None => Value::None,
                },
                Origin::User(user) => match &inputs[*user] {
                    Value::Tensor(tensor) if self.written_inputs.contains(user) => {
                        self.context.copied(tensor)?.into()
                    }
                    value => value.clone(),
                },
                Origin::Constant => Value::None,
            });
        }
        Ok(values)
    }

    /// Parts the graph's outputs into what the caller gets and what goes into the state.
    fn deliver(
        &self,
        results: Vec<Value>,
        state: Option<&State>,
    ) -> Result<Vec<Value>, ProgramError> {
        let mut outputs = Vec::new();
        let mut kept: Vec<(Tensor, Tensor)> = Vec::new();
        for (result, destination) in results.into_iter().zip(&self.signature.destinations) {
            match (destination, result) {
                (Destination::User, Value::Tensor(tensor)) => {
                    // What a later run would write to, or what keeps the weights open, is not given away.
                    let own = tensor.storage().is_weight()
                        || state.is_some_and(|state| state.has(tensor.storage()));
                    outputs.push(if own {
                        self.context.copied(&tensor)?.into()
                    } else {
                        tensor.into()
                    });
                }
                (Destination::User, value) => outputs.push(value),
                (Destination::Weight(name), Value::Tensor(tensor)) => {
                    let input = self.signature.origins.iter().position(
                        |origin| matches!(origin, Origin::Weight(other) if other == name),
                    );
                    let target = input.and_then(|input| self.weights.tensor(input, state));
                    kept.push((target.ok_or_else(|| unkept(name))??, tensor));
                }
                (Destination::Weight(name), _) => return Err(unkept(name)),
                (Destination::Dropped, _) => {}
            }
        }
        for (target, tensor) in kept {
            self.context.assign(&target, &tensor)?;
        }
        Ok(outputs)
    }

    fn bytes_of(&self, block: &Block) -> u64 {
        let layout = self.weights.stream().layout();
        let parameters = block
            .weights
            .iter()
            .filter_map(|&input| self.weights.parameter(input));
        parameters
            .filter_map(|parameter| layout.parameters().get(parameter))
            .flat_map(|parameter| &parameter.parts)
            .map(|part| part.length)
            .sum()
    }

    /// What reading the weights took so far.
    pub fn stats(&self) -> Stats {
        self.weights.stream().stats()
    }

    /// How bytes are read: "io_uring direct", "pread buffered", ...
    pub fn source_name(&self) -> &'static str {
        self.weights.stream().source_name()
    }

    /// The most bytes that activations and state took at once.
    pub fn activation_peak(&self) -> usize {
        self.arena.peak()
    }

    /// Another budget of bytes for weights, also while the program runs.
    ///
    /// # Errors
    /// A budget that is too small.
    pub fn resize(&self, memory: u64) -> Result<(), ProgramError> {
        Ok(self.weights.stream().resize(memory)?)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Other programs' kernels ask for theirs again.
        kernels::release_scratch();
    }
}

fn unkept(name: &str) -> ProgramError {
    ProgramError::Malformed(format!(
        "it gives a new value for {name:?}, which is no tensor of it or gets none"
    ))
}

fn unsupported(missing: Missing) -> ProgramError {
    let mut nodes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (operator, node) in missing.operators {
        nodes.entry(operator).or_default().push(node);
    }
    ProgramError::Unsupported(crate::UnsupportedOperators(nodes))
}
