//! What the tensors of a file read as, and which stored bytes that is made of.

use std::ops::Range;
use std::path::PathBuf;

use crate::Dtype;

/// The bytes of a file as its tensors have them. For most files that is the file itself; where tensors are stored
/// in another form (coded, quantised) the content is longer than the file, and tensors lie in the content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    path: PathBuf,
    file_length: u64,
    length: u64,
    extents: Vec<Extent>,
}

/// A range of a content and the range of the file that it is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Bytes from the start of the content.
    pub start: u64,
    /// Bytes of the content.
    pub length: u64,
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
    /// Coded by `weightstream-codec`, all of the extent at once. Elements are of `dtype`.
    Coded {
        /// What the content's elements are.
        dtype: Dtype,
        /// XXH3-64 of the stored bytes.
        checksum: u64,
    },
}

impl Extent {
    fn end(&self) -> u64 {
        self.start + self.length
    }
}

/// Extents that make no content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // the fields are what the message says
pub enum ContentError {
    #[error(
        "extent {number}: expected to begin at or after byte {expected}, where the one before ends, came {came}"
    )]
    Order {
        number: usize,
        expected: u64,
        came: u64,
    },
    #[error(
        "extent {number}: expected to end within the {file_length} bytes of the file, came {stored} bytes at {offset}"
    )]
    OutsideFile {
        number: usize,
        file_length: u64,
        offset: u64,
        stored: u64,
    },
    #[error(
        "extent {number}: expected as many bytes in the file as in the content, {length}, came {stored}"
    )]
    Lengths {
        number: usize,
        length: u64,
        stored: u64,
    },
    #[error("extent {number}: expected to end before byte 2^62, came {length} bytes at {start}")]
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
            offset: 0,
            stored: length,
            form: Form::Plain,
        };
        Self {
            path,
            file_length: length,
            length,
            extents: vec![extent],
        }
    }

    /// What the file at `path`, of `file_length` bytes, holds in `extents`. Bytes between two extents belong to no
    /// tensor.
    ///
    /// # Errors
    /// Extents that are not in order of their content, that overlap, or that lie outside the file.
    pub fn new(
        path: PathBuf,
        file_length: u64,
        extents: Vec<Extent>,
    ) -> Result<Self, ContentError> {
        let mut length = 0;
        for (number, extent) in extents.iter().enumerate() {
            let Extent {
                start,
                length: bytes,
                offset,
                stored,
                form,
            } = *extent;
            if start < length {
                return Err(ContentError::Order {
                    number,
                    expected: length,
                    came: start,
                });
            }
            length = start
                .checked_add(bytes)
                .filter(|&end| end <= MAX_LENGTH)
                .ok_or(ContentError::TooLong {
                    number,
                    start,
                    length: bytes,
                })?;
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
            if form == Form::Plain && stored != bytes {
                return Err(ContentError::Lengths {
                    number,
                    length: bytes,
                    stored,
                });
            }
        }
        Ok(Self {
            path,
            file_length,
            length,
            extents,
        })
    }

    /// The file.
    pub fn path(&self) -> &PathBuf {
        &self.path
    }

    /// Bytes of the file.
    pub fn file_length(&self) -> u64 {
        self.file_length
    }

    /// Bytes of the content.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Whether the content is the file.
    pub fn is_plain(&self) -> bool {
        matches!(self.extents[..], [Extent { start: 0, offset: 0, length, form: Form::Plain, .. }] if length == self.file_length)
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
            dtype: Dtype::BF16,
            checksum: 0,
        };
        Extent {
            start,
            length,
            offset,
            stored,
            form,
        }
    }

    #[test]
    fn extents_are_found_by_the_content_that_they_make() {
        let extents = vec![coded(0, 100, 4096, 70), coded(128, 100, 8192, 70)];
        let content = Content::new("a".into(), 10_000, extents.clone()).unwrap();
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
        let refused = |extents: Vec<Extent>| Content::new("a".into(), 10_000, extents).unwrap_err();
        assert!(matches!(
            refused(vec![coded(0, 100, 0, 70), coded(99, 1, 0, 70)]),
            ContentError::Order {
                number: 1,
                expected: 100,
                came: 99
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
        let plain = Extent {
            form: Form::Plain,
            ..coded(0, 100, 0, 70)
        };
        assert!(matches!(refused(vec![plain]), ContentError::Lengths { .. }));
    }
}
