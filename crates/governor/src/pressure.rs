//! How much memory there is at this moment.

/// What a system says of its memory.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pressure {
    /// Bytes that may be used before the system begins to kill.
    pub limit: u64,
    /// Bytes of them that are in use and can't be dropped at once, as a page cache can.
    pub used: u64,
    /// The share of the last seconds in which some task waited for memory, in percent, where the system tells.
    pub stalled: Option<f64>,
}

impl Pressure {
    /// Bytes that are left.
    pub fn free(&self) -> u64 {
        self.limit.saturating_sub(self.used)
    }
}

/// Tells the pressure when it is asked, several times a second. An application on a phone answers with what its
/// system last called back with: on a warning a small limit, later the usual one.
pub trait PressureSource: Send {
    /// The pressure now; None where nothing is known, and nothing is to change.
    fn pressure(&mut self) -> Option<Pressure>;
}

impl<F: FnMut() -> Option<Pressure> + Send> PressureSource for F {
    fn pressure(&mut self) -> Option<Pressure> {
        self()
    }
}
