//! What is being done, for a progress bar.

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Looking at what an interrupted run has left.
    Resuming,
    /// Reading, coding and writing.
    Packing,
    /// Reading what was written, and checking it.
    Verifying,
    /// Decoding and writing.
    Unpacking,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub phase: Phase,
    /// Bytes of weights done.
    pub done: u64,
    /// Bytes of weights in all.
    pub total: u64,
    /// Bytes that those done take on disk.
    pub stored: u64,
}

/// Told of every step, from one thread at a time.
pub type OnProgress<'p> = &'p (dyn Fn(Progress) + Sync);
