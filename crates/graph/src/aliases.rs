//! Which inputs of a graph are written to: these are a program's state.

use crate::graph::{Argument, Graph, Operation, Output};
use crate::ops;
use std::collections::{HashMap, HashSet};

/// Operators whose result may share memory with their first tensor.
const VIEWS: &[&str] = &[
    "alias",
    "alpha_dropout",
    "as_strided",
    "atleast_1d",
    "atleast_2d",
    "atleast_3d",
    "broadcast_tensors",
    "chunk",
    "contiguous",
    "detach",
    "diagonal",
    "dropout",
    "dsplit",
    "expand",
    "expand_as",
    "feature_alpha_dropout",
    "feature_dropout",
    "flatten",
    "hsplit",
    "imag",
    "linalg_diagonal",
    "mH",
    "positive",
    "ravel",
    "view_as_complex",
    "view_as_real",
    "vsplit",
    "lift_fresh",
    "movedim",
    "narrow",
    "numpy_T",
    "permute",
    "real",
    "reshape",
    "reshape_as",
    "select",
    "slice",
    "split",
    "split_with_sizes",
    "squeeze",
    "t",
    "tensor_split",
    "to",
    "transpose",
    "type_as",
    "unbind",
    "unflatten",
    "unfold",
    "unsqueeze",
    "view",
    "view_as",
    "_unsafe_view",
    "broadcast_to",
    "mT",
];

/// The numbers of the inputs that running the graph may write to.
pub fn written_inputs(graph: &Graph) -> HashSet<usize> {
    let mut input_of: HashMap<usize, usize> = graph
        .inputs
        .iter()
        .enumerate()
        .filter_map(|(input, value)| value.map(|value| (value, input)))
        .collect();
    let mut written = HashSet::new();
    for node in &graph.nodes {
        if let Operation::Condition = node.operation {
            // Whatever a branch is given it may write to.
            for (_, argument) in &node.arguments {
                if let Argument::Graph(branch) = argument
                    && !written_inputs(branch).is_empty()
                {
                    for (_, operand) in &node.arguments {
                        operand.values(&mut |value| written.extend(input_of.get(&value)));
                    }
                }
            }
            continue;
        }
        let usual = ops::usual_name(&node.target);
        let name = operator_name(&usual);
        let writes = name.ends_with('_') && !name.ends_with("__");
        if !writes && !VIEWS.contains(&name) {
            continue;
        }
        let mut first = None;
        if let Some((_, argument)) = node.arguments.first() {
            argument.values(&mut |value| first = first.or(Some(value)));
        }
        let Some(&input) = first.and_then(|first| input_of.get(&first)) else {
            continue;
        };
        if writes {
            written.insert(input);
        }
        for output in &node.outputs {
            match output {
                Output::Value(value) => {
                    input_of.insert(*value, input);
                }
                Output::List(values) => {
                    input_of.extend(values.iter().flatten().map(|value| (*value, input)));
                }
                Output::Unused => {}
            }
        }
    }
    written
}

/// `torch.ops.aten.copy_.default` is `copy_`.
fn operator_name(target: &str) -> &str {
    target.rsplit('.').nth(1).unwrap_or(target)
}
