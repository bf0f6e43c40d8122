//! An index of a checkpoint from its headers alone, and where its weights live in their address space.
//!
//! [`Checkpoint::open`] reads the headers of safetensors files, or the manifest of a [`packed`] checkpoint, and never a weight; what it accepts is safe to
//! read by range: every tensor lies inside its file, and no two tensors overlap.
//! [`Layout`] then gives each parameter of a model a fixed address and says from which file ranges
//! each chunk of that address space is filled.

mod archive;
mod block_layout;
mod content;
mod dtype;
mod error;
mod found;
mod gguf;
mod huggingface;
mod identity;
mod index;
mod inside;
mod layout;
pub mod packed;
mod pt2;
mod safetensors;
mod torch;

pub use archive::{Archive, Entry};
pub use block_layout::{BlockLayout, Fill, SlotCopy, SlotImage, SlotRead};
pub use content::{Content, ContentError, Extent, Form, StoredFile, cast};
pub use dtype::Dtype;
pub use error::CheckpointError;
pub use found::found_at;
pub use identity::identity;
pub use index::{Checkpoint, Tensor};
pub use inside::{OutsideError, inside};
pub use layout::{Layout, LayoutError, Parameter, Part, Piece, Placement};
pub use pt2::{exported_dtype, exported_models};
