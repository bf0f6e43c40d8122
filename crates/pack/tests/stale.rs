//! What an earlier run has left is used only where it was made of the very same files, and only after it was read.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod common;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use common::{model, options, quiet, replace, set_time, tensors};
use tempfile::{TempDir, tempdir};
use weightstream_checkpoint::packed::Packed;
use weightstream_pack::{Options, PackError, Report, UnpackOptions, pack, unpack, verify};

const DATA: &str = "chunks-00001.weightstream";

/// A folder, a source of the model of seed 1 in it, and where it is to be packed.
fn start() -> (TempDir, PathBuf, PathBuf) {
    let folder = tempdir().unwrap();
    let source = folder.path().join("model.safetensors");
    replace(&source, 1);
    let destination = folder.path().join("packed");
    (folder, source, destination)
}

/// Packs, and stops where the second chunk is done.
fn interrupt(source: &Path, destination: &Path) {
    let count = AtomicU32::new(0);
    let stopped = std::panic::catch_unwind(|| {
        pack(source, destination, &options(), &|_| {
            assert!(count.fetch_add(1, Ordering::Relaxed) < 2, "stopped");
        })
    });
    assert!(stopped.is_err() && Packed::open(destination).is_err());
}

/// That the packed checkpoint is right to the last byte, and is the model of seed `seed`.
fn assert_is_model(destination: &Path, seed: u64) {
    let packed = Packed::open(destination).unwrap();
    assert_eq!(verify(&packed, 1, &quiet).unwrap(), (0, vec![]));
    let back = tempdir().unwrap();
    unpack(destination, back.path(), &UnpackOptions::default(), &quiet).unwrap();
    let file = fs::read(back.path().join("model.safetensors")).unwrap();
    assert!(tensors(&file) == tensors(&model(seed)), "another model");
}

#[test]
fn a_run_goes_on_only_over_the_same_file() {
    for (in_place, resumed, seed) in [
        (None, true, 1),
        (Some(false), false, 2),
        (Some(true), false, 2),
    ] {
        let (_folder, source, destination) = start();
        interrupt(&source, &destination);
        match in_place {
            Some(true) => {
                fs::write(&source, model(2)).unwrap();
                set_time(&source);
            }
            Some(false) => replace(&source, 2),
            None => {}
        }
        let report = pack(&source, &destination, &options(), &quiet).unwrap();
        assert_eq!(report.resumed > 0, resumed, "{in_place:?}");
        assert_is_model(&destination, seed);
    }
}

#[test]
fn a_journal_of_another_version_is_begun_anew() {
    let (_folder, source, destination) = start();
    interrupt(&source, &destination);
    let journal = File::options()
        .write(true)
        .open(destination.join("packing.journal"))
        .unwrap();
    journal.write_all_at(&[7; 32], 0).unwrap();
    let report = pack(&source, &destination, &options(), &quiet).unwrap();
    assert_eq!(report.resumed, 0);
    assert_is_model(&destination, 1);
}

#[test]
fn a_source_that_is_replaced_while_it_is_packed_is_an_error() {
    for when in [0, 3] {
        let (_folder, source, destination) = start();
        let count = AtomicU32::new(0);
        let replaced = pack(&source, &destination, &options(), &|_| {
            if count.fetch_add(1, Ordering::Relaxed) == when {
                replace(&source, 2);
            }
        });
        assert!(
            matches!(replaced, Err(PackError::Changed { .. })),
            "{replaced:?}"
        );
        assert!(Packed::open(&destination).is_err());
        pack(&source, &destination, &options(), &quiet).unwrap();
        assert_is_model(&destination, 2);
    }
}

#[test]
fn a_finished_one_of_a_source_that_was_replaced_is_another_one() {
    let (_folder, source, destination) = start();
    pack(&source, &destination, &options(), &quiet).unwrap();
    replace(&source, 2);
    let refused = pack(&source, &destination, &options(), &quiet);
    assert!(
        matches!(refused, Err(PackError::Exists { .. })),
        "{refused:?}"
    );
    assert_is_model(&destination, 1);
}

fn pack_again(source: &Path, destination: &Path, overwrite: bool) -> Report {
    let options = Options {
        overwrite,
        ..options()
    };
    pack(source, destination, &options, &quiet).unwrap()
}

#[test]
fn what_is_damaged_is_written_again() {
    let flip = |path: &Path, position: u64| {
        let file = File::options().read(true).write(true).open(path).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, position).unwrap();
        file.write_all_at(&[byte[0] ^ 1], position).unwrap();
    };
    let damages: [&dyn Fn(&Path); 5] = [
        &|path| flip(path, 5000),
        &|path| {
            flip(path, 70);
            flip(path, 400_000);
        },
        &|path| {
            let length = fs::metadata(path).unwrap().len() as usize;
            fs::write(path, vec![0; length]).unwrap();
        },
        &|path| {
            let file = File::options().write(true).open(path).unwrap();
            file.set_len(300_000).unwrap();
        },
        &|path| fs::remove_file(path).unwrap(),
    ];
    for (number, damage) in damages.into_iter().enumerate() {
        for overwrite in [false, true] {
            let (_folder, source, destination) = start();
            let first = pack(&source, &destination, &options(), &quiet).unwrap();
            let again = pack_again(&source, &destination, false);
            assert!(again.complete && !first.complete);
            damage(&destination.join(DATA));
            let report = pack_again(&source, &destination, overwrite);
            assert!(!report.complete && report.resumed < report.weights);
            assert_eq!(
                report.resumed > 0,
                number != 2 && number != 4 && !overwrite,
                "{number}"
            );
            assert_eq!(report.digest, first.digest);
            assert_is_model(&destination, 1);
        }
    }
}

#[test]
fn overwriting_writes_whatever_is_there() {
    let (folder, source, destination) = start();
    fs::write(folder.path().join("config.json"), "{}").unwrap();
    pack(&source, &destination, &options(), &quiet).unwrap();
    let report = pack_again(&source, &destination, true);
    assert!(!report.complete && report.resumed == 0);
    replace(&source, 2);
    fs::write(folder.path().join("config.json"), "{2}").unwrap();
    let report = pack_again(&source, &destination, true);
    assert!(!report.complete && report.resumed == 0);
    assert_is_model(&destination, 2);
    assert_eq!(
        fs::read_to_string(destination.join("config.json")).unwrap(),
        "{2}"
    );
}
