//! What opens, and what it says.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use common::{file, row, single, write};
use tempfile::tempdir;
use weightstream_checkpoint::{Checkpoint, CheckpointError, Dtype};
use weightstream_source::FileError;

fn names(checkpoint: &Checkpoint) -> Vec<&str> {
    let tensors = checkpoint.tensors.iter();
    tensors.map(|tensor| tensor.name.as_str()).collect()
}

fn file_names(checkpoint: &Checkpoint) -> Vec<&str> {
    let files = checkpoint
        .contents
        .iter()
        .map(|content| &content.files()[0].path);
    files
        .map(|file| file.file_name().unwrap().to_str().unwrap())
        .collect()
}

fn index(entries: &[(&str, &str)]) -> String {
    let entries: Vec<String> = entries
        .iter()
        .map(|(tensor, shard)| format!("{tensor:?}:{shard:?}"))
        .collect();
    format!(
        r#"{{"metadata":{{"total_size":8.5,"deep":[[{{}}]]}},"weight_map":{{{}}}}}"#,
        entries.join(",")
    )
}

#[test]
fn a_file_opens() {
    let folder = tempdir().unwrap();
    let header = r#"{"b":{"dtype":"BF16","shape":[2,3],"data_offsets":[4,16]},
        "__metadata__":{"format":"pt"},
        "e":{"dtype":"F32","shape":[0,7],"data_offsets":[16,16]},
        "a":{"data_offsets":[0,4],"dtype":"F32","shape":[],"later":{"x":[1]}},
        "h\u00e9":{"dtype":"F4","shape":[4],"data_offsets":[16,18]}}   "#;
    let path = write(folder.path(), "x.safetensors", file(header, 18));
    let checkpoint = Checkpoint::open(&path).unwrap();
    assert_eq!(checkpoint.paths(), [path]);
    assert_eq!(
        checkpoint.contents[0].length(),
        8 + header.len() as u64 + 18
    );
    assert_eq!(names(&checkpoint), ["a", "b", "e", "hé"]);
    assert_eq!(checkpoint.metadata["format"], "pt");
    let b = checkpoint.get("b").unwrap();
    assert_eq!((b.dtype, &b.shape[..]), (Dtype::BF16, &[2, 3][..]));
    assert_eq!((b.offset, b.length), (8 + header.len() as u64 + 4, 12));
    assert!(checkpoint.get("c").is_none());
}

#[test]
fn a_file_without_tensors_opens() {
    let folder = tempdir().unwrap();
    for header in ["{}", r#"{"__metadata__":{}}"#, r#"{"__metadata__":null}"#] {
        let path = write(folder.path(), "x.safetensors", file(header, 0));
        assert!(Checkpoint::open(&path).unwrap().tensors.is_empty());
    }
}

#[test]
fn folders_are_searched_in_the_order_of_loaders() {
    let folder = tempdir().unwrap();
    let here = folder.path();
    let opened = |name: &str| {
        let checkpoint = Checkpoint::open(here).unwrap();
        assert_eq!(names(&checkpoint), [name]);
    };
    write(here, "config.json", "{}");
    write(here, "adapter.safetensors", single("only"));
    opened("only");

    let diffusion = "diffusion_pytorch_model.safetensors";
    write(here, "d.safetensors", single("d"));
    write(
        here,
        &format!("{diffusion}.index.json"),
        index(&[("d", "d.safetensors")]),
    );
    opened("d");

    write(here, diffusion, single("diffusion"));
    opened("diffusion");

    write(here, "m.safetensors", single("m"));
    write(
        here,
        "model.safetensors.index.json",
        index(&[("m", "m.safetensors")]),
    );
    opened("m");

    write(here, "model.safetensors", single("model"));
    opened("model");
}

#[test]
fn an_index_of_another_name_is_found_where_it_is_the_only_one() {
    let folder = tempdir().unwrap();
    let here = folder.path();
    write(here, "a.safetensors", single("a"));
    write(here, "b.safetensors", single("b"));
    write(
        here,
        "other.safetensors.index.json",
        index(&[("b", "b.safetensors"), ("a", "a.safetensors")]),
    );
    let checkpoint = Checkpoint::open(here).unwrap();
    assert_eq!(file_names(&checkpoint), ["a.safetensors", "b.safetensors"]);
    assert_eq!(names(&checkpoint), ["a", "b"]);
}

#[test]
fn an_index_opens_its_shards_and_tensors_that_it_does_not_list() {
    let folder = tempdir().unwrap();
    let here = folder.path();
    let two = format!("{{{},{}}}", row("z", 0, 4), row("unlisted", 4, 8));
    write(here, "one.safetensors", file(&two, 8));
    write(here, "sub/two.safetensors", single("a"));
    write(here, "not-mine.safetensors", single("a"));
    let path = write(
        here,
        "model.safetensors.index.json",
        index(&[("a", "sub/two.safetensors"), ("z", "one.safetensors")]),
    );
    let checkpoint = Checkpoint::open(&path).unwrap();
    assert_eq!(
        file_names(&checkpoint),
        ["one.safetensors", "two.safetensors"]
    );
    assert_eq!(names(&checkpoint), ["z", "unlisted", "a"]);
    assert_eq!(checkpoint.get("a").unwrap().file, 1);
}

