use std::path::PathBuf;

use crate::Dtype;

/// A packed checkpoint that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the fields are what the message says
pub enum PackedError {
    #[error(
        "expected a manifest of a packed checkpoint, which begins with {expected:02x?}, got {got:02x?}"
    )]
    Magic { expected: [u8; 8], got: Vec<u8> },

    #[error("expected format version {expected}, got {got}; a newer weightstream reads it")]
    Version { expected: u32, got: u32 },

    #[error(
        "expected no required features but those known ({known:#x}), got {got:#x}; a newer weightstream reads it"
    )]
    Features { known: u64, got: u64 },

    #[error(
        "expected no required section but those known, got {got:?}; a newer weightstream reads it"
    )]
    Section { got: String },

    #[error(
        "expected a manifest of {expected} bytes, got {got}; it is truncated or was appended to"
    )]
    Length { expected: u64, got: u64 },

    #[error("manifest: expected the BLAKE3 digest {expected}, got {got}; it is damaged")]
    Digest { expected: String, got: String },

    #[error("manifest, section {section:?}: expected what docs/format.md says, got {got}")]
    Malformed { section: &'static str, got: String },

    #[error("manifest: expected a section {section:?}, got none")]
    MissingSection { section: &'static str },

    #[error("manifest: expected a file beside the manifest, got {name:?}")]
    FileOutside { name: String },

    #[error("manifest, chunk {chunk}: expected {expected}, got {got}")]
    Chunk {
        chunk: u64,
        expected: &'static str,
        got: String,
    },

    #[error("tensor {tensor:?}: expected a dtype of the safetensors format, got {dtype:?}")]
    UnknownDtype { tensor: String, dtype: String },

    #[error(
        "tensor {tensor:?}: expected a whole number of bytes below 2^61, got {dtype} {shape:?}"
    )]
    ImpossibleShape {
        tensor: String,
        dtype: Dtype,
        shape: Vec<u64>,
    },

    #[error(
        "tensor {tensor:?}: expected an end within the {weights} bytes of weights, got {length} bytes at {address}"
    )]
    OutsideWeights {
        tensor: String,
        weights: u64,
        address: u64,
        length: u64,
    },

    #[error("tensor {tensor:?}: expected one, got two")]
    Duplicate { tensor: String },

    #[error("{}: expected {expected} bytes, got {got}; the file is truncated or not this checkpoint's", file.display())]
    FileLength {
        file: PathBuf,
        expected: u64,
        got: u64,
    },
}
