//! Whether a file is still the one that was opened.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime};

/// A file at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    length: u64,
    modified: Option<SystemTime>,
    /// When anything about it was last changed, the time of modification included: nobody can set this one back.
    changed: (i64, i64),
}

impl Stamp {
    pub(crate) fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self {
            length: metadata.len(),
            modified: metadata.modified().ok(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }

    /// Whether the content counts as the same: length and time of modification are. That is the rule of backup
    /// programs; a copy that keeps its times, put back in place of a lost file, passes.
    pub(crate) fn is_same_content(&self, other: &Self) -> bool {
        (self.length, self.modified) == (other.length, other.modified)
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