#[test]
fn the_first_shard_has_the_word_on_metadata() {
    let folder = tempdir().unwrap();
    for (number, header) in [
        (1, r#"{"__metadata__":{"format":"pt","a":"1"}}"#),
        (2, r#"{"__metadata__":{"format":"np","b":"2"}}"#),
    ] {
        let name = format!("m-0000{number}-of-00002.safetensors");
        write(folder.path(), &name, file(header, 0));
    }
    let metadata = Checkpoint::open(folder.path()).unwrap().metadata;
    assert_eq!(metadata["format"], "pt");
    assert_eq!((&*metadata["a"], &*metadata["b"]), ("1", "2"));
}

#[test]
fn shards_without_an_index_open_where_all_are_there() {
    let folder = tempdir().unwrap();
    let here = folder.path();
    let shard = |number| format!("m-of-x-{number:05}-of-00003.safetensors");
    write(here, &shard(1), single("a"));
    let missing = |number| match Checkpoint::open(here).unwrap_err() {
        CheckpointError::IncompleteShards {
            missing,
            expected: 3,
            ..
        } => assert_eq!(missing, shard(number)),
        error => panic!("{error}"),
    };
    missing(2);
    write(here, &shard(3), single("c"));
    missing(2);
    write(here, &shard(2), single("b"));
    assert_eq!(names(&Checkpoint::open(here).unwrap()), ["a", "b", "c"]);
    fs::remove_file(here.join(shard(1))).unwrap();
    missing(1);
    write(here, &shard(1), single("a"));

    for stranger in [
        "consolidated.safetensors",
        &shard(4),
        &shard(0),
        "m-of-x-1-of-00003.safetensors",
        "other-00001-of-00003.safetensors",
    ] {
        let path = write(here, stranger, single("s"));
        let error = Checkpoint::open(here).unwrap_err();
        assert!(
            matches!(
                error,
                CheckpointError::SeveralFiles { .. } | CheckpointError::IncompleteShards { .. }
            ),
            "{stranger}: {error}"
        );
        fs::remove_file(path).unwrap();
    }
}

#[test]
fn a_folder_without_a_checkpoint_says_what_it_looked_for() {
    let folder = tempdir().unwrap();
    write(folder.path(), "tokenizer.model", "x");
    let error = Checkpoint::open(folder.path()).unwrap_err();
    assert!(matches!(error, CheckpointError::NoCheckpoint { .. }));
    assert!(error.to_string().contains("expected model.safetensors"));
    write(folder.path(), "a.safetensors", single("a"));
    write(folder.path(), "b.safetensors", single("b"));
    let error = Checkpoint::open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("a.safetensors, b.safetensors"), "{error}");
}

#[cfg(unix)]
#[test]
fn links_of_a_hub_cache_are_followed() {
    use std::os::unix::fs::symlink;
    let folder = tempdir().unwrap();
    let here = folder.path();
    write(here, "blobs/1", single("a"));
    write(here, "blobs/2", index(&[("a", "m.safetensors")]));
    fs::create_dir_all(here.join("snapshots/x")).unwrap();
    let snapshot = here.join("snapshots/x");
    symlink("../../blobs/1", snapshot.join("m.safetensors")).unwrap();
    let path = snapshot.join("model.safetensors.index.json");
    symlink("../../blobs/2", &path).unwrap();
    for path in [&path, &snapshot] {
        let checkpoint = Checkpoint::open(path).unwrap();
        assert_eq!(checkpoint.paths(), [snapshot.join("m.safetensors")]);
    }
    fs::remove_file(here.join("blobs/2")).unwrap();
    let error = Checkpoint::open(&snapshot).unwrap_err();
    assert!(
        matches!(&error, CheckpointError::File(FileError::Io { path: file, .. }) if *file == path)
    );
}

#[test]
fn a_path_that_is_no_file_is_named() {
    let folder = tempdir().unwrap();
    let error = Checkpoint::open(&folder.path().join("none.safetensors")).unwrap_err();
    assert!(matches!(&error, CheckpointError::NoCheckpoint { .. }));
    assert!(error.to_string().contains("none.safetensors"));
    #[cfg(unix)]
    {
        let error = Checkpoint::open(Path::new("/dev/null")).unwrap_err();
        assert!(matches!(
            error,
            CheckpointError::File(FileError::NotRegular { .. })
        ));
    }
}

/// A sparse file of `tensors` tensors of 1 MiB.
fn sparse_shard(path: &Path, shard: u32, tensors: u64) {
    let each = 1 << 20;
    let rows: Vec<String> = (0..tensors)
        .map(|number| {
            let name = format!("model.layers.{shard}.mlp.experts.{number}.up_proj.weight");
            row(&name, number * each, (number + 1) * each)
        })
        .collect();
    let bytes = file(&format!("{{{}}}", rows.join(",")), 0);
    let mut file = File::create(path).unwrap();
    file.write_all(&bytes).unwrap();
    file.set_len(bytes.len() as u64 + tensors * each).unwrap();
}

#[test]
fn a_hundred_gigabytes_open() {
    let folder = tempdir().unwrap();
    for shard in 1..=20 {
        let name = format!("model-{shard:05}-of-00020.safetensors");
        sparse_shard(&folder.path().join(name), shard, 5000);
    }
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    assert_eq!(checkpoint.tensors.len(), 100_000);
    assert!(
        checkpoint
            .contents
            .iter()
            .map(|content| content.length())
            .sum::<u64>()
            > 100_000 << 20
    );
    let name = "model.layers.20.mlp.experts.4999.up_proj.weight";
    assert_eq!(checkpoint.get(name).unwrap().file, 19);
}
