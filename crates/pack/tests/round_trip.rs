//! What is packed comes back, to the byte.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods)]

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use safetensors::tensor::{Dtype as Kind, TensorView};
use tempfile::tempdir;
use weightstream::{Checkpoint, Dtype};
use weightstream_checkpoint::packed::{Code, MANIFEST, Packed};
use weightstream_pack::{
    Coding, Options, Order, PackError, Progress, UnpackOptions, pack, unpack, verify,
};

/// Bytes that look like weights of a kind: bf16 and f32 with few exponents, anything else random.
fn bytes(seed: u64, length: usize, kind: Kind) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as u32
    };
    let mut bytes = Vec::with_capacity(length + 4);
    while bytes.len() < length {
        let value = (next() as f32 / u32::MAX as f32 - 0.25) * 0.1 + (next() % 3) as f32 * 0.01;
        match kind {
            Kind::F32 => bytes.extend(value.to_le_bytes()),
            Kind::BF16 => bytes.extend(&value.to_le_bytes()[2..]),
            _ => bytes.extend(next().to_le_bytes()),
        }
    }
    bytes.truncate(length);
    bytes
}

struct Given {
    name: String,
    kind: Kind,
    shape: Vec<usize>,
    data: Vec<u8>,
}

fn given(name: &str, kind: Kind, shape: &[usize]) -> Given {
    let length = shape.iter().product::<usize>() * kind.bitsize() / 8;
    let seed = name
        .bytes()
        .fold(7, |seed, byte| seed * 31 + u64::from(byte));
    Given {
        name: name.into(),
        kind,
        shape: shape.to_vec(),
        data: bytes(seed, length, kind),
    }
}

fn save(path: &Path, tensors: &[Given]) {
    let views = tensors.iter().map(|given| {
        let view = TensorView::new(given.kind, given.shape.clone(), &given.data).unwrap();
        (given.name.clone(), view)
    });
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize_to_file(views, Some(metadata), path).unwrap();
}

/// Every dtype, sizes around those of frames and chunks, scalars and empty tensors.
fn model() -> Vec<Given> {
    let mut tensors = vec![
        given("embedding", Kind::BF16, &[1000, 700]),
        given("layer.0", Kind::F32, &[512, 1024]),
        given("layer.0.bias", Kind::BF16, &[3]),
        given("layer.1", Kind::F16, &[65_536]),
        given("scalar", Kind::F32, &[]),
        given("byte", Kind::U8, &[1]),
        given("empty", Kind::F32, &[0, 5]),
        given("chunk", Kind::U8, &[262_144]),
        given("after", Kind::BF16, &[131_073]),
    ];
    for kind in [
        Kind::BOOL,
        Kind::I8,
        Kind::I16,
        Kind::U16,
        Kind::I32,
        Kind::U32,
        Kind::I64,
        Kind::U64,
        Kind::F64,
        Kind::C64,
        Kind::F8_E4M3,
        Kind::F8_E5M2,
        Kind::F8_E8M0,
        Kind::F4,
        Kind::F6_E2M3,
        Kind::F6_E3M2,
    ] {
        tensors.push(given(&format!("{kind:?}"), kind, &[4, 12]));
    }
    tensors
}

fn quiet(_: Progress) {}

fn options() -> Options {
    Options {
        jobs: 2,
        chunk_bytes: 256 << 10,
        ..Options::default()
    }
}

/// The bytes of every tensor of a checkpoint of plain files.
fn contents(path: &Path) -> HashMap<String, (Dtype, Vec<u64>, Vec<u8>)> {
    let checkpoint = Checkpoint::open(path).unwrap();
    let read = checkpoint.tensors.iter().map(|tensor| {
        let mut data = vec![0; tensor.length as usize];
        let file = fs::File::open(checkpoint.contents[tensor.file as usize].path()).unwrap();
        file.read_exact_at(&mut data, tensor.offset).unwrap();
        (
            tensor.name.clone(),
            (tensor.dtype, tensor.shape.clone(), data),
        )
    });
    read.collect()
}

