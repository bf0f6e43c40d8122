//! What tensors read as, and which stored bytes that is made of.

use std::ops::Range;
use std::path::PathBuf;

use weightstream_codec::quantised::Quantised;

use crate::{Dtype, Part};

/// Bytes as tensors have them. For most formats that is a file itself. Where tensors are stored in another form (coded,
/// quantised), tensors lie in the content and not in its files, which are shorter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// Where the same tensors can be had as several dtypes: what this content has them as.
    dtype: Option<Dtype>,
    files: Vec<StoredFile>,
    length: u64,
    extents: Vec<Extent>,
}

/// A file and its length in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredFile {
    /// Where it is.
    pub path: PathBuf,
    /// Bytes.
    pub length: u64,
}

/// A range of a content and the range of a file that it is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Bytes from the start of the content.
    pub start: u64,
    /// Bytes of the content.
    pub length: u64,
    /// Index into [`Content::files`].
    pub file: u32,
    /// Bytes from the start of the file.
    pub offset: u64,
    /// Bytes of the file.
    pub stored: u64,
    /// How one becomes the other.
    pub form: Form,
}

/// How the stored bytes of an extent become the bytes of its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Form {
    /// They are the same.
    Plain,
    /// They are the same, and padded; checked when they are read.
    Checked {
        /// XXH3-64 of the stored bytes.
        checksum: u64,
    },
    /// Blocks of quantised values, which stand for elements of `to`.
    Quantised {
        /// The layout of the blocks.
        kind: Quantised,
        /// What the content's elements are: F32, BF16 or F16.
        to: Dtype,
    },
    /// Floating-point numbers of another width, rounded to nearest, ties to even.
    Cast {
        /// What the stored elements are: F32, BF16 or F16.
        from: Dtype,
        /// What the content's elements are: F32, BF16 or F16.
        to: Dtype,
    },
    /// Coded by `weightstream-codec`, all of the extent at once, and padded.
    Coded {
        /// Stored bytes without their padding.
        coded: u32,
        /// XXH3-64 of the stored bytes.
        checksum: u64,
    },
}

impl Extent {
    /// Where it ends, in bytes from the start of the content.
    pub fn end(&self) -> u64 {
        self.start + self.length
    }

    /// The least that can be decoded alone: bytes of the content, and the bytes of the file that they are made of.
    pub fn unit(&self) -> (u64, u64) {
        let bytes = |dtype: Dtype| dtype.bits() / 8;
        match self.form {
            Form::Plain => (1, 1),
            Form::Checked { .. } | Form::Coded { .. } => (self.length.max(1), self.stored),
            Form::Quantised { kind, to } => (kind.values() as u64 * bytes(to), kind.bytes() as u64),
            Form::Cast { from, to } => (bytes(to), bytes(from)),
        }
    }

    /// The whole units that hold `range` of the content, as an extent of their own.
    #[must_use]
    pub fn around(&self, range: Range<u64>) -> Extent {
        let (content, file) = self.unit();
        let first = range.start.saturating_sub(self.start) / content;
        let end = range
            .end
            .min(self.end())
            .saturating_sub(self.start)
            .div_ceil(content);
        let units = end.saturating_sub(first);
        Extent {
            start: self.start + first * content,
            length: units * content,
            offset: self.offset + first * file,
            stored: units * file,
            ..*self
        }
    }

