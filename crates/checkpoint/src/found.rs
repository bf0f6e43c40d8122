//! What lies where a checkpoint was expected, in words that say what to do instead.

use std::fmt::Write;
use std::path::{Component, Path};

use crate::packed::MANIFEST;

/// Parts of a pipeline that are named.
const SHOWN: usize = 8;

/// What is at `path`, and what to do with it: for errors about paths that are not what was expected.
pub fn found_at(path: &Path) -> String {
    if !path.exists() {
        return nothing(path);
    }
    let has = |name: &str| path.join(name).exists();
    if !path.is_dir() {
        return "a file; weightstream.stream and the commands take files of weights, weightstream.Program and \
                `weightstream run` .pt2 files"
            .to_owned();
    }
    if has("model_index.json") {
        return format!(
            "the folder of a pipeline, whose models are opened one by one{}",
            parts(path)
        );
    }
    if has("adapter_config.json") && !has("config.json") {
        return "an adapter alone; merge it into its base model (peft: merge_and_unload, then save_pretrained) and open \
                that folder"
            .to_owned();
    }
    if has(MANIFEST) {
        return "the folder of a packed checkpoint".to_owned();
    }
    if has("config.json") {
        return "the folder of a model; weightstream.load opens it".to_owned();
    }
    "a folder without any of that".to_owned()
}

fn nothing(path: &Path) -> String {
    let mut parts = path.components();
    let first = parts.next();
    if matches!(first, Some(Component::Normal(name)) if name.to_string_lossy().starts_with('~')) {
        return "nothing there; a shell makes a folder of ~, weightstream doesn't: write it out, or use \
                os.path.expanduser"
            .to_owned();
    }
    let second = parts.next();
    // As on Hugging Face's hub: an owner and a name.
    let two = matches!(
        (first, second, parts.next()),
        (Some(Component::Normal(_)), Some(Component::Normal(_)), None)
    );
    if two {
        return format!(
            "nothing there; where {:?} is a repository of a hub, download it first \
             (huggingface_hub.snapshot_download) and give the folder",
            path.display().to_string()
        );
    }
    "nothing there".to_owned()
}

/// The pipeline's folders with models, as far as they are few.
fn parts(folder: &Path) -> String {
    let entries = folder.read_dir().into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter(|entry| entry.path().join("config.json").exists())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names.truncate(SHOWN);
    let mut text = String::new();
    if !names.is_empty() {
        let _ = write!(text, ": {}", names.join(", "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{create_dir, write};

    #[test]
    fn what_was_found_is_told_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let here = folder.path();
        for (path, said) in [
            (Path::new("~/model"), "os.path.expanduser"),
            (Path::new("owner/model"), "snapshot_download"),
            (&here.join("none"), "nothing there"),
            (here, "a folder without any of that"),
        ] {
            assert!(
                found_at(path).contains(said),
                "{path:?}: {}",
                found_at(path)
            );
        }
        let holds = |name: &str, said: &str| {
            write(here.join(name), "{}").unwrap();
            assert!(found_at(here).contains(said), "{}", found_at(here));
        };
        holds("adapter_config.json", "an adapter alone");
        holds("config.json", "the folder of a model");
        holds(MANIFEST, "a packed checkpoint");
        create_dir(here.join("unet")).unwrap();
        holds("unet/config.json", "a packed checkpoint");
        holds("model_index.json", "one by one: unet");
        assert!(found_at(&here.join("config.json")).contains("a file"));
    }
}