fn round_trip(source: &Path, options: &Options, file_bytes: u64) -> Packed {
    let folder = tempdir().unwrap();
    let (packed, back) = (folder.path().join("packed"), folder.path().join("back"));
    let report = pack(source, &packed, options, &quiet).unwrap();
    let opened = Packed::open(&packed).unwrap();
    assert_eq!(report.digest, opened.digest());
    assert_eq!(verify(&opened, 2, &quiet).unwrap(), (0, vec![]));
    unpack(
        &packed,
        &back,
        &UnpackOptions {
            jobs: 2,
            file_bytes,
        },
        &quiet,
    )
    .unwrap();
    assert_eq!(contents(&back), contents(source));
    assert_eq!(
        Checkpoint::open(&back).unwrap().metadata,
        Checkpoint::open(source).unwrap().metadata
    );
    opened
}

#[test]
fn every_dtype_and_size() {
    let folder = tempdir().unwrap();
    let source = folder.path().join("model.safetensors");
    save(&source, &model());
    let original = Checkpoint::open(&source).unwrap();
    for code in [Coding::Auto, Coding::None] {
        for chunk_bytes in [256 << 10, 2 << 20] {
            let options = Options {
                code,
                chunk_bytes,
                ..options()
            };
            let packed = round_trip(&source, &options, u64::MAX);
            for tensor in packed.tensors().iter().filter(|tensor| tensor.length > 0) {
                let stored = original.get(&tensor.name).unwrap().offset;
                if stored.is_multiple_of(tensor.dtype.bits().div_ceil(8)) {
                    assert_eq!(tensor.offset % 64, stored % 64, "{tensor:?}");
                }
            }
            let coded = packed
                .manifest()
                .frames
                .iter()
                .any(|frame| frame.code == Code::Exponent);
            assert_eq!(coded, code == Coding::Auto);
            let limit = if coded {
                packed.weights() * 9 / 10
            } else {
                packed.weights() + 4096
            };
            assert!(
                packed.stored() <= limit,
                "{} of {}",
                packed.stored(),
                packed.weights()
            );
        }
    }
}

#[test]
fn shards_and_files_that_travel_along() {
    let folder = tempdir().unwrap();
    let source = folder.path().join("source");
    fs::create_dir_all(source.join("1_Pooling")).unwrap();
    let tensors = model();
    save(
        &source.join("model-00001-of-00002.safetensors"),
        &tensors[..4],
    );
    save(
        &source.join("model-00002-of-00002.safetensors"),
        &tensors[4..],
    );
    fs::write(source.join("config.json"), "{}").unwrap();
    fs::write(source.join("1_Pooling/config.json"), "{1}").unwrap();
    fs::write(source.join("training_state.bin"), "weights").unwrap();
    fs::write(source.join(".hidden"), "").unwrap();
    let options = Options {
        file_bytes: 1 << 20,
        ..options()
    };
    let packed = round_trip(&source, &options, 1_500_000);
    assert!(packed.files().len() > 3);

    let destination = folder.path().join("packed");
    pack(&source, &destination, &options, &quiet).unwrap();
    let mut names: Vec<_> = fs::read_dir(&destination)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.starts_with("chunks-"))
        .collect();
    names.sort();
    assert_eq!(names, ["1_Pooling", "config.json", MANIFEST]);
    assert_eq!(
        fs::read_to_string(destination.join("1_Pooling/config.json")).unwrap(),
        "{1}"
    );
    // A file of weights beside a configuration takes that along, too.
    let single = folder.path().join("single");
    pack(
        &source.join("model-00001-of-00002.safetensors"),
        &single,
        &options,
        &quiet,
    )
    .unwrap();
    assert!(single.join("config.json").exists());
}

#[test]
fn a_packed_checkpoint_can_be_packed_again() {
    let folder = tempdir().unwrap();
    let source = folder.path().join("model.safetensors");
    save(&source, &model());
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    pack(&source, &first, &options(), &quiet).unwrap();
    let order = Order(vec!["after".into(), "embedding".into()]);
    let options = Options {
        code: Coding::None,
        order: Some(order),
        ..options()
    };
    pack(&first, &second, &options, &quiet).unwrap();
    let packed = Packed::open(&second).unwrap();
    assert_eq!(packed.tensors()[0].name, "after");
    assert_eq!(packed.tensors()[1].name, "embedding");
    let back = folder.path().join("back");
    unpack(&second, &back, &UnpackOptions::default(), &quiet).unwrap();
    assert_eq!(contents(&back), contents(&source));
}