    /// Whether it is a good extent `number`, after ones that end at `expected`.
    fn check(
        &self,
        number: usize,
        expected: u64,
        files: &[StoredFile],
    ) -> Result<(), ContentError> {
        let Extent {
            start,
            length,
            file,
            offset,
            stored,
            form,
        } = *self;
        if start < expected {
            return Err(ContentError::Order {
                number,
                expected,
                got: start,
            });
        }
        if start.checked_add(length).is_none_or(|end| end > MAX_LENGTH) {
            return Err(ContentError::TooLong {
                number,
                start,
                length,
            });
        }
        let Some(StoredFile {
            length: file_length,
            ..
        }) = files.get(file as usize)
        else {
            return Err(ContentError::UnknownFile {
                number,
                files: files.len(),
                got: file,
            });
        };
        let file_length = *file_length;
        if offset
            .checked_add(stored)
            .is_none_or(|end| end > file_length)
        {
            return Err(ContentError::OutsideFile {
                number,
                file_length,
                offset,
                stored,
            });
        }
        let fits = match form {
            Form::Plain => stored == length,
            Form::Checked { .. } => stored >= length,
            Form::Coded { coded, .. } => stored >= u64::from(coded),
            Form::Quantised { .. } | Form::Cast { .. } => {
                let (content, file) = self.unit();
                length.is_multiple_of(content) && length / content * file == stored
            }
        };
        if !fits {
            return Err(ContentError::Lengths {
                number,
                length,
                stored,
            });
        }
        Ok(())
    }
}

/// Where among `contents` the elements of `part` are as `to`, if a content has them so.
pub fn cast(contents: &[Content], part: Part, to: Dtype) -> Option<Vec<Part>> {
    let content = contents.get(part.file as usize)?;
    let from = content.dtype?;
    let other = contents
        .iter()
        .position(|other| other.dtype == Some(to) && other.files == content.files)?;
    let (width, width_there) = (from.bits() / 8, to.bits() / 8);
    let mut parts = Vec::new();
    let (mut offset, end) = (part.offset, part.offset.checked_add(part.length)?);
    while offset < end {
        let number = content.extent_at(offset)?;
        let (extent, there) = (
            content.extents.get(number)?,
            contents.get(other)?.extents.get(number)?,
        );
        let length = end.min(extent.end()) - offset;
        let before = offset - extent.start;
        if !before.is_multiple_of(width) || !length.is_multiple_of(width) {
            return None;
        }
        parts.push(Part {
            file: other as u32,
            offset: there.start + before / width * width_there,
            length: length / width * width_there,
        });
        offset += length;
    }
    Some(parts)
}

/// Extents that make no content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // the fields are what the message says
pub enum ContentError {
    #[error(
        "extent {number}: expected to begin at or after byte {expected}, where the one before ends, got {got}"
    )]
    Order {
        number: usize,
        expected: u64,
        got: u64,
    },
    #[error(
        "extent {number}: expected to end within the {file_length} bytes of the file, got {stored} bytes at {offset}"
    )]
    OutsideFile {
        number: usize,
        file_length: u64,
        offset: u64,
        stored: u64,
    },
    #[error("extent {number}: expected one of {files} files, got file {got}")]
    UnknownFile {
        number: usize,
        files: usize,
        got: u32,
    },
    #[error(
        "extent {number}: expected as many bytes in the file as {length} of content in its form need, got {stored}"
    )]
    Lengths {
        number: usize,
        length: u64,
        stored: u64,
    },
    #[error("extent {number}: expected to end before byte 2^62, got {length} bytes at {start}")]
    TooLong {
        number: usize,
        start: u64,
        length: u64,
    },
}

/// Sums of a few offsets below this don't overflow.
const MAX_LENGTH: u64 = 1 << 62;

impl Content {
    /// A file of `length` bytes that holds its tensors as they are.
    pub fn plain(path: PathBuf, length: u64) -> Self {
        let extent = Extent {
            start: 0,
            length,
            file: 0,
            offset: 0,
            stored: length,
            form: Form::Plain,
        };
        Self {
            dtype: None,
            files: vec![StoredFile { path, length }],
            length,
            extents: vec![extent],
        }
    }

    /// What `files` hold in `extents`. Bytes between two extents belong to no tensor.
    ///
    /// # Errors
    /// Extents that are not in order of their content, that overlap, or that lie outside their file.
    pub fn new(files: Vec<StoredFile>, extents: Vec<Extent>) -> Result<Self, ContentError> {
        let mut length = 0;
        for (number, extent) in extents.iter().enumerate() {
            extent.check(number, length, &files)?;
            length = extent.end();
        }
        Ok(Self {
            dtype: None,
            files,
            length,
            extents,
        })
    }

