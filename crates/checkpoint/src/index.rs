use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use weightstream_source::open_regular;

use crate::packed::Packed;
use crate::{CheckpointError, Content, Dtype, gguf, huggingface, safetensors, torch};

/// One tensor of a checkpoint, as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// Its name in the checkpoint.
    pub name: String,
    /// What one element is.
    pub dtype: Dtype,
    /// Elements along each dimension; empty for a scalar.
    pub shape: Vec<u64>,
    /// Index into [`Checkpoint::contents`].
    pub file: u32,
    /// Where its bytes begin, from the start of the content.
    pub offset: u64,
    /// How many bytes it has.
    pub length: u64,
}

/// An index of a checkpoint, from headers alone.
///
/// Every tensor lies within its content, and that within its file as the file was when it was opened.
#[derive(Debug, Clone, Default)]
pub struct Checkpoint {
    /// What the files hold.
    pub contents: Vec<Content>,
    /// All tensors, in the order of (file, offset).
    pub tensors: Vec<Tensor>,
    /// What the files say of themselves; where shards differ, the first one's word.
    pub metadata: BTreeMap<String, String>,
    /// The packed checkpoint that this is an index of, if it is one. `contents` is one content then: all its
    /// weights as they are decoded; tied tensors share their bytes there.
    pub packed: Option<Arc<Packed>>,
    /// What its files say of each other that isn't so, and that does no harm: for the user to know, once.
    pub notes: Vec<String>,
    by_name: Vec<usize>,
}

impl Checkpoint {
    /// Opens a `.safetensors`, `.pt`, `.bin` or `.pt2` file, the JSON index of a sharded checkpoint, the manifest of a packed
    /// checkpoint, or a folder that holds one of these.
    ///
    /// # Errors
    /// Anything about the files that would make reading a tensor wrong or impossible.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        if Packed::is_at(path) {
            return Self::of_packed(Packed::open(path)?);
        }
        let found = huggingface::locate(path)?;
        let mut checkpoint = Checkpoint::default();
        for file in found.files {
            checkpoint.add(&file)?;
        }
        checkpoint.take_last();
        if let Some(index) = found.index {
            checkpoint.notes.extend(index.mistakes(&checkpoint));
        }
        Ok(checkpoint)
    }

    fn of_packed(packed: Packed) -> Result<Self, CheckpointError> {
        let mut tensors = packed.tensors().to_vec();
        tensors.sort_by_key(|tensor| (tensor.offset, tensor.length));
        let content = packed
            .content()
            .map_err(|source| CheckpointError::Content {
                file: packed.path().to_owned(),
                source,
            })?;
        Ok(Checkpoint {
            contents: vec![content],
            by_name: sorted_by_name(&tensors),
            tensors,
            metadata: packed.metadata().clone(),
            packed: Some(Arc::new(packed)),
            notes: Vec::new(),
        })
    }

    /// The tensor of that name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        let place = self
            .by_name
            .binary_search_by(|&tensor| self.tensors[tensor].name.as_str().cmp(name))
            .ok()?;
        self.tensors.get(self.by_name[place])
    }

    /// The path of each content's file.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.contents.iter().map(|content| content.path()).collect()
    }

    /// The path of the file that holds `tensor`.
    pub(crate) fn file_of(&self, tensor: &Tensor) -> PathBuf {
        self.contents[tensor.file as usize].path()
    }

    fn add(&mut self, path: &Path) -> Result<(), CheckpointError> {
        let header = read_header(path, self.contents.len() as u32)?;
        for (key, value) in header.metadata {
            self.metadata.entry(key).or_insert(value);
        }
        self.tensors.extend(header.tensors);
        self.contents.extend(header.contents);
        Ok(())
    }

    /// Of tensors of one name takes that of the last shard, as libraries do, which load one shard after another.
    fn take_last(&mut self) {
        self.by_name = sorted_by_name(&self.tensors);
        let (mut dropped, mut first) = (BTreeSet::new(), None);
        for pair in self.by_name.windows(2) {
            let (one, other) = (&self.tensors[pair[0]], &self.tensors[pair[1]]);
            if one.name == other.name {
                dropped.insert(pair[0]);
                first.get_or_insert_with(|| {
                    let files = (self.file_of(one), self.file_of(other));
                    format!(
                        "tensor {:?}: expected in one shard, got it in {} and in {}, which is taken",
                        one.name,
                        files.0.display(),
                        files.1.display()
                    )
                });
            }
        }
        if let Some(first) = first {
            let more = match dropped.len() - 1 {
                0 => String::new(),
                count => format!(" (and {count} more)"),
            };
            self.notes.push(first + &more);
            let mut place = 0..;
            self.tensors
                .retain(|_| place.next().is_some_and(|place| !dropped.contains(&place)));
            self.by_name = sorted_by_name(&self.tensors);
        }
    }
}

/// What the header of one file says, checked against the file's length.
pub(crate) struct Header {
    pub tensors: Vec<Tensor>,
    pub metadata: BTreeMap<String, String>,
    pub contents: Vec<Content>,
}

/// Reads the header of a file in whatever format it has. Its first content will be number `content`.
fn read_header(path: &Path, content: u32) -> Result<Header, CheckpointError> {
    let (file, _) = open_regular(path)?;
    let mut start = Vec::with_capacity(16);
    file.take(16)
        .read_to_end(&mut start)
        .map_err(|source| CheckpointError::Io {
            file: path.to_owned(),
            action: "read the header",
            source,
        })?;
    if start.starts_with(gguf::MAGIC) {
        return gguf::read(path, content);
    }
    // A safetensors file begins with any eight bytes, and then with its JSON.
    let is_safetensors = start.get(8) == Some(&b'{');
    if start.starts_with(torch::ZIP) && !is_safetensors {
        torch::read(path, content)
    } else if start.starts_with(torch::LEGACY) && !is_safetensors {
        Err(torch::refuse_legacy(path))
    } else {
        safetensors::read(path, content)
    }
}

/// Positions in `tensors`, sorted by name; equal names in the order of `tensors`.
pub(crate) fn sorted_by_name(tensors: &[Tensor]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..tensors.len()).collect();
    order.sort_by(|&a, &b| tensors[a].name.cmp(&tensors[b].name));
    order
}