#[test]
fn orders_name_tensors_that_there_are() {
    let folder = tempdir().unwrap();
    let source = folder.path().join("model.safetensors");
    save(&source, &model());
    let destination = folder.path().join("packed");
    let file = folder.path().join("order.json");
    for text in [
        "[\"after\", \"byte\"]",
        "{\"tensors\": [\"after\", \"byte\", \"after\"]}",
    ] {
        fs::write(&file, text).unwrap();
        let order = Some(Order::read(&file).unwrap());
        pack(
            &source,
            &destination,
            &Options {
                order,
                overwrite: true,
                ..options()
            },
            &quiet,
        )
        .unwrap();
        let packed = Packed::open(&destination).unwrap();
        assert_eq!(packed.tensors()[1].name, "byte");
        assert_eq!(packed.tensors().len(), model().len());
    }
    for text in ["", "7", "{\"tensors\": 1}", "[1]"] {
        fs::write(&file, text).unwrap();
        assert!(
            matches!(Order::read(&file), Err(PackError::Order { .. })),
            "{text}"
        );
    }
    let order = Some(Order(vec!["nothing".into()]));
    let error = pack(
        &source,
        &destination,
        &Options { order, ..options() },
        &quiet,
    )
    .unwrap_err();
    assert!(error.to_string().contains("nothing"), "{error}");
}

#[test]
fn conversion_rounds_to_the_nearest_even() {
    let folder = tempdir().unwrap();
    let source = folder.path().join("model.safetensors");
    save(&source, &model());
    let (packed, back) = (folder.path().join("packed"), folder.path().join("back"));
    pack(
        &source,
        &packed,
        &Options {
            dtype: Some(Dtype::BF16),
            ..options()
        },
        &quiet,
    )
    .unwrap();
    unpack(&packed, &back, &UnpackOptions::default(), &quiet).unwrap();
    let (before, after) = (contents(&source), contents(&back));
    for (name, (dtype, shape, data)) in &before {
        let (found, same_shape, converted) = &after[name];
        assert_eq!(shape, same_shape);
        match dtype {
            Dtype::F32 => {
                assert_eq!(*found, Dtype::BF16, "{name}");
                for (value, bits) in data.as_chunks().0.iter().zip(converted.as_chunks().0) {
                    let bits = u16::from_le_bytes(*bits);
                    let value = u32::from_le_bytes(*value);
                    let rounded = (value + 0x7FFF + (value >> 16 & 1)) >> 16;
                    assert_eq!(u32::from(bits), rounded, "{value:#x}");
                }
            }
            Dtype::F16 | Dtype::F64 => assert_eq!(*found, Dtype::BF16, "{name}"),
            _ => assert_eq!((found, converted), (dtype, data), "{name}"),
        }
    }
}

#[test]
fn a_finished_one_is_kept_and_another_is_not_replaced_unasked() {
    let folder = tempdir().unwrap();
    let (one, two) = (
        folder.path().join("one.safetensors"),
        folder.path().join("two.safetensors"),
    );
    save(&one, &model());
    save(&two, &model()[1..]);
    let destination = folder.path().join("packed");
    let first = pack(&one, &destination, &options(), &quiet).unwrap();
    let again = pack(&one, &destination, &options(), &quiet).unwrap();
    assert_eq!((first.resumed, again.resumed), (0, first.weights));
    assert_eq!(first.digest, again.digest);
    assert!(matches!(
        pack(&two, &destination, &options(), &quiet),
        Err(PackError::Exists { .. })
    ));
    assert_eq!(Packed::open(&destination).unwrap().digest(), first.digest);
    pack(
        &two,
        &destination,
        &Options {
            overwrite: true,
            ..options()
        },
        &quiet,
    )
    .unwrap();
    assert_eq!(
        Packed::open(&destination).unwrap().tensors().len(),
        model().len() - 1
    );
    assert!(!destination.join("packing.journal").exists());
}

