//! Which failed reads are tried again, and when.

use std::time::Duration;
use weightstream_source::{ReadError, ReadErrorKind};

/// A failed read is tried again after these pauses before it counts as failed.
const PAUSES: [Duration; 3] = [
    Duration::from_millis(2),
    Duration::from_millis(20),
    Duration::from_millis(200),
];

/// How long to wait before a read is tried again that has failed `attempts` times before; None to give it up.
pub fn pause(error: &ReadError, attempts: usize) -> Option<Duration> {
    let hopeless = matches!(
        error.kind,
        ReadErrorKind::UnknownFile { .. } | ReadErrorKind::Abandoned
    );
    PAUSES.get(attempts).copied().filter(|_| !hopeless)
}
