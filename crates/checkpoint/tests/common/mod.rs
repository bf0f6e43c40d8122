//! Checkpoints written by hand, so that they can lie.
#![allow(clippy::unwrap_used, dead_code)]

use std::fs;
use std::path::{Path, PathBuf};

/// A safetensors file of this header and so many bytes of data.
pub fn file(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend((0..data).map(|byte| byte as u8));
    bytes
}

pub fn write(folder: &Path, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, bytes).unwrap();
    path
}

/// A row of a header: `"name":{...}` with a tensor of bytes.
pub fn row(name: &str, begin: u64, end: u64) -> String {
    format!(
        r#""{name}":{{"dtype":"U8","shape":[{}],"data_offsets":[{begin},{end}]}}"#,
        end - begin
    )
}

/// A file of one tensor of 4 bytes.
pub fn single(name: &str) -> Vec<u8> {
    file(&format!("{{{}}}", row(name, 0, 4)), 4)
}
