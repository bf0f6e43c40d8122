//! Which files make up a checkpoint: a file, a folder in Hugging Face layout, or an index of shards.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Component, Path, PathBuf};

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};

use weightstream_source::read_small;

use crate::safetensors::parse_json;
use crate::{Checkpoint, CheckpointError, inside};

/// Names that transformers and diffusers look for, in their order.
const NAMES: [&str; 8] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "diffusion_pytorch_model.bin",
    "diffusion_pytorch_model.bin.index.json",
];

/// What a checkpoint may be.
const ANYWHERE: &str = "a model's folder, a file of weights, or an index of shards";

/// What a folder must have.
const IN_FOLDER: &str = "model.safetensors, diffusion_pytorch_model.safetensors, pytorch_model.bin or the .index.json of \
                         one of them, or one *.safetensors";

/// As large as a header may be; an index of a million tensors is smaller.
const MAX_INDEX: u64 = 100_000_000;

/// The files of a checkpoint and the index that named them, if one did.
pub(crate) struct Located {
    pub files: Vec<PathBuf>,
    pub index: Option<ShardIndex>,
}

/// Finds the files of the checkpoint at `path`.
pub(crate) fn locate(path: &Path) -> Result<Located, CheckpointError> {
    if path.is_dir() {
        locate_in_folder(path)
    } else if !path.exists() {
        Err(CheckpointError::nothing_like(ANYWHERE, path))
    } else {
        locate_file(path.to_owned())
    }
}

fn locate_file(path: PathBuf) -> Result<Located, CheckpointError> {
    if path
        .extension()
        .is_some_and(|extension| extension == "json")
    {
        let index = ShardIndex::read(path)?;
        Ok(Located {
            files: index.files()?,
            index: Some(index),
        })
    } else {
        Ok(Located {
            files: vec![path],
            index: None,
        })
    }
}

fn locate_in_folder(folder: &Path) -> Result<Located, CheckpointError> {
    for name in NAMES {
        // A broken link counts as there: opening it then says what is wrong.
        if folder.join(name).symlink_metadata().is_ok() {
            return locate_file(inside(folder, name)?);
        }
    }
    let names = names_in(folder)?;
    let ending = |ending: &str| -> Vec<&String> {
        names.iter().filter(|name| name.ends_with(ending)).collect()
    };
    if let [index] = ending(".safetensors.index.json")[..] {
        return locate_file(inside(folder, index)?);
    }
    let files = ending(".safetensors");
    match files[..] {
        [] => Err(CheckpointError::nothing_like(IN_FOLDER, folder)),
        [file] if Shard::parse(file).is_none() => locate_file(inside(folder, file)?),
        _ => {
            refuse_incomplete(folder, &files)?;
            let files = files.into_iter().map(|file| inside(folder, file));
            Ok(Located {
                files: files.collect::<Result<_, _>>()?,
                index: None,
            })
        }
    }
}

/// The folder's file names, sorted; what is not UTF-8 cannot be a name we look for.
fn names_in(folder: &Path) -> Result<Vec<String>, CheckpointError> {
    let failed = |source| CheckpointError::Io {
        file: folder.to_owned(),
        action: "list the folder",
        source,
    };
    let mut names = Vec::new();
    for entry in folder.read_dir().map_err(failed)? {
        if let Ok(name) = entry.map_err(failed)?.file_name().into_string() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// What a name like `model-00001-of-00004.safetensors` says.
#[derive(Clone, Copy)]
struct Shard<'n> {
    family: &'n str,
    number: u64,
    digits: usize,
    count: &'n str,
}

impl<'n> Shard<'n> {
    fn parse(name: &'n str) -> Option<Self> {
        let (rest, count) = name.strip_suffix(".safetensors")?.rsplit_once("-of-")?;
        let (family, number) = rest.rsplit_once('-')?;
        let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        (all_digits(number) && all_digits(count)).then_some(Shard {
            family,
            number: number.parse().ok()?,
            digits: number.len(),
            count,
        })
    }

    fn name(&self, number: u64) -> String {
        let Shard {
            family,
            digits,
            count,
            ..
        } = self;
        format!("{family}-{number:0digits$}-of-{count}.safetensors")
    }
}

/// `files`, sorted, must be all the shards of one checkpoint and nothing else.
fn refuse_incomplete(folder: &Path, files: &[&String]) -> Result<(), CheckpointError> {
    let several = || CheckpointError::SeveralFiles {
        folder: folder.to_owned(),
        files: files.iter().map(|file| file.to_string()).collect(),
    };
    let shards: Vec<Shard<'_>> = files
        .iter()
        .map(|file| Shard::parse(file))
        .collect::<Option<_>>()
        .ok_or_else(several)?;
    let first = *shards.first().ok_or_else(several)?;
    let alike = |shard: &Shard<'_>| {
        (shard.family, shard.digits, shard.count) == (first.family, first.digits, first.count)
    };
    let count: u64 = first.count.parse().map_err(|_| several())?;
    if !shards.iter().all(alike) || shards.iter().any(|shard| shard.number > count) {
        return Err(several());
    }
    // Names of one family and width sort by number.
    let missing = shards
        .iter()
        .map(|shard| shard.number)
        .zip(1..)
        .find(|(number, expected)| number != expected)
        .map(|(_, expected)| expected)
        .or((shards.len() as u64 != count).then_some(shards.len() as u64 + 1));
    match missing {
        None => Ok(()),
        Some(number) => Err(CheckpointError::IncompleteShards {
            folder: folder.to_owned(),
            shard: first.name(first.number),
            missing: first.name(number),
            expected: count,
            got: shards.len() as u64,
        }),
    }
}

