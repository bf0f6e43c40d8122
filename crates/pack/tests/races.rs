//! Several that write into one folder at once: one does, the others are told, and what is there is right.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod common;

use std::fs;
use std::sync::Barrier;
use std::thread;

use common::{model, options, quiet, replace, tensors};
use tempfile::tempdir;
use weightstream_checkpoint::packed::Packed;
use weightstream_pack::{PackError, UnpackOptions, pack, unpack, verify};

const RACERS: usize = 3;

/// How often each race is run.
fn rounds() -> u32 {
    let given = std::env::var("WEIGHTSTREAM_RACES");
    given.map_or(3, |count| count.parse().unwrap())
}

/// Does `work` in several threads at once; gives the numbers of those that succeeded. The others were told that
/// someone is or was there.
fn race<T>(work: impl Fn(usize) -> Result<T, PackError> + Sync) -> Vec<usize> {
    let together = Barrier::new(RACERS);
    let run = |racer| {
        together.wait();
        match work(racer) {
            Ok(_) => Some(racer),
            Err(PackError::Busy { .. } | PackError::NotEmpty { .. } | PackError::Exists { .. }) => {
                None
            }
            Err(error) => unreachable!("{error}"),
        }
    };
    thread::scope(|scope| {
        let racers: Vec<_> = (0..RACERS)
            .map(|racer| scope.spawn(move || run(racer)))
            .collect();
        let outcomes = racers.into_iter().filter_map(|racer| racer.join().unwrap());
        outcomes.collect()
    })
}

#[test]
fn unpacking_into_one_folder() {
    let folder = tempdir().unwrap();
    let mut packed = Vec::new();
    for racer in 0..RACERS {
        let source = folder.path().join(format!("{racer}.safetensors"));
        replace(&source, racer as u64);
        packed.push(folder.path().join(format!("packed-{racer}")));
        pack(&source, &packed[racer], &options(), &quiet).unwrap();
    }
    for round in 0..rounds() {
        let destination = folder.path().join(format!("unpacked-{round}"));
        let options = UnpackOptions::default();
        let done = race(|racer| unpack(&packed[racer], &destination, &options, &quiet));
        let [winner] = done[..] else {
            unreachable!("{done:?} succeeded")
        };
        let file = fs::read(destination.join("model.safetensors")).unwrap();
        assert!(
            tensors(&file) == tensors(&model(winner as u64)),
            "round {round}"
        );
        let names = fs::read_dir(&destination).unwrap().count();
        assert_eq!(names, 1, "nothing else is left");
    }
}

#[test]
fn packing_into_one_folder() {
    let folder = tempdir().unwrap();
    let sources: Vec<_> = (0..RACERS)
        .map(|racer| folder.path().join(format!("{racer}.safetensors")))
        .collect();
    for (seed, source) in sources.iter().enumerate() {
        replace(source, seed as u64);
    }
    for round in 0..rounds() {
        for same in [true, false] {
            let destination = folder.path().join(format!("packed-{round}-{same}"));
            let of = |racer| if same { 0 } else { racer };
            let done = race(|racer| pack(&sources[of(racer)], &destination, &options(), &quiet));
            assert!(same || done.len() == 1, "{done:?}");
            let checkpoint = Packed::open(&destination).unwrap();
            assert_eq!(verify(&checkpoint, 1, &quiet).unwrap().0, 0);
            let back = tempdir().unwrap();
            unpack(&destination, back.path(), &UnpackOptions::default(), &quiet).unwrap();
            let file = fs::read(back.path().join("model.safetensors")).unwrap();
            let expected = tensors(&model(of(done[0]) as u64));
            assert!(tensors(&file) == expected, "round {round}");
        }
    }
}
