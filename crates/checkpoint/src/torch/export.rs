//! The table of weights in an archive of `torch.export.save` (.pt2).

use std::collections::BTreeMap;

use serde::Deserialize;

use super::pickle::View;
use crate::Dtype;

/// The table's record.
pub const WEIGHTS: &str = "data/weights/model_weights_config.json";

#[derive(Deserialize)]
struct Table {
    config: BTreeMap<String, Row>,
}

#[derive(Deserialize)]
struct Row {
    path_name: String,
    use_pickle: bool,
    tensor_meta: Option<Meta>,
}

#[derive(Deserialize)]
struct Meta {
    dtype: u32,
    sizes: Vec<Size>,
    strides: Vec<Size>,
    storage_offset: Size,
}

#[derive(Deserialize)]
struct Size {
    as_int: u64,
}

/// The weights that the table names, as views of their records.
///
/// # Errors
/// Says what was expected and what came.
pub fn views(table: &[u8]) -> Result<Vec<(String, View)>, String> {
    let table: Table =
        serde_json::from_slice(table).map_err(|error| format!("{WEIGHTS}: {error}"))?;
    let view = |(name, row): (String, Row)| {
        let Row {
            path_name,
            use_pickle,
            tensor_meta,
        } = row;
        let Some(meta) = tensor_meta.filter(|_| !use_pickle) else {
            return Err(format!(
                "tensor {name:?}: expected a plain tensor, came a pickle"
            ));
        };
        let dtype = dtype(meta.dtype).ok_or_else(|| {
            format!(
                "tensor {name:?}: expected a dtype of the safetensors format, came number {}",
                meta.dtype
            )
        })?;
        let numbers = |sizes: Vec<Size>| sizes.into_iter().map(|size| size.as_int).collect();
        let view = View {
            storage: format!("data/weights/{path_name}"),
            dtype,
            offset: meta.storage_offset.as_int,
            shape: numbers(meta.sizes),
            strides: numbers(meta.strides),
        };
        if view.shape.len() != view.strides.len() {
            return Err(format!(
                "tensor {name:?}: shape {:?} has the strides {:?}",
                view.shape, view.strides
            ));
        }
        Ok((name, view))
    };
    table.config.into_iter().map(view).collect()
}

/// Numbers of `torch._export.serde.schema.ScalarType`.
fn dtype(number: u32) -> Option<Dtype> {
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
