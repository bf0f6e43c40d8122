//! Lossless coding of weights, with a decoder that is faster than a copy.
//!
//! The exponents of a model's weights carry about 2.6 bits of information each, but take 8 (bf16, fp32) or 5 (fp16).
//! [`encode`] writes the seven most frequent exponents of each tile as 3-bit codes and the others as escapes; sign and
//! mantissa stay as they are. Every code has the same width, so a vector unit decodes 64 values at a time and the
//! memory is the limit: bf16 shrinks to 0.70, fp16 to 0.89, fp32 to 0.85. Where that does not pay, the bytes are kept.
//!
//! ```
//! use weightstream_codec::{Element, decode, encode, raw_length};
//!
//! let raw: Vec<u8> = (0..4096_u32).flat_map(|value| (value as f32).to_le_bytes()).collect();
//! let mut coded = Vec::new();
//! encode(Element::F32, &raw, &mut coded);
//!
//! let mut decoded = vec![0; raw_length(&coded)?];
//! decode(&coded, &mut decoded)?;
//! assert_eq!(decoded, raw);
//! # Ok::<(), weightstream_codec::DecodeError>(())
//! ```
//!
//! The layout is described in [`layout`]; the same bytes come from every machine. Coded bytes may come from anywhere:
//! a decoder checks each length and offset that it takes from them, and never reads or writes outside its arguments.

mod decode;
mod element;
mod encode;
mod error;
mod fields;
pub mod gpu;
mod kernel;
mod kernels;
pub mod layout;
pub mod quantised;

pub use decode::{decode, decode_into, decode_with, raw_length};
pub use element::Element;
pub use encode::{encode, encode_with};
pub use error::DecodeError;
pub use kernel::{Kernel, Stores, kernel};