    /// Says that all elements are of `dtype`, and that contents of the same files have them as others.
    pub(crate) fn with_dtype(mut self, dtype: Dtype) -> Self {
        self.dtype = Some(dtype);
        self
    }

    /// The number of the extent that holds the byte at `offset`.
    fn extent_at(&self, offset: u64) -> Option<usize> {
        let number = self
            .extents
            .partition_point(|extent| extent.end() <= offset);
        self.extents
            .get(number)
            .filter(|extent| extent.start <= offset)
            .map(|_| number)
    }

    /// The files that hold it; one at least names it.
    pub fn files(&self) -> &[StoredFile] {
        &self.files
    }

    /// The first file, which names the content.
    pub fn path(&self) -> PathBuf {
        self.files
            .first()
            .map(|file| file.path.clone())
            .unwrap_or_default()
    }

    /// Bytes of the content.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Whether the content is the file.
    pub fn is_plain(&self) -> bool {
        let [file] = &self.files[..] else {
            return false;
        };
        matches!(self.extents[..], [Extent { start: 0, offset: 0, length, form: Form::Plain, .. }]
            if length == file.length)
    }

    /// The extents that have a byte in `range` of the content, in order.
    pub fn extents(&self, range: Range<u64>) -> impl Iterator<Item = &Extent> {
        let first = self
            .extents
            .partition_point(|extent| extent.end() <= range.start);
        self.extents[first..]
            .iter()
            .take_while(move |extent| extent.start < range.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coded(start: u64, length: u64, offset: u64, stored: u64) -> Extent {
        let form = Form::Coded {
            coded: stored as u32,
            checksum: 0,
        };
        Extent {
            start,
            length,
            file: 0,
            offset,
            stored,
            form,
        }
    }

    fn files() -> Vec<StoredFile> {
        vec![StoredFile {
            path: "a".into(),
            length: 10_000,
        }]
    }

    #[test]
    fn extents_are_found_by_the_content_that_they_make() {
        let extents = vec![coded(0, 100, 4096, 70), coded(128, 100, 8192, 70)];
        let content = Content::new(files(), extents.clone()).unwrap();
        assert_eq!(content.length(), 228);
        assert!(!content.is_plain() && Content::plain("a".into(), 7).is_plain());
        let found = |range: Range<u64>| content.extents(range).copied().collect::<Vec<_>>();
        assert_eq!(found(0..1), extents[..1]);
        assert_eq!(found(99..129), extents);
        assert_eq!(found(100..128), []);
        assert_eq!(found(200..1000), extents[1..]);
    }

    #[test]
    fn what_overlaps_or_lies_outside_is_refused() {
        let refused = |extents: Vec<Extent>| Content::new(files(), extents).unwrap_err();
        assert!(matches!(
            refused(vec![coded(0, 100, 0, 70), coded(99, 1, 0, 70)]),
            ContentError::Order {
                number: 1,
                expected: 100,
                got: 99
            }
        ));
        assert!(matches!(
            refused(vec![coded(0, 100, 9_990, 11)]),
            ContentError::OutsideFile { .. }
        ));
        assert!(matches!(
            refused(vec![coded(0, 100, u64::MAX, 11)]),
            ContentError::OutsideFile { .. }
        ));
        assert!(matches!(
            refused(vec![coded(u64::MAX, 100, 0, 11)]),
            ContentError::TooLong { .. }
        ));
        let elsewhere = Extent {
            file: 1,
            ..coded(0, 100, 0, 11)
        };
        assert!(matches!(
            refused(vec![elsewhere]),
            ContentError::UnknownFile { .. }
        ));
        let plain = Extent {
            form: Form::Plain,
            ..coded(0, 100, 0, 70)
        };
        assert!(matches!(refused(vec![plain]), ContentError::Lengths { .. }));
    }
}
