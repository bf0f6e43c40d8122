//! The model's other files (configuration, tokenizer), which travel with its weights.

use std::path::{Path, PathBuf};

use serde_json::Value;
use weightstream_checkpoint::{CheckpointError, Dtype, inside};
use weightstream_source::read_small;

use crate::PackError;
use crate::journal::JOURNAL;

/// Endings of files that hold weights, in any format.
const WEIGHTS: [&str; 14] = [
    ".safetensors",
    ".safetensors.index.json",
    ".bin",
    ".bin.index.json",
    ".pt",
    ".pt2",
    ".pth",
    ".ckpt",
    ".gguf",
    ".h5",
    ".msgpack",
    ".onnx",
    ".onnx_data",
    ".weightstream",
];

/// Larger than a tokenizer, and than a page of pictures: what is larger are weights by another name.
const MAX_COMPANION: u64 = 1 << 30;

/// What configurations call the dtypes that packing converts.
const FLOATING: [&str; 4] = ["bfloat16", "float16", "float32", "float64"];

/// Folders within folders that are looked into: sentence-transformers and diffusers need one.
const DEPTH: usize = 3;

/// Copies what belongs to the checkpoint at `source` but holds no weights to `folder`. Where the weights become `dtype`,
/// the configurations say so.
///
/// # Errors
/// A file that is there already with another content is not replaced unless `overwrite`. Links are followed within the
/// checkpoint and to a hub cache's blobs, and refused otherwise.
pub fn copy(
    source: &Path,
    folder: &Path,
    dtype: Option<Dtype>,
    overwrite: bool,
) -> Result<(), PackError> {
    let root = if source.is_dir() {
        source
    } else {
        // A file of weights stands alone, unless a model's configuration lies beside it.
        let beside = source.parent().unwrap_or(Path::new("."));
        let beside = if beside.as_os_str().is_empty() {
            Path::new(".")
        } else {
            beside
        };
        if !beside.join("config.json").exists() {
            return Ok(());
        }
        beside
    };
    let mut files = Vec::new();
    list(root, Path::new(""), DEPTH, &mut files)?;
    for file in files {
        let mut content = read_small(&root.join(&file), MAX_COMPANION)?;
        if let Some(dtype) = dtype
            && file.file_name().is_some_and(|name| name == "config.json")
        {
            content = configured(content, dtype);
        }
        write(&folder.join(&file), &content, overwrite)?;
    }
    Ok(())
}

/// A model's configuration with `dtype` in place of the floating one that it names; what is none stays as it is.
fn configured(content: Vec<u8>, dtype: Dtype) -> Vec<u8> {
    let Ok(mut config) = serde_json::from_slice::<Value>(&content) else {
        return content;
    };
    let name = match dtype {
        Dtype::BF16 => "bfloat16",
        Dtype::F16 => "float16",
        Dtype::F32 => "float32",
        _ => return content,
    };
    if !rename_dtypes(&mut config, name) {
        return content;
    }
    format!("{config:#}\n").into_bytes()
}

/// Whether some part of the configuration named another one.
fn rename_dtypes(config: &mut Value, name: &str) -> bool {
    let Value::Object(fields) = config else {
        return false;
    };
    let mut changed = false;
    for (key, value) in fields {
        if ["dtype", "torch_dtype"].contains(&key.as_str())
            && value
                .as_str()
                .is_some_and(|old| FLOATING.contains(&old) && old != name)
        {
            *value = Value::String(name.to_owned());
            changed = true;
        }
        changed |= rename_dtypes(value, name);
    }
    changed
}

/// The paths of all such files below `root`, relative to it.
fn list(
    root: &Path,
    below: &Path,
    depth: usize,
    files: &mut Vec<PathBuf>,
) -> Result<(), PackError> {
    let folder = root.join(below);
    let entries = folder
        .read_dir()
        .map_err(PackError::io(&folder, "list the folder"))?;
    for entry in entries {
        let entry = entry.map_err(PackError::io(&folder, "list the folder"))?;
        let name = entry.file_name();
        let Some(text) = name.to_str() else { continue };
        let path = below.join(&name);
        if text.starts_with('.')
            || text == JOURNAL
            || WEIGHTS.iter().any(|ending| text.ends_with(ending))
        {
            continue;
        }
        let kind = entry
            .file_type()
            .map_err(PackError::io(&folder, "list the folder"))?;
        if kind.is_symlink() {
            inside(root, &path).map_err(CheckpointError::from)?;
            files.push(path);
        } else if kind.is_dir() && depth > 0 {
            list(root, &path, depth - 1, files)?;
        } else if kind.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(())
}

/// Writes a file that belongs to the checkpoint.
///
/// # Errors
/// One is there already with another content, and may not be replaced.
pub fn write(to: &Path, content: &[u8], overwrite: bool) -> Result<(), PackError> {
    match read_small(to, MAX_COMPANION) {
        Ok(present) if present == content => return Ok(()),
        Err(error) if error.is_missing() => {}
        _ if overwrite => {}
        Ok(_) => {
            return Err(PackError::Companion {
                path: to.to_owned(),
            });
        }
        Err(error) => return Err(error.into()),
    }
    if let Some(parent) = to.parent() {
        std::fs::create_dir_all(parent).map_err(PackError::io(parent, "make the folder"))?;
    }
    // Whole or not at all: half a file would be in the way of the next run.
    let partial = to.with_file_name(format!(
        "{}.partial",
        to.file_name().unwrap_or_default().to_string_lossy()
    ));
    std::fs::write(&partial, content).map_err(PackError::io(&partial, "write"))?;
    std::fs::rename(&partial, to).map_err(PackError::io(to, "write"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_names_what_the_weights_have_become() {
        let config = br#"{"dtype": "float32", "text_config": {"torch_dtype": "float16", "dtype": 7}, "name": "float32"}"#;
        let packed: Value =
            serde_json::from_slice(&configured(config.to_vec(), Dtype::BF16)).unwrap_or_default();
        let expected = serde_json::json!({
            "dtype": "bfloat16", "text_config": {"torch_dtype": "bfloat16", "dtype": 7}, "name": "float32"
        });
        assert_eq!(packed, expected);
        for untouched in [&b"{\"dtype\": \"bfloat16\"}"[..], b"{}", b"no JSON"] {
            assert_eq!(configured(untouched.to_vec(), Dtype::BF16), untouched);
        }
    }
}
