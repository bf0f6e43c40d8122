//! Packed checkpoints: our own layout on disk, described down to the byte in `docs/format.md`.
//!
//! The weights have one address space, in the order in which they are used. It is cut into *chunks* of a fixed
//! decoded size, each of which is stored at an aligned offset so that one direct read brings it. A chunk consists of
//! *frames*: what is coded, checksummed and decoded on its own, so that a small budget need not read whole chunks.
//!
//! [`Packed::open`] reads the manifest and never a weight. To fill a range of the weights:
//!
//! ```no_run
//! use std::os::unix::fs::FileExt;
//! use weightstream_checkpoint::packed::Packed;
//!
//! let packed = Packed::open("packed-model".as_ref())?;
//! let mut weights = vec![0; packed.chunk_bytes() as usize];
//! for frame in packed.frames_in(0..packed.chunk_bytes()) {
//!     let mut stored = vec![0; frame.stored_length as usize];
//!     std::fs::File::open(&packed.files()[frame.file as usize])?.read_exact_at(&mut stored, frame.offset)?;
//!     let place = frame.address as usize..frame.address as usize + frame.length as usize;
//!     frame.decode(&stored, &mut weights[place])?; // verified first
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! To everything above, a packed checkpoint is one file, named by its manifest and as long as its weights: an offset
//! in it is an address of the weights. So [`Layout`](crate::Layout) mirrors it like any other file, and chunks of a
//! pool that are not larger than the checkpoint's never straddle two of its chunks.

mod cursor;
mod error;
mod format;
mod frame;
mod reader;

pub use error::PackedError;
pub use format::{
    CHUNK_BYTES, ChunkRow, Code, DataFile, FRAME_ALIGNMENT, FRAME_BYTES, FrameRow, MANIFEST,
    Manifest, STORED_ALIGNMENT, element, file_name,
};
pub use frame::{Frame, FrameError, checksum};
pub use reader::Packed;
pub use weightstream_codec::Element;
