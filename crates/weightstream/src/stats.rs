/// What a stream has done so far. Times are in nanoseconds, sizes in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Memory allowed for weights.
    pub budget: u64,
    /// Memory in use for weights.
    pub used: u64,
    /// Distinct weights of the model.
    pub model_bytes: u64,
    /// One chunk.
    pub chunk_bytes: u64,
    /// Buffers for weights that are decoded: part of the budget.
    pub buffers: u64,
    /// Weights that stay in memory from pass to pass.
    pub kept_bytes: u64,
    /// Memory in which some of them stay as they are stored, coded or quantised: part of the budget.
    pub coded_bytes: u64,
    /// The least budget that works for this stream.
    pub least: u64,
    /// Passes begun.
    pub passes: u64,
    /// Bytes read, and how many reads brought them.
    pub bytes_read: u64,
    /// Reads that ended well.
    pub reads: u64,
    /// Touches that found their chunk absent.
    pub faults: u64,
    /// Chunks read ahead and dropped without a touch.
    pub wasted: u64,
    /// Reads tried again after an error.
    pub retries: u64,
    /// Weights that could not be read.
    pub errors: u64,
    /// How often touches found that the kernel has no mapping left, and other weights gave way.
    pub refusals: u64,
    /// Time in which at least one thread waited for a weight.
    pub stall_ns: u64,
    /// Time in which at least one read was under way.
    pub reading_ns: u64,
    /// Bytes read and time passed while the source was kept fully busy, halved after every pass: its rate of late.
    pub busy_bytes: u64,
    /// See `busy_bytes`.
    pub busy_ns: u64,
    /// The last complete pass: bytes read during it.
    pub pass_bytes: u64,
    /// The last complete pass: how long it took.
    pub pass_ns: u64,
    /// The last complete pass: how long computation waited for weights.
    pub pass_stall_ns: u64,
}
