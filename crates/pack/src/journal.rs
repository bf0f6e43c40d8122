//! What a run has written so far, so that the next one can go on: one record per chunk, appended after its bytes.
//!
//! A record is not proof: the machine may have lost power between. The next run reads the chunks again and believes
//! their checksums.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use weightstream_checkpoint::packed::{ChunkRow, FrameRow, checksum};

use crate::PackError;

/// Beside the manifest that is not there yet.
pub const JOURNAL: &str = "packing.journal";

/// The journal of one folder, which whoever has it holds locked.
pub struct Journal {
    path: PathBuf,
    file: File,
}

impl Journal {
    /// Opens or makes the journal of `folder`; gives what a run with the same fingerprint has noted there.
    pub fn open(folder: &Path, fingerprint: &[u8; 32]) -> Result<(Self, Vec<Record>), PackError> {
        let path = folder.join(JOURNAL);
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(PackError::io(&path, "open the journal"))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)
            .map_err(PackError::io(&path, "read the journal"))?;
        let records = match bytes.strip_prefix(fingerprint) {
            Some(records) => parse(records),
            None => Vec::new(),
        };
        let mut journal = Self { path, file };
        journal.restart(fingerprint)?;
        Ok((journal, records))
    }

    /// Notes a chunk whose bytes were written.
    pub fn note(&mut self, chunk: &ChunkRow, frames: &[FrameRow]) -> Result<(), PackError> {
        let mut record = Vec::with_capacity(24 + frames.len() * FrameRow::STORED);
        record.extend(chunk.file.to_le_bytes());
        record.extend(chunk.frames.to_le_bytes());
        record.extend(chunk.offset.to_le_bytes());
        frames.iter().for_each(|frame| frame.write(&mut record));
        record.extend(checksum(&record).to_le_bytes());
        self.write(&record)
    }

    /// Takes the journal away: its work is done.
    pub fn finish(self) -> Result<(), PackError> {
        std::fs::remove_file(&self.path).map_err(PackError::io(&self.path, "remove the journal"))
    }

    fn restart(&mut self, fingerprint: &[u8; 32]) -> Result<(), PackError> {
        use std::io::Seek;

        self.file
            .set_len(0)
            .and_then(|()| self.file.rewind())
            .map_err(PackError::io(&self.path, "begin the journal"))?;
        self.write(fingerprint)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), PackError> {
        self.file
            .write_all(bytes)
            .map_err(PackError::io(&self.path, "write the journal"))
    }
}

/// The records up to the first that was not finished.
fn parse(mut bytes: &[u8]) -> Vec<Record> {
    let mut records = Vec::new();
    while let Some((record, rest)) = parse_record(bytes) {
        records.push(record);
        bytes = rest;
    }
    records
}

/// A chunk that was written, and its frames.
pub type Record = (ChunkRow, Vec<FrameRow>);

fn parse_record(bytes: &[u8]) -> Option<(Record, &[u8])> {
    let frames = u32::from_le_bytes(*bytes.get(4..)?.first_chunk()?);
    let length = 16 + (frames as usize).checked_mul(FrameRow::STORED)?;
    let (record, rest) = bytes.split_at_checked(length)?;
    let (sum, rest) = rest.split_first_chunk()?;
    if checksum(record) != u64::from_le_bytes(*sum) {
        return None;
    }
    let chunk = ChunkRow {
        file: u32::from_le_bytes(*record.first_chunk()?),
        frames,
        offset: u64::from_le_bytes(*record.get(8..)?.first_chunk()?),
    };
    let rows = record.get(16..)?.chunks_exact(FrameRow::STORED);
    let rows = rows.map(FrameRow::parse).collect::<Option<_>>()?;
    Some(((chunk, rows), rest))
}
