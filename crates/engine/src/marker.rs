//! Points of a program, by which a pass is followed.

/// A point of a program: a block begins or ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Marker(u32);

impl Marker {
    /// Before anything was seen.
    pub const OUTSIDE: Marker = Marker(0);

    /// Block `block` begins.
    pub fn enter(block: u32) -> Self {
        Marker(block.saturating_add(1) << 1)
    }

    /// Block `block` has ended.
    pub fn leave(block: u32) -> Self {
        Marker(block.saturating_add(1) << 1 | 1)
    }

    /// As one number, for a [`note`](Self::from_number).
    pub fn number(self) -> u32 {
        self.0
    }

    /// The marker with this number.
    pub fn from_number(number: u32) -> Self {
        Marker(number)
    }

    /// The block that begins here, if one does.
    pub fn entered(self) -> Option<u32> {
        (self.0 > 1 && !self.is_leave()).then(|| (self.0 >> 1) - 1)
    }

    /// The beginning of the block after this one, in the order of their numbers.
    pub(crate) fn following(self) -> Self {
        Marker((self.0 | 1) + 1)
    }

    pub(crate) fn is_leave(self) -> bool {
        self.0 & 1 == 1
    }
}
