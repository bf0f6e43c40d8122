//! What of a program's file its packed form needs besides the weights.

use crate::ProgramError;
use crate::archive::{self, Programs};
use crate::graph::{self, Missing};
use crate::signature::{Origin, Signature};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use weightstream::Archive;

/// The programs in a `.pt2` file.
#[derive(Debug)]
pub struct Packing {
    /// Names of weights in the order in which the programs use them.
    pub order: Vec<String>,
    /// What travels along: paths in the folder, and what is written there.
    pub files: Vec<(PathBuf, Vec<u8>)>,
}

impl Packing {
    /// Reads the programs at `path`; None for a file without any.
    ///
    /// # Errors
    /// Programs that can't be read. Operators that are not known are no error: the weights can be packed all the same.
    pub fn of(path: &Path) -> Result<Option<Self>, ProgramError> {
        if path.is_dir() || Archive::open(path).is_err() {
            return Ok(None);
        }
        let programs = Programs::open(path)?;
        let mut packing = Self {
            order: Vec::new(),
            files: Vec::new(),
        };
        for name in programs.names() {
            let text = programs.text(&name)?;
            let prefix = programs.prefix(&name);
            let program = archive::parse(path, &text)?;
            let graph = graph::compile(&program.graph_module.graph, &mut Missing::default())?;
            let signature = Signature::new(&program)?;
            let weights: HashMap<usize, &str> = graph
                .inputs
                .iter()
                .zip(&signature.origins)
                .filter_map(|(value, origin)| match origin {
                    Origin::Weight(name) => Some(((*value)?, name.as_str())),
                    _ => None,
                })
                .collect();
            for node in &graph.nodes {
                for (_, argument) in &node.arguments {
                    argument.values(&mut |value| {
                        packing
                            .order
                            .extend(weights.get(&value).map(|name| format!("{prefix}{name}")));
                    });
                }
            }
            packing.files.push((Programs::file(&name), text));
        }
        Ok((!packing.files.is_empty()).then_some(packing))
    }
}
