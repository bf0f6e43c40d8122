//! What must be read and decoded to fill a chunk.

use std::path::Path;
use std::sync::Arc;
use weightstream_checkpoint::{Content, Extent, Form, Piece};
use weightstream_source::{ReadError, ReadErrorKind};

/// Staged reads begin and end at multiples of this, so that they are direct reads without a ragged edge.
const BLOCK: u64 = 4096;

/// How a chunk is filled.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Bytes that lie in the files as in the chunk: read straight into the slot.
    pub direct: Vec<Direct>,
    /// Reads of what is stored in another form.
    pub staged: Vec<Staged>,
    /// What is to be made of them.
    pub steps: Vec<Step>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Direct {
    /// Index into the source's files.
    pub file: u32,
    pub offset: u64,
    pub chunk_offset: usize,
    pub length: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Staged {
    /// Index into the source's files.
    pub file: u32,
    pub offset: u64,
    /// Bytes that must come; the buffer has room for whole blocks.
    pub length: usize,
    /// Where in the buffer.
    pub at: usize,
}

/// Stored bytes to decode, and which of the decoded bytes go where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Index into the source's files.
    pub file: u32,
    pub offset: u64,
    pub stored: usize,
    /// Where the stored bytes are in the buffer.
    pub at: usize,
    pub form: Form,
    /// Decoded bytes of all of it.
    pub decoded: usize,
    /// Decoded bytes that precede the wanted ones.
    pub skip: usize,
    /// Wanted bytes.
    pub length: usize,
    pub chunk_offset: usize,
}

impl Step {
    /// Whether all decoded bytes are wanted.
    pub fn is_whole(&self) -> bool {
        self.skip == 0 && self.length == self.decoded
    }

    /// Whether it decodes the same bytes as `other`.
    pub fn is_of(&self, other: &Step) -> bool {
        (self.file, self.offset, self.stored) == (other.file, other.offset, other.stored)
    }
}

impl Plan {
    /// Bytes that are read.
    pub fn bytes(&self) -> u64 {
        let direct = self.direct.iter().map(|read| read.length as u64);
        direct
            .chain(self.staged.iter().map(|read| read.length as u64))
            .sum()
    }

    /// Bytes of what the chunk is made of, as they are read.
    pub fn stored(&self) -> usize {
        let direct = self.direct.iter().map(|read| read.length);
        let staged = self.staged.last().map_or(0, |read| read.at + read.length);
        staged + direct.sum::<usize>()
    }

    /// Bytes of buffer that it takes.
    pub fn staging(&self) -> usize {
        self.staged.last().map_or(0, |read| {
            read.at + read.length.next_multiple_of(BLOCK as usize)
        })
    }
}

/// The contents of a model's files, and where each content's files begin among the source's.
pub struct Contents {
    contents: Vec<Content>,
    first_files: Vec<u32>,
}

impl Contents {
    pub fn new(contents: Vec<Content>) -> Self {
        let mut files = 0;
        let first_files = contents
            .iter()
            .map(|content| {
                let first = files;
                files += content.files().len() as u32;
                first
            })
            .collect();
        Self {
            contents,
            first_files,
        }
    }

    /// How memory is filled with `pieces` of the contents.
    ///
    /// # Errors
    /// The first piece that no content holds all of.
    pub fn plan(&self, pieces: impl IntoIterator<Item = Piece>) -> Result<Plan, ReadError> {
        let mut plan = Plan::default();
        for piece in pieces {
            let (Some(content), Some(&first_file)) = (
                self.contents.get(piece.file as usize),
                self.first_files.get(piece.file as usize),
            ) else {
                let files = self.contents.len();
                return Err(unplanned(
                    &piece,
                    None,
                    ReadErrorKind::UnknownFile { files },
                ));
            };
            let mut missing = piece.length;
            let wanted = piece.file_offset..piece.file_offset + piece.length as u64;
            for extent in content.extents(wanted.clone()) {
                let start = wanted.start.max(extent.start);
                let length = (wanted.end.min(extent.end()) - start) as usize;
                let chunk_offset = piece.chunk_offset + (start - wanted.start) as usize;
                let file = first_file + extent.file;
                missing -= length;
                if extent.form == Form::Plain {
                    plan.direct.push(Direct {
                        file,
                        offset: extent.offset + (start - extent.start),
                        chunk_offset,
                        length,
                    });
                } else {
                    plan.steps
                        .push(step(extent, file, start, length, chunk_offset));
                }
            }
            if missing > 0 {
                let got = piece.length - missing;
                let kind = ReadErrorKind::UnexpectedEnd { got };
                return Err(unplanned(&piece, Some(content), kind));
            }
        }
        // In the order of the file: neighbours become one read, and parts of one extent are decoded once.
        plan.steps
            .sort_by_key(|step| (step.file, step.offset, step.skip));
        plan.stage(|file| self.file_length(file));
        Ok(plan)
    }

    fn file_length(&self, file: u32) -> u64 {
        let content = self
            .first_files
            .partition_point(|&first| first <= file)
            .saturating_sub(1);
        let within = file - self.first_files.get(content).copied().unwrap_or(0);
        self.contents
            .get(content)
            .and_then(|content| content.files().get(within as usize))
            .map_or(0, |file| file.length)
    }
}

fn unplanned(piece: &Piece, content: Option<&Content>, kind: ReadErrorKind) -> ReadError {
    let path = content.map(Content::path).unwrap_or_default();
    ReadError {
        path: Arc::from(Path::new(&path)),
        offset: piece.file_offset,
        length: piece.length,
        kind,
    }
}

