//! The order in which a model uses its tensors, where something has recorded it.

use std::collections::HashMap;
use std::path::Path;

use weightstream::Tensor;
use weightstream_source::read_small;

use crate::PackError;

/// Names of tensors in the order of their use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Order(pub Vec<String>);

/// The names of 300,000 tensors.
const MAX_ORDER: u64 = 32 << 20;

/// Names that an error message can still show.
const SHOWN: usize = 5;

impl Order {
    /// Reads a JSON list of names, or an object with one in `"tensors"`.
    ///
    /// # Errors
    /// A file that can't be read, or anything else in it.
    pub fn read(path: &Path) -> Result<Self, PackError> {
        let text = read_small(path, MAX_ORDER)?;
        let wrong = |got: String| PackError::Order {
            path: path.to_owned(),
            got,
        };
        let mut value: serde_json::Value =
            serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
        if let Some(tensors) = value.get_mut("tensors") {
            value = tensors.take();
        }
        serde_json::from_value(value)
            .map(Self)
            .map_err(|error| wrong(error.to_string()))
    }

    /// The positions of `tensors` in this order; those that it doesn't name follow in their own order.
    ///
    /// # Errors
    /// Names that no tensor has.
    pub(crate) fn arrange(&self, tensors: &[Tensor]) -> Result<Vec<usize>, PackError> {
        let positions: HashMap<&str, usize> = tensors
            .iter()
            .enumerate()
            .map(|(position, tensor)| (tensor.name.as_str(), position))
            .collect();
        let mut placed = vec![false; tensors.len()];
        let mut arranged = Vec::with_capacity(tensors.len());
        let mut unknown = Vec::new();
        for name in &self.0 {
            match positions.get(name.as_str()) {
                Some(&position) if !placed[position] => {
                    placed[position] = true;
                    arranged.push(position);
                }
                Some(_) => {}
                None => unknown.push(name.clone()),
            }
        }
        if !unknown.is_empty() {
            let count = unknown.len();
            unknown.truncate(SHOWN);
            return Err(PackError::UnknownNames {
                count,
                names: unknown,
            });
        }
        arranged.extend((0..tensors.len()).filter(|&position| !placed[position]));
        Ok(arranged)
    }
}
