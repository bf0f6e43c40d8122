//! What `torch.save` and `torch.export.save` write: zip archives whose records are the storages of tensors.
//!
//! No pickle is executed: see [`pickle`].

mod export;
mod pickle;
mod records;

use std::collections::BTreeMap;
use std::path::Path;

use crate::index::Header;
use crate::{CheckpointError, Content, Tensor};
use pickle::View;
use records::Records;

/// How a zip archive begins.
pub const ZIP: &[u8] = b"PK\x03\x04";

/// How a pickle of `torch.save` began before it wrote archives: protocol 2, and its magic number.
pub const LEGACY: &[u8] = b"\x80\x02\x8a\x0a";

/// Reads what the archive at `path` says of its tensors, which get `file` as their content.
pub fn read(path: &Path, file: u32) -> Result<Header, CheckpointError> {
    let records = Records::read(path)?;
    if let Some(order) = records.bytes(path, "byteorder")?
        && order != b"little"
    {
        let came = String::from_utf8_lossy(&order).into_owned();
        return Err(failed(
            path,
            None,
            format!("expected little-endian weights, came {came}"),
        ));
    }
    let views = if let Some(table) = records.bytes(path, export::WEIGHTS)? {
        export::views(&table).map_err(|reason| failed(path, None, reason))?
    } else if let Some(program) = records.bytes(path, "data.pkl")? {
        let mut views = pickle::tensors(&program).map_err(|reason| failed(path, None, reason))?;
        for (_, view) in &mut views {
            view.storage.insert_str(0, "data/");
        }
        views
    } else {
        let reason = format!(
            "expected a record data.pkl (torch.save) or {} (torch.export.save)",
            export::WEIGHTS
        );
        return Err(failed(path, None, reason));
    };
    let mut tensors = views
        .into_iter()
        .map(|(name, view)| tensor(path, file, &records, name, view))
        .collect::<Result<Vec<_>, _>>()?;
    tensors.sort_by_key(|tensor| (tensor.offset, tensor.length));
    Ok(Header {
        tensors,
        metadata: BTreeMap::new(),
        contents: vec![Content::plain(path.to_owned(), records.file_length)],
    })
}

/// The error of an old file.
pub fn refuse_legacy(path: &Path) -> CheckpointError {
    let reason = "expected a zip archive, as torch.save has written since version 1.6, came a bare pickle; \
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
    path: &Path,
    file: u32,
    records: &Records,
    name: String,
    view: View,
) -> Result<Tensor, CheckpointError> {
    let failed = |reason: String| failed(path, Some(&name), reason);
    let View {
        storage,
        dtype,
        offset,
        shape,
        strides,
    } = view;
    let Some((start, available)) = records.range(&storage) else {
        return Err(failed(format!("expected a record {storage:?}, came none")));
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
            "expected a contiguous tensor, came one of shape {shape:?} with the strides {strides:?}; \
             save it with .contiguous()"
        )));
    }
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
        offset: start + skipped,
        length,
    })
}

/// Whether elements follow each other. What is along a dimension of one element is nowhere else.
fn is_contiguous(shape: &[u64], strides: &[u64]) -> bool {
    let mut expected = 1_u64;
    shape.iter().zip(strides).rev().all(|(&size, &stride)| {
        let fits = size == 1 || stride == expected;
        expected = expected.saturating_mul(size);
        fits
    })
}
