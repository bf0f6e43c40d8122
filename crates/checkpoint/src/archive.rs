//! Where the entries of a zip file lie in it. What torch saves is one, its entries stored as they are, so that tensors
//! can be read in place.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom, Take};
use std::path::{Path, PathBuf};

use weightstream_source::open_regular;
use zip::read::{ArchiveOffset, Config};
use zip::{CompressionMethod, ZipArchive};

use crate::CheckpointError;

/// An entry that is stored as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Where its bytes begin, from the start of the file.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
    /// CRC-32 of its bytes.
    pub crc32: u32,
}

/// The entries of a zip file.
#[derive(Debug, Clone)]
pub struct Archive {
    path: PathBuf,
    file_length: u64,
    entries: BTreeMap<String, Entry>,
}

impl Archive {
    /// Reads the directory of the zip file at `path`, and none of its entries.
    ///
    /// # Errors
    /// It can't be read, is no zip file, has a compressed or encrypted entry, or one that lies outside of it.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        let fail = |expected: &'static str, got: String| CheckpointError::Archive {
            file: path.to_owned(),
            expected,
            got,
        };
        let (file, file_length) = open_regular(path)?;
        // Never looked for: an entry may hold another zip file, whose beginning is not this one's.
        let config = Config {
            archive_offset: ArchiveOffset::Known(0),
        };
        let mut directory = ZipArchive::with_config(config, BufReader::new(file))
            .map_err(|error| fail("a zip file", error.to_string()))?;
        let mut entries = BTreeMap::new();
        for index in 0..directory.len() {
            let entry = directory
                .by_index_raw(index)
                .map_err(|error| fail("entries that can be read", error.to_string()))?;
            let name = entry
                .name()
                .map_err(|error| fail("names in UTF-8", error.to_string()))?
                .into_owned();
            let stored = Entry {
                offset: entry
                    .data_start()
                    .ok_or_else(|| fail("entries with bytes", name.clone()))?,
                length: entry.size(),
                crc32: entry.crc32(),
            };
            if entry.compression() != CompressionMethod::Stored
                || entry.encrypted()
                || entry.size() != entry.compressed_size()
            {
                return Err(fail(
                    "entries that are stored as they are",
                    format!("a compressed or encrypted one, {name:?}"),
                ));
            }
            if stored
                .offset
                .checked_add(stored.length)
                .is_none_or(|end| end > file_length)
            {
                return Err(fail(
                    "entries within the file",
                    format!("{name:?}, which ends after it"),
                ));
            }
            entries.insert(name, stored);
        }
        Ok(Self {
            path: path.to_owned(),
            file_length,
            entries,
        })
    }

    /// The zip file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of the zip file.
    pub fn file_length(&self) -> u64 {
        self.file_length
    }

    /// The entry of that name.
    pub fn get(&self, name: &str) -> Option<Entry> {
        self.entries.get(name).copied()
    }

    /// All names, sorted, and their entries.
    pub fn entries(&self) -> impl Iterator<Item = (&str, Entry)> {
        self.entries
            .iter()
            .map(|(name, entry)| (name.as_str(), *entry))
    }

    /// The bytes of an entry that has at most `limit` of them.
    ///
    /// # Errors
    /// There is no such entry, it is larger, or it can't be read.
    pub fn read(&self, name: &str, limit: u64) -> Result<Vec<u8>, CheckpointError> {
        let mut reader = self.reader(name)?;
        let length = reader.limit();
        if length > limit {
            return Err(CheckpointError::HeaderTooLarge {
                file: self.path.clone(),
                length,
                limit,
            });
        }
        let mut bytes = vec![0; length as usize];
        reader
            .read_exact(&mut bytes)
            .map_err(|source| io_error(&self.path, "read", source))?;
        Ok(bytes)
    }

    /// Reads an entry from its beginning to its end.
    fn reader(&self, name: &str) -> Result<Take<File>, CheckpointError> {
        let entry = self.get(name).ok_or_else(|| CheckpointError::Archive {
            file: self.path.clone(),
            expected: "an archive with the entries that torch.export.save writes",
            got: format!("one without {name:?}"),
        })?;
        let (mut file, _) = open_regular(&self.path)?;
        file.seek(SeekFrom::Start(entry.offset))
            .map_err(|source| io_error(&self.path, "read", source))?;
        Ok(file.take(entry.length))
    }
}

fn io_error(path: &Path, action: &'static str, source: std::io::Error) -> CheckpointError {
    CheckpointError::Io {
        file: path.to_owned(),
        action,
        source,
    }
}
