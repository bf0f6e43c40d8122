//! Makes a packed checkpoint of weights that someone else writes, one after another.

use std::fs::OpenOptions;
use std::io::Read;
use std::path::Path;

use weightstream::Tensor;
use weightstream_checkpoint::packed::{
    CHUNK_BYTES, ChunkRow, Code, DataFile, Element, FRAME_BYTES, FrameRow, MANIFEST, Manifest,
    STORED_ALIGNMENT, checksum, file_name,
};

use crate::PackError;
use crate::pack::write_durably;

/// Writes the manifest of the packed checkpoint in `folder` whose one data file, an image of the weights, is there
/// already. `tensors` say where each lies in it, at multiples of 64.
///
/// # Errors
/// A data file that can't be read, or that ends before the tensors do.
pub fn seal(folder: &Path, tensors: Vec<Tensor>) -> Result<(), PackError> {
    let name = file_name(0);
    let path = folder.join(&name);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .map_err(PackError::io(&path, "open"))?;
    let weights = tensors.iter().map(|tensor| tensor.offset + tensor.length);
    let weights = weights.max().unwrap_or(0);
    let length = weights.next_multiple_of(STORED_ALIGNMENT);
    file.set_len(length)
        .and_then(|()| file.sync_all())
        .map_err(PackError::io(&path, "flush"))?;
    let mut manifest = Manifest {
        files: vec![DataFile { name, length }],
        tensors,
        chunk_bytes: CHUNK_BYTES,
        ..Manifest::default()
    };
    let mut buffer = vec![0; FRAME_BYTES as usize];
    for offset in (0..weights).step_by(FRAME_BYTES as usize) {
        let frame = (weights - offset).min(FRAME_BYTES);
        let stored = (length - offset).min(FRAME_BYTES);
        let bytes = buffer.get_mut(..stored as usize).unwrap_or_default();
        file.read_exact(bytes)
            .map_err(PackError::io(&path, "read"))?;
        manifest.frames.push(FrameRow {
            length: frame as u32,
            stored_length: stored as u32,
            coded_length: frame as u32,
            code: Code::Raw,
            element: Element::Bytes,
            checksum: checksum(bytes),
        });
        if offset.is_multiple_of(CHUNK_BYTES) {
            let (file, frames) = (0, 0);
            manifest.chunks.push(ChunkRow {
                file,
                frames,
                offset,
            });
        }
        if let Some(chunk) = manifest.chunks.last_mut() {
            chunk.frames += 1;
        }
    }
    write_durably(&folder.join(MANIFEST), &manifest.to_bytes())
}
