//! Reads a few weights at once, without a stream.

use super::Damage;
use super::decode::{Check, Room, decode};
use super::plan::Contents;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use weightstream_checkpoint::{Content, Part, Piece};
use weightstream_source::{ReadError, open_regular};

/// Bytes that are decoded at a time.
const STEP: u64 = 4 << 20;

/// Reads the bytes of `parts` of `contents`, one after another, to `to`; they are verified and decoded.
///
/// # Errors
/// The first file and range that can't be read, or that are damaged; then `to` holds anything.
pub fn read(contents: &[Content], parts: &[Part], to: &mut [u8]) -> Result<(), ReadError> {
    Reader::new(contents).read(parts, to)
}

/// Reads weights without a stream, whatever form they are stored in. Files stay open as long as it lives.
pub struct Reader {
    contents: Contents,
    paths: Vec<PathBuf>,
    opened: HashMap<u32, File>,
}

impl Reader {
    /// A reader of `contents`; nothing is opened yet.
    pub fn new(contents: &[Content]) -> Self {
        let files = contents.iter().flat_map(Content::files);
        Self {
            paths: files.map(|file| file.path.clone()).collect(),
            contents: Contents::new(contents.to_vec()),
            opened: HashMap::new(),
        }
    }

    /// As [`read`].
    ///
    /// # Errors
    /// As [`read`].
    pub fn read(&mut self, parts: &[Part], to: &mut [u8]) -> Result<(), ReadError> {
        let mut rest = to;
        for part in parts {
            let mut offset = part.offset;
            let end = offset.saturating_add(part.length);
            while offset < end {
                let length = (end - offset).min(STEP) as usize;
                let Some((window, behind)) = rest.split_at_mut_checked(length) else {
                    return Err(self.failed(part.file, offset, length, "no room for it".into()));
                };
                self.fill(part.file, offset, window)?;
                (rest, offset) = (behind, offset + length as u64);
            }
        }
        Ok(())
    }

    fn fill(&mut self, content: u32, offset: u64, to: &mut [u8]) -> Result<(), ReadError> {
        let piece = Piece {
            file: content,
            file_offset: offset,
            chunk_offset: 0,
            length: to.len(),
        };
        let plan = self.contents.plan([piece])?;
        for read in &plan.direct {
            let end = read.chunk_offset + read.length;
            self.pread(read.file, read.offset, &mut to[read.chunk_offset..end])?;
        }
        let mut staged = vec![0; plan.staging()];
        for read in &plan.staged {
            self.pread(
                read.file,
                read.offset,
                &mut staged[read.at..read.at + read.length],
            )?;
        }
        // SAFETY: `to` is borrowed for as long, and used through nothing else meanwhile.
        let mut room = unsafe { Room::new(to.as_mut_ptr(), to.len()) };
        decode(&plan.steps, &staged, Check::All, &mut room)
            .map_err(|damage| damage.in_files(&self.paths))
    }

    fn pread(&mut self, file: u32, offset: u64, to: &mut [u8]) -> Result<(), ReadError> {
        let length = to.len();
        self.try_pread(file, offset, to).map_err(|error| ReadError {
            kind: error.into(),
            ..self.failed(file, offset, length, String::new())
        })
    }

    fn try_pread(&mut self, file: u32, offset: u64, to: &mut [u8]) -> io::Result<()> {
        let opened = match self.opened.entry(file) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => {
                let path = self
                    .paths
                    .get(file as usize)
                    .ok_or(io::ErrorKind::NotFound)?;
                entry.insert(open_regular(path)?.0)
            }
        };
        opened.read_exact_at(to, offset)?;
        if to.len() >= 1 << 20 {
            weightstream_source::drop_from_page_cache(opened, offset, to.len());
        }
        Ok(())
    }

    fn failed(&self, file: u32, offset: u64, length: usize, reason: String) -> ReadError {
        let damage = Damage {
            file,
            offset,
            length,
            reason,
        };
        damage.in_files(&self.paths)
    }
}
