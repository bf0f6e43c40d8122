//! The program, run as a user runs it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods)]

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use safetensors::tensor::{Dtype, TensorView};
use tempfile::tempdir;

fn weightstream(arguments: &[&str]) -> Output {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("weightstream"));
    command.args(arguments).output().unwrap()
}

/// The output of a run that must succeed.
fn good(arguments: &[&str]) -> String {
    let output = weightstream(arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// Exit code, output and error of a run that must not.
fn bad(arguments: &[&str]) -> (i32, String, String) {
    let output = weightstream(arguments);
    assert!(!output.status.success(), "{arguments:?}");
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

/// A folder with a model of a few MB whose weights look like weights.
fn model(folder: &Path, rows: usize) -> PathBuf {
    let path = folder.join("model");
    fs::create_dir_all(&path).unwrap();
    let mut state = 1_u64;
    let mut data = Vec::with_capacity(rows * 2048);
    for _ in 0..rows * 1024 {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let value = ((state >> 40) as f32 / (1 << 24) as f32 - 0.5) * 0.1;
        data.extend(&value.to_le_bytes()[2..]);
    }
    let weight = TensorView::new(Dtype::BF16, vec![rows, 1024], &data).unwrap();
    let bias = TensorView::new(Dtype::F32, vec![500], &data[..2000]).unwrap();
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let tensors = [("weight", weight), ("bias", bias)];
    safetensors::serialize_to_file(tensors, Some(metadata), &path.join("model.safetensors"))
        .unwrap();
    fs::write(path.join("config.json"), "{}\n").unwrap();
    path
}

#[test]
fn from_pack_to_unpack() {
    let folder = tempdir().unwrap();
    let source = model(folder.path(), 2000);
    let (source, packed) = (source.to_str().unwrap(), folder.path().join("packed"));
    let (packed, back) = (packed.to_str().unwrap(), folder.path().join("back"));

    let said = good(&["pack", source, packed]);
    assert!(
        said.contains("2 tensors") && said.contains("verified"),
        "{said}"
    );
    assert!(
        !said.contains('\x1b'),
        "colours where there is no terminal: {said:?}"
    );
    assert!(good(&["pack", source, packed]).contains("complete already"));
    assert!(good(&["verify", packed]).contains("every byte is as it was written"));
    assert!(good(&["verify", source]).contains("no checksums"));

    let said = good(&["inspect", packed]);
    for word in [
        "packed, 2 tensors",
        "weight",
        "BF16",
        "[2000, 1024]",
        "identity: ",
        "metadata: format = pt",
    ] {
        assert!(said.contains(word), "{word}: {said}");
    }
    let whole: serde_json::Value =
        serde_json::from_str(&good(&["inspect", "--json", packed])).unwrap();
    assert_eq!(whole["format"], "packed");
    assert_eq!(whole["tensors"].as_array().unwrap().len(), 2);
    let (weights, stored) = (&whole["packed"]["weights"], &whole["packed"]["stored"]);
    assert!(stored.as_f64().unwrap() < weights.as_f64().unwrap() * 0.75);

    good(&["unpack", packed, back.to_str().unwrap()]);
    let read = |path: &Path| fs::read(path.join("model.safetensors")).unwrap();
    let (before, after) = (read(Path::new(source)), read(&back));
    let (before, after) = (
        safetensors::SafeTensors::deserialize(&before).unwrap(),
        safetensors::SafeTensors::deserialize(&after).unwrap(),
    );
    for name in ["weight", "bias"] {
        assert_eq!(before.tensor(name).unwrap(), after.tensor(name).unwrap());
    }
    assert_eq!(
        fs::read_to_string(back.join("config.json")).unwrap(),
        "{}\n"
    );
    let (code, _, error) = bad(&["unpack", packed, back.to_str().unwrap()]);
    assert!(
        code == 1 && error.contains("choose another folder"),
        "{error}"
    );
}

#[test]
fn damage_is_named_and_gives_the_exit_code() {
    let folder = tempdir().unwrap();
    let source = model(folder.path(), 500);
    let packed = folder.path().join("packed");
    good(&["pack", source.to_str().unwrap(), packed.to_str().unwrap()]);
    let chunks = packed.join("chunks-00001.weightstream");
    let mut bytes = fs::read(&chunks).unwrap();
    bytes[300_000] ^= 1;
    fs::write(&chunks, &bytes).unwrap();
    let (code, said, _) = bad(&["verify", packed.to_str().unwrap()]);
    assert_eq!(code, 1);
    for word in [
        "damaged:",
        "tensor \"weight\"",
        "chunk 0",
        "chunks-00001.weightstream",
        "offset",
        "checksum",
    ] {
        assert!(said.contains(word), "{word}: {said}");
    }
    let back = folder.path().join("back");
    bad(&["unpack", packed.to_str().unwrap(), back.to_str().unwrap()]);
    assert!(
        !back.join("model.safetensors").exists(),
        "damaged weights were unpacked"
    );

    let manifest = packed.join("manifest.weightstream");
    let mut bytes = fs::read(&manifest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&manifest, &bytes).unwrap();
    for command in ["verify", "inspect"] {
        let (code, _, error) = bad(&[command, packed.to_str().unwrap()]);
        assert!(
            code == 1 && error.contains("manifest.weightstream"),
            "{error}"
        );
    }
}

/// Whenever it is killed, what is left does not open as complete, and the next run finishes the same checkpoint.
#[test]
fn killed_at_any_moment() {
    let folder = tempdir().unwrap();
    let source = model(folder.path(), 16_000);
    let source = source.to_str().unwrap();
    let whole = folder.path().join("whole");
    good(&["pack", source, whole.to_str().unwrap(), "--chunk", "256KiB"]);
    let manifest = fs::read(whole.join("manifest.weightstream")).unwrap();

    let (mut killed, mut wait, mut step) = (0, 0, 512);
    while killed < 20 {
        wait += step;
        let packed = folder.path().join(format!("killed-{wait}"));
        let arguments = [
            "pack",
            source,
            packed.to_str().unwrap(),
            "--chunk",
            "256KiB",
        ];
        let mut child = Command::new(assert_cmd::cargo::cargo_bin!("weightstream"))
            .args(arguments)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_micros(wait));
        child.kill().unwrap();
        let finished = child.wait().unwrap().success();
        if packed.join("manifest.weightstream").exists() {
            assert_eq!(
                fs::read(packed.join("manifest.weightstream")).unwrap(),
                manifest
            );
        } else {
            bad(&["inspect", packed.to_str().unwrap()]);
        }
        good(&arguments);
        good(&["verify", packed.to_str().unwrap()]);
        assert_eq!(
            fs::read(packed.join("manifest.weightstream")).unwrap(),
            manifest
        );
        fs::remove_dir_all(&packed).unwrap();
        if finished {
            // Too late: finer steps from the start.
            (wait, step) = (0, step / 2 + 1);
        } else {
            killed += 1;
            step = step * 5 / 4;
        }
    }
}

/// A .npy file of float32, as numpy writes it.
fn npy(path: &Path, shape: &str, values: &[f32]) {
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({shape}), }}");
    while (10 + header.len() + 1) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    fs::write(path, bytes).unwrap();
}

