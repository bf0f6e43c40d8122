use std::path::Path;
use std::sync::Arc;
use weightstream_source::{ReadError, ReadErrorKind};

/// Bytes of a file that weights can't be made of: which, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Index into the source's files.
    pub file: u32,
    pub offset: u64,
    pub length: usize,
    pub reason: String,
}

impl Damage {
    /// The error of a read from one of these files.
    pub fn in_files<P: AsRef<Path>>(self, paths: &[P]) -> ReadError {
        let path = paths.get(self.file as usize).map(AsRef::as_ref);
        ReadError {
            path: Arc::from(path.unwrap_or(Path::new(""))),
            offset: self.offset,
            length: self.length,
            kind: ReadErrorKind::Damaged {
                reason: self.reason,
            },
        }
    }
}
