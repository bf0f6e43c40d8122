//! `include/weightstream.h` is what cbindgen makes of the sources: `WEIGHTSTREAM_HEADER=write` writes it anew.
#![allow(clippy::disallowed_methods)]

use std::path::Path;

/// The sources in the order in which a reader wants to meet them.
const SOURCES: [&str; 12] = [
    "version", "error", "dtype", "tensor", "options", "program", "input", "state", "cancel", "run",
    "stats", "text",
];

#[test]
fn the_header_is_made_of_the_sources() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(folder.join("cbindgen.toml")).unwrap();
    let mut builder = cbindgen::Builder::new().with_config(config);
    for source in SOURCES {
        builder = builder.with_src(folder.join(format!("src/{source}.rs")));
    }
    let mut made = Vec::new();
    builder.generate().unwrap().write(&mut made);
    let made = String::from_utf8(made).unwrap();

    let path = folder.join("include/weightstream.h");
    if std::env::var("WEIGHTSTREAM_HEADER").is_ok_and(|wish| wish == "write") {
        std::fs::write(&path, &made).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        made == committed,
        "include/weightstream.h is old: WEIGHTSTREAM_HEADER=write cargo test -p weightstream-ffi --test header"
    );
}

#[test]
fn every_source_is_listed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let exports = std::fs::read_to_string(&path)
            .unwrap()
            .contains("no_mangle");
        assert!(!exports || SOURCES.contains(&&name[..]), "{name}");
    }
}