/// Decodes what of `extent` holds `length` bytes from `start` of the content on.
fn step(extent: &Extent, file: u32, start: u64, length: usize, chunk_offset: usize) -> Step {
    let extent = extent.around(start..start + length as u64);
    Step {
        file,
        offset: extent.offset,
        stored: extent.stored as usize,
        at: 0,
        form: extent.form,
        decoded: extent.length as usize,
        skip: (start - extent.start) as usize,
        length,
        chunk_offset,
    }
}

impl Plan {
    /// Plans the reads of all steps, and tells each step where in the buffer its bytes come.
    fn stage(&mut self, file_length: impl Fn(u32) -> u64) {
        for step in &mut self.steps {
            let start = step.offset - step.offset % BLOCK;
            let wanted = step.offset + step.stored as u64;
            let end = wanted
                .next_multiple_of(BLOCK)
                .min(file_length(step.file))
                .max(wanted);
            let read = match self.staged.last_mut() {
                Some(last)
                    if last.file == step.file && start <= last.offset + last.length as u64 =>
                {
                    last.length = last.length.max((end - last.offset) as usize);
                    *last
                }
                last => {
                    let at = last.map_or(0, |last| {
                        last.at + last.length.next_multiple_of(BLOCK as usize)
                    });
                    let read = Staged {
                        file: step.file,
                        offset: start,
                        length: (end - start) as usize,
                        at,
                    };
                    self.staged.push(read);
                    read
                }
            };
            step.at = read.at + (step.offset - read.offset) as usize;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weightstream_checkpoint::{Layout, Parameter, Part, StoredFile};

    const CHUNK: usize = 64 << 10;

    fn checked(start: u64, length: u64, offset: u64) -> Extent {
        Extent {
            start,
            length,
            file: 0,
            offset,
            stored: length,
            form: Form::Checked { checksum: 0 },
        }
    }

    fn planned(extents: Vec<Extent>, parts: &[(u64, u64)]) -> Plan {
        let file = StoredFile {
            path: "a".into(),
            length: 1_000_000,
        };
        let content = Content::new(vec![file], extents).unwrap();
        let parts = parts.iter().map(|&(offset, length)| Part {
            file: 1,
            offset,
            length,
        });
        let parameter = Parameter {
            name: "w".into(),
            parts: parts.collect(),
            itemsize: 2,
            unit: 0,
        };
        let other = Content::plain("b".into(), 1 << 20);
        let lengths = [other.length(), content.length()];
        let layout = Layout::new(&lengths, vec![parameter], CHUNK).unwrap();
        Contents::new(vec![other, content])
            .plan(layout.pieces(0))
            .unwrap()
    }

    #[test]
    fn neighbours_are_one_read_of_whole_blocks() {
        let plan = planned(
            vec![checked(0, 10_000, 5000), checked(10_000, 6000, 15_000)],
            &[(0, 16_000)],
        );
        let read = Staged {
            file: 1,
            offset: 4096,
            length: 5 * 4096,
            at: 0,
        };
        assert_eq!(plan.staged, [read]);
        assert_eq!(
            plan.steps.iter().map(|step| step.at).collect::<Vec<_>>(),
            [904, 10_904]
        );
        assert!(plan.steps.iter().all(Step::is_whole) && plan.direct.is_empty());
        assert_eq!((plan.bytes(), plan.staging()), (5 * 4096, 5 * 4096));
    }

    #[test]
    fn parts_of_an_extent_are_decoded_from_all_of_it() {
        // Two rows in reverse order: a gathered parameter.
        let plan = planned(
            vec![checked(0, 8000, 999_000 - 8000)],
            &[(4000, 4000), (0, 4000)],
        );
        let [first, second] = &plan.steps[..] else {
            panic!("{plan:?}")
        };
        assert!(first.is_of(second) && !first.is_whole());
        assert_eq!((first.skip, second.skip), (0, 4000));
        assert_eq!(second.chunk_offset + 4000, first.chunk_offset);
        // The last block of the file is not whole.
        assert_eq!(
            plan.staged[0].offset + plan.staged[0].length as u64,
            999_424
        );
    }

    #[test]
    fn what_no_content_holds_is_an_error_and_no_gap() {
        let piece = Piece {
            file: 0,
            file_offset: 1000,
            chunk_offset: 0,
            length: 100,
        };
        let planned = |piece| {
            let file = StoredFile {
                path: "a".into(),
                length: 1_000_000,
            };
            // 40 bytes between the extents are nowhere.
            let extents = vec![checked(0, 1000, 0), checked(1040, 1000, 4096)];
            let content = Content::new(vec![file], extents).unwrap();
            Contents::new(vec![content]).plan([piece])
        };
        assert!(
            planned(Piece {
                file_offset: 1040,
                ..piece
            })
            .is_ok()
        );
        assert_eq!(
            planned(piece).unwrap_err().kind,
            ReadErrorKind::UnexpectedEnd { got: 60 }
        );
        let beyond = Piece {
            file_offset: 2000,
            ..piece
        };
        assert_eq!(
            planned(beyond).unwrap_err().kind,
            ReadErrorKind::UnexpectedEnd { got: 40 }
        );
        let unknown = Piece { file: 1, ..piece };
        assert_eq!(
            planned(unknown).unwrap_err().kind,
            ReadErrorKind::UnknownFile { files: 1 }
        );
    }

    #[test]
    fn plain_extents_are_read_in_place() {
        let plain = Extent {
            form: Form::Plain,
            ..checked(0, 10_000, 4096)
        };
        let plan = planned(vec![plain, checked(10_000, 100, 0)], &[(0, 10_100)]);
        let direct = Direct {
            file: 1,
            offset: 4096,
            chunk_offset: 0,
            length: 10_000,
        };
        assert_eq!(plan.direct, [direct]);
        assert_eq!((plan.steps.len(), plan.staged.len()), (1, 1));
    }
}
