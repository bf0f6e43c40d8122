//! Reads little-endian fields from bytes that may lie.

use super::error::PackedError;

/// A section of a manifest, read from its start to its end.
pub(super) struct Cursor<'b> {
    section: &'static str,
    bytes: &'b [u8],
}

impl<'b> Cursor<'b> {
    pub fn new(section: &'static str, bytes: &'b [u8]) -> Self {
        Self { section, bytes }
    }

    pub fn u8(&mut self) -> Result<u8, PackedError> {
        self.array().map(|[byte]| byte)
    }

    pub fn u16(&mut self) -> Result<u16, PackedError> {
        self.array().map(u16::from_le_bytes)
    }

    pub fn u32(&mut self) -> Result<u32, PackedError> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Result<u64, PackedError> {
        self.array().map(u64::from_le_bytes)
    }

    /// As many rows as `count` says, if each can have `least` bytes: nothing is allocated for rows that are not there.
    pub fn rows(&self, count: u64, least: usize) -> Result<usize, PackedError> {
        usize::try_from(count)
            .ok()
            .filter(|count| {
                count
                    .checked_mul(least)
                    .is_some_and(|bytes| bytes <= self.bytes.len())
            })
            .ok_or_else(|| self.malformed(format!("{count} rows in {} bytes", self.bytes.len())))
    }

    /// UTF-8 of `length` bytes.
    pub fn text(&mut self, length: usize) -> Result<&'b str, PackedError> {
        let bytes = self.take(length)?;
        std::str::from_utf8(bytes).map_err(|_| self.malformed("text that is not UTF-8".into()))
    }

    /// Reserved bytes, which this version writes as zeros.
    pub fn zeros(&mut self, count: usize) -> Result<(), PackedError> {
        if self.take(count)?.iter().any(|&byte| byte != 0) {
            return Err(self.malformed("reserved bytes that are not zero".into()));
        }
        Ok(())
    }

    pub fn take(&mut self, count: usize) -> Result<&'b [u8], PackedError> {
        let (taken, rest) = self
            .bytes
            .split_at_checked(count)
            .ok_or_else(|| self.malformed(format!("an end {count} bytes too early")))?;
        self.bytes = rest;
        Ok(taken)
    }

    pub fn finish(self) -> Result<(), PackedError> {
        match self.bytes.len() {
            0 => Ok(()),
            left => Err(self.malformed(format!("{left} bytes after the last row"))),
        }
    }

    pub fn malformed(&self, got: String) -> PackedError {
        PackedError::Malformed {
            section: self.section,
            got,
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], PackedError> {
        let taken = self.take(N)?;
        let mut array = [0; N];
        array.copy_from_slice(taken);
        Ok(array)
    }
}