#[test]
fn other_files_of_the_same_name_are_not_overwritten() {
    let folder = tempdir().unwrap();
    let source = folder.path().join("source");
    fs::create_dir_all(&source).unwrap();
    save(&source.join("model.safetensors"), &model()[..1]);
    fs::write(source.join("config.json"), "{}").unwrap();
    let destination = folder.path().join("packed");
    fs::create_dir_all(&destination).unwrap();
    fs::write(destination.join("config.json"), "mine").unwrap();
    let error = pack(&source, &destination, &options(), &quiet).unwrap_err();
    assert!(matches!(error, PackError::Companion { .. }), "{error}");
    assert_eq!(
        fs::read_to_string(destination.join("config.json")).unwrap(),
        "mine"
    );
    assert!(Packed::open(&destination).is_err());
    fs::remove_file(destination.join("config.json")).unwrap();
    pack(&source, &destination, &options(), &quiet).unwrap();
}

/// A file system on which nothing is left, as far as the files go: every write from some point on is lost.
#[test]
fn an_interrupted_run_is_taken_up_only_as_far_as_it_is_right() {
    let folder = tempdir().unwrap();
    let source = folder.path().join("model.safetensors");
    save(&source, &model());
    let whole = folder.path().join("whole");
    pack(&source, &whole, &options(), &quiet).unwrap();
    let expected = Packed::open(&whole).unwrap();
    for (stop, damage) in [
        (1, None),
        (5, None),
        (5, Some(70_000)),
        (9, Some(3)),
        (12, Some(1 << 20)),
    ] {
        let destination = folder.path().join(format!("stopped-{stop}-{damage:?}"));
        // Stops where the progress is told of, as an interrupt would.
        let stopped = std::panic::catch_unwind(|| {
            let count = std::sync::atomic::AtomicU32::new(0);
            pack(&source, &destination, &options(), &|_| {
                let count = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                assert!(count < stop, "stopped");
            })
        });
        assert!(stopped.is_err());
        assert!(Checkpoint::open(&destination).is_err());
        if let Some(position) = damage {
            let file = fs::OpenOptions::new()
                .write(true)
                .open(destination.join("chunks-00001.weightstream"))
                .unwrap();
            file.write_all_at(&[0xAA; 64], position).unwrap();
        }
        let report = pack(&source, &destination, &options(), &quiet).unwrap();
        assert!(report.resumed > 0 || damage.is_some());
        assert!(report.resumed < report.weights);
        assert_eq!(
            report.digest,
            expected.digest(),
            "the same checkpoint, byte for byte"
        );
    }
}

#[test]
fn damage_names_tensor_file_and_offset() {
    let folder = tempdir().unwrap();
    let source = folder.path().join("model.safetensors");
    // Small: each of the flips reads all of it from the disk.
    let small = [
        given("weight", Kind::BF16, &[150, 400]),
        given("bias", Kind::F32, &[5000]),
        given("last", Kind::U8, &[3]),
    ];
    save(&source, &small);
    let destination = folder.path().join("packed");
    pack(&source, &destination, &options(), &quiet).unwrap();
    let packed = Packed::open(&destination).unwrap();
    let path = destination.join("chunks-00001.weightstream");
    let original = fs::read(&path).unwrap();
    let mut state = 12345_u64;
    for _ in 0..1000 {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let position = (state >> 20) % (original.len() as u64 * 8);
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        let flipped = original[position as usize / 8] ^ 1 << (position % 8);
        file.write_all_at(&[flipped], position / 8).unwrap();
        let (count, damages) = verify(&packed, 1, &quiet).unwrap();
        assert_eq!((count, damages.len()), (1, 1), "bit {position}");
        let damage = &damages[0];
        assert!(damage.tensor.is_some() && damage.file == path);
        assert!((damage.offset..damage.offset + damage.length).contains(&(position / 8)));
        file.write_all_at(&original[position as usize / 8..][..1], position / 8)
            .unwrap();
    }
    assert_eq!(verify(&packed, 1, &quiet).unwrap().0, 0);
}
