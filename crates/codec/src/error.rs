/// Coded bytes that can't be decoded: what was expected and what was got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the fields are what the message says
pub enum DecodeError {
    #[error("expected at least the {expected} bytes of a coded chunk's header, got {got}")]
    NoHeader { expected: usize, got: usize },

    #[error("expected version {expected} of the coding, got {got}")]
    Version { expected: u8, got: u8 },

    #[error("expected a scheme of the coding, got {got}")]
    Scheme { got: u8 },

    #[error("expected a coded chunk of {expected} bytes, as its header says, got {got}")]
    CodedLength { expected: u64, got: u64 },

    #[error("expected room for the {expected} bytes of the chunk, got room for {got}")]
    RawLength { expected: usize, got: usize },

    #[error("tile {tile}: expected its escapes within the {length} bytes of the chunk's escapes")]
    Escapes { tile: usize, length: usize },
}
