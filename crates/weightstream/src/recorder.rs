//! A recording of what happened when, for a timeline.

/// What was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordKind {
    /// A chunk was read from its source.
    Read,
    /// A touch made a chunk visible.
    Publish,
    /// A chunk was copied to a device.
    Copy,
    /// A chunk left the pool.
    Withdraw,
    /// Threads waited for a chunk.
    Stall,
    /// A caller was in a block.
    Block,
}

impl RecordKind {
    /// In a word, for reports.
    pub fn name(self) -> &'static str {
        match self {
            RecordKind::Read => "read",
            RecordKind::Publish => "publish",
            RecordKind::Copy => "copy",
            RecordKind::Withdraw => "withdraw",
            RecordKind::Stall => "stall",
            RecordKind::Block => "block",
        }
    }
}

/// One thing that happened, in nanoseconds since the stream was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// What.
    pub kind: RecordKind,
    /// From.
    pub start_ns: u64,
    /// To; the same as `start_ns` for an instant.
    pub end_ns: u64,
    /// The chunk, or the block for [`RecordKind::Block`].
    pub subject: u32,
    /// The thread, where one is known.
    pub thread: u32,
}

/// A recording that runs for days must not fill the memory it was meant to save.
const LIMIT: usize = 4_000_000;

/// Keeps records while it is switched on.
#[derive(Debug, Default)]
pub struct Recorder {
    records: Option<Vec<Record>>,
}

impl Recorder {
    pub fn add(&mut self, record: impl FnOnce() -> Record) {
        if let Some(records) = &mut self.records
            && records.len() < LIMIT
        {
            records.push(record());
        }
    }

    /// Takes what was recorded, and goes on recording or not.
    pub fn switch(&mut self, on: bool) -> Vec<Record> {
        std::mem::replace(&mut self.records, on.then(Vec::new)).unwrap_or_default()
    }
}
