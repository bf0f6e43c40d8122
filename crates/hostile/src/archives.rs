//! One entry of a zip file that is otherwise as torch writes it: damage to the whole file mostly breaks the zip, and
//! what lies in it is never reached.

use std::io::{Cursor, Read, Write};

use weightstream_graph::{Options, Program};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use crate::files::{folder, open};

const STATE: &[u8] = include_bytes!("../../checkpoint/tests/fixtures/state.pt");
const EXPORTED: &[u8] = include_bytes!("../../checkpoint/tests/fixtures/linear.pt2");

/// The pickle of a file that torch.save has written.
pub fn pickle(bytes: &[u8]) {
    open("pytorch_model.bin", &with_entry(STATE, "/data.pkl", bytes));
}

/// What an archive of torch.export says about its weights.
pub fn weights(bytes: &[u8]) {
    let archive = with_entry(EXPORTED, "/model_weights_config.json", bytes);
    open("model.pt2", &archive);
}

/// The program in an archive of torch.export: compiled, not run.
pub fn program(bytes: &[u8]) {
    let path = folder().join("program.pt2");
    let archive = with_entry(EXPORTED, "/models/model.json", bytes);
    std::fs::write(&path, archive).expect("writing the input");
    drop(Program::open(&path, Options::default()));
}

fn with_entry(archive: &[u8], ending: &str, bytes: &[u8]) -> Vec<u8> {
    let mut given = ZipArchive::new(Cursor::new(archive)).expect("a fixture");
    let mut made = ZipWriter::new(Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for number in 0..given.len() {
        let mut entry = given.by_index(number).expect("an entry");
        let name = entry.name().expect("its name").into_owned();
        let mut content = bytes.to_vec();
        if !name.ends_with(ending) {
            content.clear();
            entry.read_to_end(&mut content).expect("its bytes");
        }
        made.start_file(name, stored).expect("an entry");
        made.write_all(&content).expect("its bytes");
    }
    made.finish().expect("the directory").into_inner()
}
