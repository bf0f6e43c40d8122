//! The records of a zip archive as `torch` writes them: stored as they are, so that each is a range of the file.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use rawzip::{CompressionMethod, RECOMMENDED_BUFFER_SIZE, ZipArchive};

use super::failed;
use crate::CheckpointError;
use crate::safetensors::open;

/// More records than any model has tensors, and few enough to keep.
const MAX_RECORDS: usize = 4_000_000;

/// A pickle or a table larger than this describes no model.
const MAX_READ: u64 = 256 << 20;

/// Where each record lies. Names are without the archive's own folder.
pub struct Records {
    pub file_length: u64,
    ranges: BTreeMap<String, (u64, u64)>,
}

impl Records {
    /// Reads the archive's directory.
    pub fn read(path: &Path) -> Result<Self, CheckpointError> {
        let (file, file_length) = open(path)?;
        let damaged = |error: rawzip::Error| {
            failed(path, None, format!("the zip archive is damaged: {error}"))
        };
        let mut buffer = vec![0; RECOMMENDED_BUFFER_SIZE];
        let archive = ZipArchive::from_file(file, &mut buffer).map_err(damaged)?;
        let mut found = Vec::new();
        let mut entries = archive.entries(&mut buffer);
        while let Some(entry) = entries.next_entry().map_err(damaged)? {
            if found.len() == MAX_RECORDS {
                let reason = format!("expected at most {MAX_RECORDS} records, came more");
                return Err(failed(path, None, reason));
            }
            let name = String::from_utf8_lossy(entry.file_path().as_ref()).into_owned();
            let is_stored = entry.compression_method() == CompressionMethod::STORE;
            found.push((name, is_stored, entry.wayfinder()));
        }
        let mut ranges = BTreeMap::new();
        for (name, is_stored, place) in found {
            // Everything is in one folder, named after the file that was written.
            let Some((_, name)) = name.split_once('/') else {
                continue;
            };
            if !is_stored || place.compressed_size_hint() != place.uncompressed_size_hint() {
                let reason =
                    format!("expected records that are not compressed, came {name:?} compressed");
                return Err(failed(path, None, reason));
            }
            let entry = archive.get_entry(place).map_err(damaged)?;
            let (start, end) = entry.compressed_data_range();
            if start > end || end > file_length {
                let reason = format!("record {name:?} ends after the file");
                return Err(failed(path, None, reason));
            }
            if ranges
                .insert(name.to_owned(), (start, end - start))
                .is_some()
            {
                return Err(failed(
                    path,
                    None,
                    format!("expected one record {name:?}, came two"),
                ));
            }
        }
        Ok(Self {
            file_length,
            ranges,
        })
    }

    /// Offset and length of a record in bytes.
    pub fn range(&self, name: &str) -> Option<(u64, u64)> {
        self.ranges.get(name).copied()
    }

    /// The bytes of a record that is no weight.
    pub fn bytes(&self, path: &Path, name: &str) -> Result<Option<Vec<u8>>, CheckpointError> {
        let Some((start, length)) = self.range(name) else {
            return Ok(None);
        };
        if length > MAX_READ {
            let reason =
                format!("expected record {name:?} of at most {MAX_READ} bytes, came {length}");
            return Err(failed(path, None, reason));
        }
        let (mut file, _) = open(path)?;
        let mut bytes = vec![0; length as usize];
        file.seek(SeekFrom::Start(start))
            .and_then(|_| file.read_exact(&mut bytes))
            .map_err(|source| CheckpointError::Io {
                file: path.to_owned(),
                action: "read a record",
                source,
            })?;
        Ok(Some(bytes))
    }
}
