//! Which nodes make a block: what a layer's modules compute between two of its weights.

use crate::graph::Graph;
use std::collections::{HashMap, HashSet};

/// A unit of reading ahead.
pub struct Block {
    /// The module that its weights belong to.
    pub name: String,
    /// The inputs of the graph that it uses as weights.
    pub weights: Vec<usize>,
}

/// Marks where blocks begin, and tells what they use. `weights` are the values that are weights, and the inputs that
/// they came from.
pub fn assign(graph: &mut Graph, weights: &HashMap<usize, usize>) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut numbers: HashMap<String, u32> = HashMap::new();
    let mut seen: HashSet<(u32, usize)> = HashSet::new();
    let mut current = None;
    for node in &mut graph.nodes {
        let mut used = Vec::new();
        for (_, argument) in &node.arguments {
            argument.values(&mut |value| used.extend(weights.get(&value)));
        }
        if used.is_empty() {
            continue;
        }
        let layer = layer(&node.module);
        let number = *numbers.entry(layer.to_owned()).or_insert_with(|| {
            blocks.push(Block {
                name: layer.to_owned(),
                weights: Vec::new(),
            });
            blocks.len() as u32 - 1
        });
        for weight in used {
            if seen.insert((number, weight)) {
                blocks[number as usize].weights.push(weight);
            }
        }
        if current != Some(number) {
            node.block = Some(number);
            current = Some(number);
        }
    }
    blocks
}

/// The layer that a module is part of: its path up to the first part that ends in a number (`model.layers.3`).
fn layer(module: &str) -> &str {
    let mut end = 0;
    for part in module.split('.') {
        end += part.len();
        if part.ends_with(|last: char| last.is_ascii_digit()) {
            return &module[..end];
        }
        end += 1;
    }
    module
}

#[cfg(test)]
mod tests {
    use super::layer;

    #[test]
    fn a_layer_is_named_by_its_number() {
        assert_eq!(layer("model.layers.3.mlp.up_proj"), "model.layers.3");
        assert_eq!(
            layer("encoder.layers.encoder_layer_7.mlp.0"),
            "encoder.layers.encoder_layer_7"
        );
        assert_eq!(layer("model.embed_tokens"), "model.embed_tokens");
        assert_eq!(layer(""), "");
    }
}