/// Which shard holds which tensor, by the word of a `*.safetensors.index.json`.
pub(crate) struct ShardIndex {
    path: PathBuf,
    /// Shard names, sorted.
    shards: Vec<String>,
    /// Each tensor with the position of its shard, sorted by name.
    weights: Vec<(String, usize)>,
}

impl ShardIndex {
    fn read(path: PathBuf) -> Result<Self, CheckpointError> {
        let json = read_small(&path, MAX_INDEX)?;
        let WeightMap {
            shards: named,
            mut weights,
        } = parse_json(&path, &json, IndexSeed)?;

        // Shards were numbered as they appeared; number them by name, each once.
        let shards: BTreeSet<String> = named.keys().map(|name| plain(name)).collect();
        let shards: Vec<String> = shards.into_iter().collect();
        let mut renumbered = vec![0; named.len()];
        for (name, number) in named {
            let name = plain(&name);
            renumbered[number] = shards.partition_point(|shard| *shard < name);
        }
        for (_, shard) in &mut weights {
            *shard = renumbered[*shard];
        }
        weights.sort();
        Ok(ShardIndex {
            path,
            shards,
            weights,
        })
    }

    /// The shards' paths, each inside the index's folder and there.
    fn files(&self) -> Result<Vec<PathBuf>, CheckpointError> {
        let folder = self.path.parent().unwrap_or(Path::new(""));
        let mut files = Vec::with_capacity(self.shards.len());
        for (position, shard) in self.shards.iter().enumerate() {
            let tensor = || {
                let named = self.weights.iter().find(|(_, shard)| *shard == position);
                named.map_or(String::new(), |(tensor, _)| tensor.clone())
            };
            let file = inside(folder, shard).map_err(|source| CheckpointError::ShardOutside {
                index: self.path.clone(),
                tensor: tensor(),
                source,
            })?;
            if !file.exists() {
                return Err(CheckpointError::MissingShard {
                    index: self.path.clone(),
                    tensor: tensor(),
                    shard: shard.clone(),
                });
            }
            files.push(file);
        }
        Ok(files)
    }

    /// Where the index is wrong about `checkpoint`, in words. Libraries take what the shards hold and ask the index
    /// only for their names, and so do we; a tensor that a model lacks then is told of where it is wanted.
    pub(crate) fn mistakes(&self, checkpoint: &Checkpoint) -> Option<String> {
        let mut wrong = self.weights.iter().filter_map(|(name, shard)| {
            let found = checkpoint.get(name);
            if found.is_some_and(|tensor| tensor.file as usize == *shard) {
                return None;
            }
            let place = found.map_or("no shard".to_owned(), |tensor| {
                checkpoint.file_of(tensor).display().to_string()
            });
            let expected = &self.shards[*shard];
            Some(format!(
                "tensor {name:?}: expected in {expected:?}, got it in {place}"
            ))
        });
        let first = wrong.next()?;
        let more = match wrong.count() {
            0 => String::new(),
            count => format!(", and {count} more like it"),
        };
        Some(format!("{}: {first}{more}", self.path.display()))
    }
}

/// A shard's name without steps to where it is already; one that leads elsewhere as it is.
fn plain(name: &str) -> String {
    let mut parts = Path::new(name).components().peekable();
    while parts.next_if_eq(&Component::CurDir).is_some() {}
    match parts.peek() {
        Some(Component::Normal(_)) => parts.collect::<PathBuf>().to_string_lossy().into_owned(),
        _ => name.to_owned(),
    }
}

/// `weight_map` as it is parsed: shards numbered as they appear, so that their names are kept once.
#[derive(Default)]
struct WeightMap {
    shards: BTreeMap<String, usize>,
    weights: Vec<(String, usize)>,
}

struct IndexSeed;

impl<'de> DeserializeSeed<'de> for IndexSeed {
    type Value = WeightMap;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<WeightMap, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for IndexSeed {
    type Value = WeightMap;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an index: an object with a weight_map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<WeightMap, A::Error> {
        let mut found: Option<WeightMap> = None;
        while let Some(key) = map.next_key::<String>()? {
            if key != "weight_map" {
                map.next_value::<IgnoredAny>()?;
            } else if found.is_some() {
                return Err(A::Error::duplicate_field("weight_map"));
            } else {
                found = Some(map.next_value_seed(WeightMapSeed)?);
            }
        }
        found.ok_or_else(|| A::Error::missing_field("weight_map"))
    }
}

struct WeightMapSeed;

impl<'de> DeserializeSeed<'de> for WeightMapSeed {
    type Value = WeightMap;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<WeightMap, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for WeightMapSeed {
    type Value = WeightMap;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a weight_map: an object from tensor to shard")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<WeightMap, A::Error> {
        let mut found = WeightMap::default();
        while let Some((tensor, shard)) = map.next_entry::<String, String>()? {
            let next = found.shards.len();
            let shard = *found.shards.entry(shard).or_insert(next);
            found.weights.push((tensor, shard));
        }
        Ok(found)
    }
}
