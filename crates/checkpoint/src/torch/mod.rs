//! What `torch.save` writes: zip archives whose records are the storages of tensors.
//!
//! No pickle is executed: see [`pickle`].

mod allowance;
mod pickle;

use std::collections::BTreeMap;
use std::path::Path;

use crate::index::Header;
use crate::pt2::is_contiguous;
use crate::{Archive, CheckpointError, Content, Tensor, pt2};
use pickle::View;

/// How a zip archive begins.
pub const ZIP: &[u8] = b"PK\x03\x04";

/// How a pickle of `torch.save` began before it wrote archives: protocol 2, and its magic number.
pub const LEGACY: &[u8] = b"\x80\x02\x8a\x0a";

/// A pickle larger than this describes no model.
const MAX_PICKLE: u64 = 256 << 20;

/// Reads what the archive at `path` says of its tensors, which get `file` as their content.
pub fn read(path: &Path, file: u32) -> Result<Header, CheckpointError> {
    let archive = Archive::open(path)?;
    // Everything is in one folder, named after the file that was written.
    let program = archive
        .entries()
        .map(|(name, _)| name)
        .find(|name| name.ends_with("/data.pkl") && name.matches('/').count() == 1);
    let Some(program) = program else {
        return pt2::read(&archive, file);
    };
    let root = program.trim_end_matches("data.pkl");
    let order = format!("{root}byteorder");
    if archive.get(&order).is_some() {
        let order = archive.read(&order, 16)?;
        if order != b"little" {
            let got = String::from_utf8_lossy(&order).into_owned();
            let reason = format!("expected little-endian weights, got {got}");
            return Err(failed(path, None, reason));
        }
    }
    let pickle = archive.read(program, MAX_PICKLE)?;
    let mut tensors = pickle::tensors(&pickle)
        .map_err(|reason| failed(path, None, reason))?
        .into_iter()
        .map(|(name, mut view)| {
            view.storage.insert_str(0, &format!("{root}data/"));
            tensor(&archive, file, name, view)
        })
        .collect::<Result<Vec<_>, _>>()?;
    tensors.sort_by_key(|tensor| (tensor.offset, tensor.length));
    Ok(Header {
        tensors,
        metadata: BTreeMap::new(),
        contents: vec![Content::plain(path.to_owned(), archive.file_length())],
    })
}

/// The error of an old file.
pub fn refuse_legacy(path: &Path) -> CheckpointError {
    let reason = "expected a zip archive, as torch.save has written since version 1.6, got a bare pickle; \
                  torch.save(torch.load(path, weights_only=True), path) makes one of it";
    failed(path, None, reason.to_owned())
}

fn failed(path: &Path, tensor: Option<&str>, reason: String) -> CheckpointError {
    CheckpointError::Torch {
        file: path.to_owned(),
        tensor: tensor.map(str::to_owned),
        reason,
    }
}

/// Where a contiguous view lies in the file.
fn tensor(
    archive: &Archive,
    file: u32,
    name: String,
    view: View,
) -> Result<Tensor, CheckpointError> {
    let path = archive.path();
    let failed = |reason: String| failed(path, Some(&name), reason);
    let View {
        storage,
        dtype,
        offset,
        shape,
        strides,
    } = view;
    let Some(record) = archive.get(&storage) else {
        return Err(failed(format!("expected a record {storage:?}, got none")));
    };
    let Some(length) = dtype.bytes(&shape) else {
        return Err(CheckpointError::ImpossibleShape {
            file: path.to_owned(),
            tensor: name,
            dtype,
            shape,
        });
    };
    if length > 0 && !is_contiguous(&shape, &strides) {
        return Err(failed(format!(
            "expected a contiguous tensor, got one of shape {shape:?} with the strides {strides:?}; \
             save it with .contiguous()"
        )));
    }
    let available = record.length;
    let skipped = offset.checked_mul(dtype.bits() / 8);
    let end = skipped.and_then(|skipped| skipped.checked_add(length));
    let (Some(skipped), Some(_)) = (skipped, end.filter(|&end| end <= available)) else {
        return Err(failed(format!(
            "expected {length} bytes from element {offset} on within the {available} bytes of its storage"
        )));
    };
    Ok(Tensor {
        name,
        dtype,
        shape,
        file,
        offset: record.offset + skipped,
        length,
    })
}
