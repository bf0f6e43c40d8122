//! Programs in C, compiled with the system's compiler (or `CC`) and run: `smoke.c`, and what the documentation shows.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use weightstream_graph::{Options, Program, Value};

const FOLDER: &str = env!("CARGO_MANIFEST_DIR");

fn compiler() -> Command {
    let words = std::env::var("CC").unwrap_or_else(|_| "cc".into());
    let mut words = words.split_whitespace();
    let mut compiler = Command::new(words.next().unwrap());
    compiler.args(words);
    compiler
}

fn strict(language: &str, standard: &str) -> Command {
    let mut compiler = compiler();
    compiler
        .args(["-x", language, &format!("-std={standard}")])
        .args(["-Wall", "-Wextra", "-pedantic", "-Werror"])
        // C has no other way to name a structure's first field and leave the rest zero that C++ knows too.
        .arg("-Wno-missing-field-initializers")
        .arg(format!("-I{FOLDER}/include"));
    compiler
}

/// What cargo has built for this test: it lies beside it.
fn library() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let library = test.with_file_name(format!("{DLL_PREFIX}weightstream_ffi{DLL_SUFFIX}"));
    assert!(library.exists(), "{} is missing", library.display());
    library
}

/// Compiles `source`, runs it with these arguments, and returns what it printed.
fn run<A: AsRef<OsStr>>(source: &Path, arguments: &[A]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let (program, library) = (folder.path().join("program"), library());
    let compiled = strict("c", "c11")
        .arg(source)
        .args(["-x", "none"])
        .arg(&library)
        .arg(format!(
            "-Wl,-rpath,{}",
            library.parent().unwrap().display()
        ))
        .arg("-o")
        .arg(&program)
        .status();
    assert!(compiled.unwrap().success(), "{}", source.display());
    let ran = Command::new(&program).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{}: {said}", ran.status);
    String::from_utf8(ran.stdout).unwrap()
}

#[test]
fn a_program_in_c_runs_programs() {
    let tests = Path::new(FOLDER).join("tests");
    run(&tests.join("smoke.c"), &[tests.join("totals.pt2")]);
}

/// What the program in C that a page of the documentation shows prints.
fn documented<A: AsRef<OsStr>>(page: &str, arguments: &[A]) -> String {
    let page = std::fs::read_to_string(format!("{FOLDER}/../../docs/{page}")).unwrap();
    let example = page.split_once("```c\n").unwrap().1;
    let example = example.split_once("```").unwrap().0;
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("example.c");
    std::fs::write(&source, example).unwrap();
    run(&source, arguments)
}

#[test]
fn the_documented_text_runs() {
    let words = format!("{FOLDER}/tests/words");
    let [model, tokenizer, said] =
        ["model.pt2", "tokenizer.json", "said.txt"].map(|name| format!("{words}/{name}"));
    let printed = documented("mobile.md", &[&model, &tokenizer, "w3 w1 w4"]);
    assert_eq!(printed.trim(), std::fs::read_to_string(said).unwrap());
}

#[test]
fn the_documented_example_runs() {
    let linear = format!("{FOLDER}/../checkpoint/tests/fixtures/linear.pt2");
    let printed = documented("export.md", &[&linear]);

    let program = Program::open(linear.as_ref(), Options::default()).unwrap();
    let numbers = [1.0_f32, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
    let input = program.context().tensor(&numbers, &[2, 4]).unwrap();
    let outputs = program.run(&[input.into()]).unwrap();
    let Value::Tensor(output) = &outputs[0] else {
        panic!("{outputs:?}");
    };
    let expected: String = output
        .elements::<f32>()
        .unwrap()
        .iter()
        .map(|number| format!("{number:.6}\n"))
        .collect();
    assert_eq!(printed, expected);
}

#[test]
fn the_header_is_cplusplus_too() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("header.cpp");
    std::fs::write(&source, "int main() { return 0; }\n").unwrap();
    let mut plain = compiler();
    plain.args(["-x", "c++", "-fsyntax-only"]).arg(&source);
    if !plain.status().unwrap().success() {
        eprintln!("skipped: the compiler has no C++");
        return;
    }
    let text = "#include \"weightstream.h\"\nint main() { ws_options options = {sizeof options}; \
                return ws_tensor_new(WS_DTYPE_F32, nullptr, 0, &options, 4, nullptr, nullptr); }\n";
    std::fs::write(&source, text).unwrap();
    let compiled = strict("c++", "c++11")
        .arg("-fsyntax-only")
        .arg(&source)
        .status();
    assert!(compiled.unwrap().success());
}
