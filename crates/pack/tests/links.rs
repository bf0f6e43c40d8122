//! What travels along with weights lies in the model's folder, or in the cache of the hub that this is part of.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use common::{options, quiet, replace};
use tempfile::tempdir;
use weightstream_pack::{PackError, pack};

#[test]
fn links_that_lead_out_of_the_folder_are_refused() {
    let links: [(&str, &str); 5] = [
        ("docs", "../secrets"),
        ("notes.txt", "../secrets/shadow"),
        ("inside", "folder"),
        ("lost.txt", "nothing"),
        ("folder/deep.txt", "../../secrets/shadow"),
    ];
    for (link, target) in links {
        let folder = tempdir().unwrap();
        fs::create_dir(folder.path().join("secrets")).unwrap();
        fs::write(folder.path().join("secrets/shadow"), "root").unwrap();
        let source = folder.path().join("source");
        fs::create_dir_all(source.join("folder")).unwrap();
        replace(&source.join("model.safetensors"), 1);
        symlink(target, source.join(link)).unwrap();
        let destination = folder.path().join("packed");
        let refused = pack(&source, &destination, &options(), &quiet).unwrap_err();
        assert!(refused.to_string().contains(link), "{refused}");
        assert!(matches!(
            refused,
            PackError::Checkpoint(_) | PackError::File(_)
        ));
        assert!(!destination.join("docs").exists() && !destination.join(link).exists());
    }
}

#[test]
fn links_within_the_folder_and_to_a_caches_blobs_are_followed() {
    let cache = tempdir().unwrap();
    let (blobs, snapshot) = (cache.path().join("blobs"), cache.path().join("snapshots/1"));
    fs::create_dir_all(&blobs).unwrap();
    fs::create_dir_all(snapshot.join("1_Pooling")).unwrap();
    replace(&blobs.join("aa"), 1);
    for (blob, text) in [("bb", "{}"), ("cc", "{1}")] {
        fs::write(blobs.join(blob), text).unwrap();
    }
    symlink("../../blobs/aa", snapshot.join("model.safetensors")).unwrap();
    symlink("../../blobs/bb", snapshot.join("config.json")).unwrap();
    symlink("../../../blobs/cc", snapshot.join("1_Pooling/config.json")).unwrap();
    symlink("config.json", snapshot.join("alias.json")).unwrap();
    let destination = cache.path().join("packed");
    pack(&snapshot, &destination, &options(), &quiet).unwrap();
    let text = |path: &str| fs::read_to_string(destination.join(Path::new(path))).unwrap();
    assert_eq!(text("config.json"), "{}");
    assert_eq!(text("alias.json"), "{}");
    assert_eq!(text("1_Pooling/config.json"), "{1}");
}
