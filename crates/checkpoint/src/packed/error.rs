use std::path::PathBuf;

use crate::Dtype;

/// A packed checkpoint that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the fields are what the message says
pub enum PackedError {
    #[error(
        "expected a manifest of a packed checkpoint, which begins with {expected:02x?}, came {came:02x?}"
    )]
    Magic { expected: [u8; 8], came: Vec<u8> },

    #[error("expected format version {expected}, came {came}; a newer weightstream reads it")]
    Version { expected: u32, came: u32 },

    #[error(
        "expected no required features but those known ({known:#x}), came {came:#x}; a newer weightstream reads it"
    )]
    Features { known: u64, came: u64 },

    #[error(
        "expected no required section but those known, came {came:?}; a newer weightstream reads it"
    )]
    Section { came: String },

    #[error(
        "expected a manifest of {expected} bytes, came {came}; it is truncated or was appended to"
    )]
    Length { expected: u64, came: u64 },

    #[error("manifest: expected the BLAKE3 digest {expected}, came {came}; it is damaged")]
    Digest { expected: String, came: String },

    #[error("manifest, section {section:?}: expected what docs/format.md says, came {came}")]
    Malformed { section: &'static str, came: String },

    #[error("manifest: expected a section {section:?}, came none")]
    MissingSection { section: &'static str },

    #[error("manifest: expected a file beside the manifest, came {name:?}")]
    FileOutside { name: String },

    #[error("manifest, chunk {chunk}: expected {expected}, came {came}")]
    Chunk {
        chunk: u64,
        expected: &'static str,
        came: String,
    },

    #[error("tensor {tensor:?}: expected a dtype of the safetensors format, came {dtype:?}")]
    UnknownDtype { tensor: String, dtype: String },

    #[error(
        "tensor {tensor:?}: expected a whole number of bytes below 2^61, came {dtype} {shape:?}"
    )]
    ImpossibleShape {
        tensor: String,
        dtype: Dtype,
        shape: Vec<u64>,
    },

    #[error(
        "tensor {tensor:?}: expected an end within the {weights} bytes of weights, came {length} bytes at {address}"
    )]
    OutsideWeights {
        tensor: String,
        weights: u64,
        address: u64,
        length: u64,
    },

    #[error("tensor {tensor:?}: expected one, came two")]
    Duplicate { tensor: String },

    #[error("{}: expected {expected} bytes, came {came}; the file is truncated or not this checkpoint's", file.display())]
    FileLength {
        file: PathBuf,
        expected: u64,
        came: u64,
    },
}
