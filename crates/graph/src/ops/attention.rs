//! Scaled dot product attention.

use super::operand::{Results, with_real, wrong_shape};
use crate::kernels::{self, Attention, Compute, Heads, Reader};
use crate::{Arguments, Context, OperatorError, Tensor, broadcast_shapes};
use weightstream::Dtype;

pub(super) const OPERATORS: super::Family = &[
    ("aten.scaled_dot_product_attention.default", attention),
    (
        "aten._scaled_dot_product_flash_attention_for_cpu.default",
        attention_with_statistics,
    ),
    (
        "aten._scaled_dot_product_attention_math.default",
        attention_with_statistics,
    ),
];

fn attention(context: &Context, arguments: Arguments) -> Results {
    let [query, key, value] = ["query", "key", "value"].map(|name| arguments.tensor(name));
    let (query, key, value) = (query?, key?, value?);
    if [query, key, value].iter().any(|tensor| tensor.rank() < 2) {
        return Err(wrong_shape("queries, keys and values", query));
    }
    if arguments.float_or("dropout_p", 0.0)? != 0.0 {
        return Err(OperatorError::Unsupported(
            "dropout in attention is random: export the model after model.eval()".into(),
        ));
    }
    let dtype = query.dtype();
    let mask = arguments.optional_tensor("attn_mask")?;
    let mut batch = Vec::new();
    for tensor in [query, key, value].into_iter().chain(mask) {
        batch = broadcast_shapes(&batch, parted(tensor).0)?;
    }
    // Several heads of queries may share one of keys and values; one head of either goes with all of the other.
    let shared = broadcast_shapes(&[parted(key).1], &[parted(value).1])?[0];
    let heads = match (parted(query).1, shared) {
        (1, 1) => mask.map_or(1, |mask| parted(mask).1),
        (1, shared) => shared,
        (heads, _) => heads,
    };
    let rank = [query, key, value]
        .into_iter()
        .chain(mask)
        .map(Tensor::rank)
        .max();
    let [query, key, value] = [
        four(context, query, &batch, heads)?,
        four(context, key, &batch, shared)?,
        four(context, value, &batch, shared)?,
    ];
    let mask = mask
        .map(|mask| four(context, mask, &batch, heads))
        .transpose()?;
    let [batches, heads, length, depth] = dimensions(&query);
    let [_, shared, keys, key_depth] = dimensions(&key);
    let [_, value_heads, values, size] = dimensions(&value);
    if depth != key_depth
        || keys != values
        || shared != value_heads
        || shared == 0
        || heads % shared != 0
    {
        return Err(wrong_shape(
            format!(
                "keys and values that go with queries of {:?}",
                query.shape()
            ),
            &key,
        ));
    }
    let scale = arguments
        .optional_float("scale")?
        .unwrap_or(1.0 / (depth as f64).sqrt()) as f32;
    let causal = arguments.bool_or("is_causal", false)?;

    let mask = mask
        .map(|mask| mask.expand(&[batches, heads, length, keys]))
        .transpose()?;
    let reader = mask.as_ref().map(Reader::new).transpose()?;
    let boolean = mask
        .as_ref()
        .is_some_and(|mask| mask.dtype() == Dtype::BOOL);
    let strides = mask.as_ref().map_or([0; 4], |mask| {
        <[usize; 4]>::try_from(mask.strides()).unwrap_or_default()
    });
    let apply = |[batch, head, query, first]: [usize; 4], scores: &mut [f32]| {
        let Some(reader) = &reader else { return };
        let mut buffer = vec![0f32; scores.len()];
        let offset =
            batch * strides[0] + head * strides[1] + query * strides[2] + first * strides[3];
        let mask = f32::read(reader, offset, strides[3], &mut buffer);
        for (score, &mask) in scores.iter_mut().zip(mask) {
            if !boolean {
                *score += mask;
            } else if mask == 0.0 {
                *score = f32::NEG_INFINITY;
            }
        }
    };
    let options = Attention {
        scale,
        causal,
        mask: mask.is_some().then_some(&apply),
    };
    // In memory (batch, length, heads, size), so that the heads are joined without a copy afterwards.
    let result = context.empty(dtype, &[batches, length, heads, size])?;
    with_real!(dtype, |T| {
        let (q, k, v) = (
            query.strided::<T>()?,
            key.strided::<T>()?,
            value.strided::<T>()?,
        );
        let mut to = result.elements_mut::<T>()?;
        kernels::attention(
            as_heads(&q, &query),
            as_heads(&k, &key),
            as_heads(&v, &value),
            options,
            &mut to,
        )
    })?;
    let result = result.transpose(1, 2)?;
    let mut shape = batch;
    shape.extend([heads, length, size]);
    shape.drain(..shape.len().saturating_sub(rank.unwrap_or(4)));
    if shape.len() == 4 {
        return Ok(vec![result.into()]);
    }
    let result = match result.view(&shape)? {
        Some(result) => result,
        None => context
            .contiguous(&result)?
            .view(&shape)?
            .ok_or_else(|| wrong_shape("contiguous", &result))?,
    };
    Ok(vec![result.into()])
}

fn attention_with_statistics(context: &Context, arguments: Arguments) -> Results {
    let mut results = attention(context, arguments)?;
    // What only a backward pass reads.
    results.push(context.empty(Dtype::F32, &[0])?.into());
    Ok(results)
}

/// The sizes before heads, and how many heads: the third size from the end, 1 where there is none.
fn parted(tensor: &Tensor) -> (&[usize], usize) {
    match tensor.shape() {
        [batch @ .., heads, _, _] => (batch, *heads),
        _ => (&[], 1),
    }
}

/// With exactly four dimensions (batch, heads, length, size): what comes before heads is broadcast and joined.
fn four(
    context: &Context,
    tensor: &Tensor,
    batch: &[usize],
    heads: usize,
) -> Result<Tensor, OperatorError> {
    let mut full = batch.to_vec();
    full.push(heads);
    full.extend(&tensor.shape()[tensor.rank().saturating_sub(2)..]);
    let mut raised = tensor.clone();
    while raised.rank() < 2 {
        raised = raised.unsqueeze(0)?;
        full.insert(batch.len() + 1, 1);
    }
    let tensor = raised.expand(&full)?;
    let mut shape = vec![batch.iter().product()];
    shape.extend(&full[batch.len()..]);
    match tensor.view(&shape)? {
        Some(view) => Ok(view),
        None => context
            .contiguous(&tensor)?
            .view(&shape)?
            .ok_or_else(|| wrong_shape("contiguous", &tensor)),
    }
}

fn dimensions(tensor: &Tensor) -> [usize; 4] {
    <[usize; 4]>::try_from(tensor.shape()).unwrap_or_default()
}

fn as_heads<'a, T>(elements: &'a [T], tensor: &Tensor) -> Heads<'a, T> {
    Heads {
        elements,
        shape: dimensions(tensor),
        strides: <[usize; 4]>::try_from(tensor.strides()).unwrap_or_default(),
    }
}