/// The last `count` numbers of a .npy file of float32.
fn numbers(path: &Path, count: usize) -> Vec<f32> {
    let bytes = fs::read(path).unwrap();
    bytes[bytes.len() - 4 * count..]
        .chunks_exact(4)
        .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
        .collect()
}

const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/program.pt2");

#[test]
fn an_exported_program_runs_from_its_file_and_packed() {
    let folder = tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let values: Vec<f32> = (0..48).map(|value| value as f32 / 48.0 - 0.3).collect();
    npy(&folder.path().join("x.npy"), "3, 16", &values);
    let x = at("x.npy");
    let named = format!("--input=y={x}");
    let run = |program: &str, out: &str| {
        let out = at(out);
        good(&[
            "run", program, "--input", &x, &named, "--out", &out, "--runs", "2",
        ])
    };

    let said = run(PROGRAM, "direct.npy");
    for word in [
        "layers.2",
        "layers.0",
        "time",
        "floor",
        "computing",
        "activations",
    ] {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert!(
        said.find("layers.2") < said.find("layers.0"),
        "blocks in order of use: {said}"
    );
    // relu(...) + y: never below y, and not y itself. The second output is the sum of each row, in bfloat16.
    let out = numbers(&folder.path().join("direct.npy"), 48);
    assert!(out.iter().zip(&values).all(|(out, y)| out >= y) && out != values);
    let sums = numbers(&folder.path().join("direct.1.npy"), 3);
    for (row, sum) in out.chunks_exact(16).zip(sums) {
        let expected: f32 = row.iter().sum();
        assert!(
            (sum - expected).abs() < 0.01 * expected.abs(),
            "{sum} {expected}"
        );
    }

    assert!(good(&["pack", PROGRAM, &at("packed")]).contains("6 tensors"));
    run(&at("packed"), "packed.npy");
    for file in ["npy", "1.npy"] {
        let read = |stem: &str| fs::read(folder.path().join(format!("{stem}.{file}"))).unwrap();
        assert_eq!(read("direct"), read("packed"));
    }
    let packed: serde_json::Value =
        serde_json::from_str(&good(&["inspect", "--json", &at("packed")])).unwrap();
    let tensors = packed["tensors"].as_array().unwrap();
    let mut places: Vec<_> = tensors
        .iter()
        .map(|tensor| (tensor["offset"].as_u64(), tensor["name"].as_str().unwrap()))
        .collect();
    places.sort();
    assert_eq!(places[0].1, "layers.2.weight", "in order of use");
    assert_eq!(places[5].1, "layers.0.bias");

    let report = good(&["run", &at("packed"), "--input", &x, &named, "--json"]);
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["blocks"].as_array().unwrap().len(), 3);
    let seconds = |name: &str| report[name].as_f64().unwrap();
    assert_eq!(
        seconds("floor_seconds"),
        seconds("reading_seconds").max(seconds("computing_seconds"))
    );
}

