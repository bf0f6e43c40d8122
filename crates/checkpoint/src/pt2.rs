//! The weights and constants of a program that `torch.export.save` wrote: a zip file with the bytes of each storage in
//! an entry of its own, and JSON that says which tensors lie in them.
//! Format: `torch/export/pt2_archive` and `torch/_export/serde/schema.py` of torch 2.15.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::index::Header;
use crate::{Archive, CheckpointError, Content, Dtype, Tensor};

/// As large as the description of a program's weights may be.
const MAX_CONFIG: u64 = 256 << 20;

/// Where an archive has its models: `NAME/models/MODEL.json`.
const MODELS: &str = "models/";

#[derive(Deserialize)]
struct Payloads {
    config: BTreeMap<String, Payload>,
}

#[derive(Deserialize)]
struct Payload {
    path_name: String,
    use_pickle: bool,
    tensor_meta: Option<TensorMeta>,
}

#[derive(Deserialize)]
struct TensorMeta {
    dtype: u32,
    sizes: Vec<Size>,
    strides: Vec<Size>,
    storage_offset: Size,
}

#[derive(Deserialize)]
struct Size {
    as_int: u64,
}

/// The dtype that the schema of exported programs numbers so (torch's `ScalarType`, plus one).
pub fn exported_dtype(number: u32) -> Option<Dtype> {
    Some(match number {
        1 => Dtype::U8,
        2 => Dtype::I8,
        3 => Dtype::I16,
        4 => Dtype::I32,
        5 => Dtype::I64,
        6 => Dtype::F16,
        7 => Dtype::F32,
        8 => Dtype::F64,
        10 => Dtype::C64,
        12 => Dtype::BOOL,
        13 => Dtype::BF16,
        28 => Dtype::U16,
        29 => Dtype::F8_E4M3,
        30 => Dtype::F8_E5M2,
        31 => Dtype::F8_E4M3FNUZ,
        32 => Dtype::F8_E5M2FNUZ,
        33 => Dtype::F8_E8M0,
        34 => Dtype::U32,
        35 => Dtype::U64,
        _ => return None,
    })
}

/// The names of the models in an archive, each with the folder before `models/`.
pub fn exported_models(archive: &Archive) -> Vec<(String, String)> {
    archive
        .entries()
        .filter_map(|(name, _)| {
            let (root, rest) = name.split_once(MODELS)?;
            let model = rest.strip_suffix(".json")?;
            (!model.contains('/') && root.matches('/').count() <= 1)
                .then(|| (root.to_owned(), model.to_owned()))
        })
        .collect()
}

/// Reads where the tensors of the program in `path` lie. Contiguous ones have the program's shape; of others the whole
/// storage is given, as a tensor of one dimension, and the program says how it is strided. Where there are several
/// programs, names begin with the program's: `decode.lm_head.weight`.
pub(crate) fn read(archive: &Archive, file: u32) -> Result<Header, CheckpointError> {
    let path = archive.path();
    let mut tensors = Vec::new();
    let models = exported_models(archive);
    for (root, model) in &models {
        // Programs of one archive may use the same names for different tensors.
        let prefix = match models.len() {
            1 => String::new(),
            _ => format!("{model}."),
        };
        for (kind, folder) in [("weights", "weights"), ("constants", "constants")] {
            let config = format!("{root}data/{folder}/{model}_{kind}_config.json");
            let bytes = archive.read(&config, MAX_CONFIG)?;
            let payloads: Payloads =
                serde_json::from_slice(&bytes).map_err(|source| CheckpointError::Json {
                    file: path.to_owned(),
                    tensor: Some(config.clone()),
                    source,
                })?;
            for (name, payload) in payloads.config {
                let entry = format!("{root}data/{folder}/{}", payload.path_name);
                let name = format!("{prefix}{name}");
                tensors.extend(locate(archive, file, &name, &payload, &entry)?);
            }
        }
    }
    if models.is_empty() {
        return Err(CheckpointError::Archive {
            file: path.to_owned(),
            expected: "a program that torch.export.save wrote",
            got: "an archive without models/*.json".into(),
        });
    }
    tensors.sort_by_key(|tensor| tensor.offset);
    Ok(Header {
        tensors,
        metadata: BTreeMap::new(),
        contents: vec![Content::plain(path.to_owned(), archive.file_length())],
    })
}

/// None for what is no tensor, or a pickled one: the program that uses it can't run, but others may.
fn locate(
    archive: &Archive,
    file: u32,
    name: &str,
    payload: &Payload,
    entry_name: &str,
) -> Result<Option<Tensor>, CheckpointError> {
    let (Some(meta), false) = (&payload.tensor_meta, payload.use_pickle) else {
        return Ok(None);
    };
    let fail = |expected: &'static str, got: String| CheckpointError::Archive {
        file: archive.path().to_owned(),
        expected,
        got: format!("{got} for tensor {name:?}"),
    };
    let dtype = exported_dtype(meta.dtype)
        .ok_or_else(|| fail("a dtype of torch 2.15", format!("number {}", meta.dtype)))?;
    let ints = |sizes: &[Size]| sizes.iter().map(|size| size.as_int).collect::<Vec<_>>();
    let (shape, strides) = (ints(&meta.sizes), ints(&meta.strides));
    let itemsize = dtype.bits() / 8;
    let elements = shape
        .iter()
        .try_fold(1u64, |product, &size| product.checked_mul(size));
    if elements == Some(0) {
        return Ok(Some(Tensor {
            name: name.to_owned(),
            dtype,
            shape,
            file,
            offset: 0,
            length: 0,
        }));
    }
    let entry = archive
        .get(entry_name)
        .ok_or_else(|| fail("an entry for each tensor", format!("no {entry_name:?}")))?;
    let (shape, start, length) = if is_contiguous(&shape, &strides) {
        let start = meta.storage_offset.as_int.checked_mul(itemsize);
        (
            shape,
            start,
            elements.and_then(|elements| elements.checked_mul(itemsize)),
        )
    } else {
        let elements = entry.length / itemsize;
        (vec![elements], Some(0), Some(elements * itemsize))
    };
    let place = start.zip(length).filter(|(start, length)| {
        start
            .checked_add(*length)
            .is_some_and(|end| end <= entry.length)
    });
    let (start, length) = place.ok_or_else(|| {
        fail(
            "tensors within their entries",
            format!("{} bytes in {entry_name:?}", entry.length),
        )
    })?;
    Ok(Some(Tensor {
        name: name.to_owned(),
        dtype,
        shape,
        file,
        offset: entry.offset + start,
        length,
    }))
}

/// Whether elements follow each other. What is along a dimension of one element is nowhere else.
pub(crate) fn is_contiguous(shape: &[u64], strides: &[u64]) -> bool {
    let mut expected = Some(1u64);
    shape.len() == strides.len()
        && shape.iter().zip(strides).rev().all(|(&size, &stride)| {
            let fits = size == 1 || Some(stride) == expected;
            expected = expected.and_then(|expected| expected.checked_mul(size));
            fits
        })
}
