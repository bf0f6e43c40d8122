//! What a stream has done so far: every statistic is declared here, once. Python's, the C interface's and those of the
//! documentation are made of this declaration or compared with it.

/// What a statistic counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Nanoseconds.
    Nanoseconds,
    /// Things.
    Count,
}

/// What a model that is spread over several devices has, of what each of them has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Together {
    /// All of it.
    Sum,
    /// The largest: they are at work at the same time, or have the same.
    Largest,
}

/// One statistic.
#[derive(Debug, Clone, Copy)]
pub struct Statistic {
    /// What it is called everywhere.
    pub name: &'static str,
    /// What it counts.
    pub unit: Unit,
    /// Over several devices.
    pub together: Together,
    /// What it means, in a sentence.
    pub meaning: &'static str,
    /// Its value.
    pub of: fn(&Stats) -> u64,
}

macro_rules! statistics {
    ($(#[doc = $meaning:literal] $name:ident: $unit:ident, $together:ident;)+) => {
        /// What a stream has done so far, since it was opened. Times are in nanoseconds, sizes in bytes.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct Stats {
            $(#[doc = $meaning] pub $name: u64,)+
        }

        impl Stats {
            /// Every statistic.
            pub const ALL: &[Statistic] = &[$(Statistic {
                name: stringify!($name),
                unit: Unit::$unit,
                together: Together::$together,
                meaning: $meaning.trim_ascii(),
                of: |stats| stats.$name,
            }),+];
        }
    };
}

statistics! {
    /// Memory allowed for weights.
    budget: Bytes, Sum;
    /// Memory in use for weights.
    used: Bytes, Sum;
    /// The least budget that works for this stream, in its chunks.
    least: Bytes, Sum;
    /// Distinct weights of the model.
    model_bytes: Bytes, Sum;
    /// One chunk.
    chunk_bytes: Bytes, Largest;
    /// Buffers for weights that are decoded: part of the budget.
    buffers: Bytes, Sum;
    /// Weights that are in memory at this moment, as they are used.
    resident_bytes: Bytes, Sum;
    /// Weights that stay in memory from pass to pass, by plan.
    kept_bytes: Bytes, Sum;
    /// Memory in which some of these stay as they are stored, coded or quantised: part of the budget.
    coded_bytes: Bytes, Sum;
    /// Passes begun, forward and backward.
    passes: Count, Largest;
    /// Bytes read.
    bytes_read: Bytes, Sum;
    /// Reads that ended well.
    reads: Count, Sum;
    /// Touches that had to wait for their weight.
    faults: Count, Sum;
    /// Chunks read ahead and dropped without a touch.
    wasted: Count, Sum;
    /// Reads tried again after an error.
    retries: Count, Sum;
    /// Weights that could not be read.
    errors: Count, Sum;
    /// How often touches found that the kernel has no mapping left, and other weights gave way.
    refusals: Count, Sum;
    /// Time in which at least one thread waited for a weight.
    stall_ns: Nanoseconds, Largest;
    /// Time in which at least one read was under way.
    reading_ns: Nanoseconds, Largest;
    /// Bytes read while the source was kept fully busy, halved after every pass.
    busy_bytes: Bytes, Sum;
    /// Time in which the source was kept fully busy, halved after every pass.
    busy_ns: Nanoseconds, Sum;
    /// Bytes read during the last complete pass.
    pass_bytes: Bytes, Sum;
    /// How long the last complete pass took.
    pass_ns: Nanoseconds, Largest;
    /// Time in the last complete pass in which at least one thread waited for a weight.
    pass_stall_ns: Nanoseconds, Largest;
}

impl Stats {
    /// Bytes a second that the source delivered of late, while it was kept fully busy; 0 before that is known.
    pub fn read_rate(&self) -> f64 {
        match self.busy_ns {
            0 => 0.0,
            busy => self.busy_bytes as f64 * 1e9 / busy as f64,
        }
    }
}