#[test]
fn what_a_program_does_not_take_is_told() {
    let folder = tempdir().unwrap();
    let file = folder.path().join("x.npy");
    npy(&file, "9, 16", &[0.0; 144]);
    let x = file.to_str().unwrap();
    let (named, unknown) = (format!("--input=y={x}"), format!("--input=z={x}"));
    for (arguments, expected) in [
        (vec!["--input", x, &named], "1 to 8"),
        (vec![&named[..]], "input \"x\""),
        (vec![&unknown[..]], "expected inputs x, y, got z"),
        (
            vec!["--input", x, "--input", x, "--input", x],
            "got one more",
        ),
        (vec!["--input", "nothing.npy"], "nothing.npy"),
    ] {
        let (code, _, error) = bad(&[&["run", PROGRAM][..], &arguments].concat());
        assert!(code == 1 && error.contains(expected), "{expected}: {error}");
    }
    let out = folder.path().join("packed");
    let (_, _, error) = bad(&["pack", PROGRAM, out.to_str().unwrap(), "--dtype", "bf16"]);
    assert!(error.contains("--dtype"), "{error}");
    let (_, _, error) = bad(&["run", folder.path().to_str().unwrap()]);
    assert!(error.contains("expected a .pt2 file"), "{error}");
}

#[test]
fn errors_say_what_to_do() {
    let folder = tempdir().unwrap();
    let source = model(folder.path(), 10);
    let source = source.to_str().unwrap();
    let (code, _, error) = bad(&["inspect", folder.path().join("nothing").to_str().unwrap()]);
    assert!(
        code == 1 && error.starts_with("error: ") && error.contains("nothing"),
        "{error}"
    );
    let (code, _, error) = bad(&["pack", source, "x", "--chunk", "3MiB"]);
    assert!(code == 1 && error.contains("power of two"), "{error}");
    let (code, _, error) = bad(&["pack", source, "x", "--chunk", "huge"]);
    assert!(code == 2 && error.contains("1.5GiB"), "{error}");
    assert_eq!(bad(&["nothing"]).0, 2);
    assert_eq!(bad(&[]).0, 2);
}

#[test]
fn completions_and_man_pages_are_generated() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(good(&["completions", shell]).contains("inspect"), "{shell}");
    }
    assert!(good(&["man"]).contains(".TH weightstream"));
    let folder = tempdir().unwrap();
    good(&["man", folder.path().to_str().unwrap()]);
    assert!(folder.path().join("weightstream-pack.1").exists());
    assert!(good(&["--version"]).starts_with("weightstream "));
    assert!(good(&["--help"]).contains("Write a packed checkpoint"));
}
