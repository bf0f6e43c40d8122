/// Coded bytes that can't be decoded: what was expected and what came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the fields are what the message says
pub enum DecodeError {
    #[error("expected at least the {expected} bytes of a coded chunk's header, came {came}")]
    NoHeader { expected: usize, came: usize },

    #[error("expected version {expected} of the coding, came {came}")]
    Version { expected: u8, came: u8 },

    #[error("expected a scheme of the coding, came {came}")]
    Scheme { came: u8 },

    #[error("expected a coded chunk of {expected} bytes, as its header says, came {came}")]
    CodedLength { expected: u64, came: u64 },

    #[error("expected room for the {expected} bytes of the chunk, came room for {came}")]
    RawLength { expected: usize, came: usize },

    #[error("tile {tile}: expected its escapes within the {length} bytes of the chunk's escapes")]
    Escapes { tile: usize, length: usize },
}
