//! Sums, means and maxima of an embedding's rows.

use super::indexing::places;
use super::operand::{Results, wrong_shape};
use crate::kernels::{Compute, Reader};
use crate::memory::filled;
use crate::tensor::element_count;
use crate::{Arguments, Context, Value};
use weightstream::Dtype;

pub(super) const OPERATORS: super::Family = &[
    ("aten.embedding_bag.default", bags),
    ("aten.embedding_bag.padding_idx", bags),
    ("aten._embedding_bag.default", bags),
];

/// Results: (bag, size), and three that only a backward pass reads.
fn bags(context: &Context, arguments: Arguments) -> Results {
    let weight = arguments.tensor("weight")?;
    let [rows, size] = *weight.shape() else {
        return Err(wrong_shape("a table of two dimensions", weight));
    };
    let indices = places(context, arguments.tensor("indices")?, rows)?;
    let offsets = arguments.tensor("offsets")?;
    let mut starts = places(context, offsets, indices.len() + 1)?;
    if !arguments.bool_or("include_last_offset", false)? {
        starts.push(indices.len());
    }
    let padding = arguments
        .optional_int("padding_idx")?
        .map(|index| {
            if index < 0 {
                index + rows as i64
            } else {
                index
            }
        })
        .and_then(|index| usize::try_from(index).ok());
    let mode = arguments.int_or("mode", 0)?;
    let factors = arguments
        .optional_tensor("per_sample_weights")?
        .map(|factors| context.cast(factors, Dtype::F32))
        .transpose()?;
    let factors = factors
        .as_ref()
        .map(|factors| factors.elements::<f32>())
        .transpose()?;
    let count = starts.len().saturating_sub(1);
    let mut sums = filled(0f32, element_count(&[count, size])?)?;
    let reader = Reader::new(weight)?;
    let [down, right] = [weight.strides()[0], weight.strides()[1]];
    let mut buffer = vec![0f32; size];
    for (bag, to) in sums.chunks_mut(size.max(1)).enumerate() {
        let mut used = 0;
        let range = starts[bag]..starts[bag + 1];
        for place in range {
            let Some(&index) = indices.get(place) else {
                return Err(wrong_shape("offsets that rise", offsets));
            };
            if Some(index) == padding {
                continue;
            }
            let row = f32::read(&reader, index * down, right, &mut buffer);
            let factor = factors
                .as_ref()
                .map_or(1.0, |factors| factors.get(place).copied().unwrap_or(1.0));
            for (to, &value) in to.iter_mut().zip(row) {
                match mode {
                    2 if used > 0 && *to >= value => {}
                    2 => *to = value,
                    _ => *to += value * factor,
                }
            }
            used += 1;
        }
        if mode == 1 && used > 0 {
            to.iter_mut().for_each(|to| *to /= used as f32);
        }
    }
    drop(reader);
    let bags = context.cast(&context.tensor(&sums, &[count, size])?, weight.dtype())?;
    let nothing: Value = context.empty(Dtype::I64, &[0])?.into();
    Ok(vec![bags.into(), nothing.clone(), nothing.clone(), nothing])
}
