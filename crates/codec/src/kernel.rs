use std::fmt;
use std::mem::MaybeUninit;

use crate::decode::Tile;
use crate::layout::Format;
use crate::{encode, kernels};

/// The instructions that code and decode. All give the same bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kernel(Instructions);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Instructions {
    Portable,
}

/// How decoded bytes are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stores {
    /// Through the caches: for bytes that are used at once.
    Cached,
    /// Past the caches, where the processor can and the memory is aligned to its vectors (64 bytes suffice): faster for
    /// much memory that is used later.
    Streaming,
}

impl Kernel {
    /// The fastest kernel of this processor.
    pub fn fastest() -> Self {
        Kernel(Instructions::Portable)
    }

    /// All kernels that this processor can run; the portable one is among them.
    pub fn available() -> Vec<Self> {
        vec![Kernel(Instructions::Portable)]
    }

    /// Its name: `"avx512"`, `"avx2"`, `"neon"` or `"portable"`.
    pub fn name(self) -> &'static str {
        match self.0 {
            Instructions::Portable => "portable",
        }
    }

    pub(crate) fn encode(self, tile: &mut encode::Tile, format: Format, values: &[u8]) {
        match self.0 {
            Instructions::Portable => tile.encode(format, values),
        }
    }

    /// Decodes all values but the distant escapes, or tells by None that escapes lie outside of the chunk's.
    pub(crate) fn decode(
        self,
        tile: &Tile,
        values: &mut [MaybeUninit<u8>],
        _stores: Stores,
    ) -> Option<()> {
        match self.0 {
            Instructions::Portable => kernels::portable::decode(tile, values),
        }
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// The name of the kernel that is used on this processor.
pub fn kernel() -> &'static str {
    Kernel::fastest().name()
}
