//! Whether a file is still the one that was opened.

use std::fs::File;
use std::io;
use std::time::{Duration, SystemTime};

/// Length and time of the last change: two files, or one at two times, with the same stamp count as the same. That is
/// the rule of backup programs; a copy that keeps its times, put back in place of a lost file, passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    length: u64,
    modified: Option<SystemTime>,
}

impl Stamp {
    pub(crate) fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self {
            length: metadata.len(),
            modified: metadata.modified().ok(),
        })
    }

    /// What has become of a file with this stamp, in words.
    pub(crate) fn difference(&self, now: &Self) -> String {
        if self.length != now.length {
            return format!("it had {} bytes, now {}", self.length, now.length);
        }
        let seconds = |time: Option<SystemTime>| {
            time.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok())
                .unwrap_or(Duration::ZERO)
                .as_secs_f64()
        };
        format!(
            "it was last written at {:.3}, now {:.3} seconds since 1970",
            seconds(self.modified),
            seconds(now.modified)
        )
    }
}
