use crate::boundary::{answered, delivered, freed, listed};
use crate::{Dtype, Error, Status, dtype};
use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;
use weightstream_graph::Context;

/// More dimensions than torch has; a rank above is no rank.
const MOST_DIMENSIONS: usize = 64;

/// An array of elements that follow each other in memory, the last index fastest. It never changes, and outlives the
/// program that made it; several threads may read it, and give it to runs, at once.
pub struct Tensor(pub(crate) weightstream_graph::Tensor);

const _: () = crate::boundary::shared::<Tensor>();

/// A tensor of a copy of the caller's elements, which the caller frees. `dtype` is a `ws_dtype`; `shape` has `rank`
/// sizes and may be NULL for a single number, which has rank 0; `data` has `bytes` bytes, as many as the shape says, of
/// this machine's order.
///
/// # Safety
/// `shape` and `data` are NULL or have as many entries as is said; `tensor` and `error` are NULL or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ws_tensor_new(
    dtype: u32,
    shape: *const usize,
    rank: usize,
    data: *const c_void,
    bytes: usize,
    tensor: *mut *mut Tensor,
    error: *mut *mut Error,
) -> Status {
    let work = || {
        let element = dtype::element(dtype).ok_or_else(|| {
            Error::argument(format!("expected a ws_dtype, got the number {dtype}"))
        })?;
        if rank > MOST_DIMENSIONS {
            return Err(Error::argument(format!(
                "expected at most {MOST_DIMENSIONS} dimensions, got {rank}"
            )));
        }
        // SAFETY: the caller's promise.
        let shape = unsafe { listed(shape, rank, "the shape")? };
        let expected = bytes_of(element, shape)?;
        if bytes != expected {
            return Err(Error::argument(format!(
                "expected {expected} bytes for {element} {shape:?}, got {bytes}"
            )));
        }
        // SAFETY: the caller's promise.
        let data = unsafe { listed(data.cast::<u8>(), bytes, "the data")? };
        if element == weightstream::Dtype::BOOL {
            let truths: Vec<u8> = data.iter().map(|&byte| u8::from(byte != 0)).collect();
            return Ok(Tensor(context().tensor_of_bytes(element, &truths, shape)?));
        }
        Ok(Tensor(context().tensor_of_bytes(element, data, shape)?))
    };
    // SAFETY: the caller's promise.
    unsafe { delivered(tensor, error, work) }
}

/// Memory for one tensor, which goes back to the system with it.
pub(crate) fn context() -> Context {
    Context::new(Arc::default(), 1)
}

fn bytes_of(element: weightstream::Dtype, shape: &[usize]) -> Result<usize, Error> {
    // Strides must fit too, where a size is zero.
    let itemsize = weightstream_graph::itemsize(element);
    let all = shape
        .iter()
        .try_fold(itemsize, |bytes, &size| bytes.checked_mul(size.max(1)))
        .filter(|&bytes| isize::try_from(bytes).is_ok())
        .ok_or_else(|| {
            Error::argument(format!(
                "expected a shape that fits into memory, got {shape:?}"
            ))
        })?;
    Ok(if shape.contains(&0) { 0 } else { all })
}

/// What its elements are; `WS_DTYPE_UNKNOWN` for NULL.
///
/// # Safety
/// `tensor` is NULL or a tensor that was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ws_tensor_dtype(tensor: *const Tensor) -> Dtype {
    answered(Dtype::Unknown, || {
        // SAFETY: the caller's promise.
        let tensor = unsafe { tensor.as_ref() };
        tensor.map_or(Dtype::Unknown, |tensor| tensor.0.dtype().into())
    })
}

/// How many dimensions it has; 0 for NULL.
///
/// # Safety
/// `tensor` is NULL or a tensor that was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ws_tensor_rank(tensor: *const Tensor) -> usize {
    answered(0, || {
        // SAFETY: the caller's promise.
        unsafe { tensor.as_ref() }.map_or(0, |tensor| tensor.0.rank())
    })
}

/// As many sizes as it has dimensions. They belong to the tensor; NULL for NULL.
///
/// # Safety
/// `tensor` is NULL or a tensor that was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ws_tensor_shape(tensor: *const Tensor) -> *const usize {
    answered(ptr::null(), || {
        // SAFETY: the caller's promise.
        let tensor = unsafe { tensor.as_ref() };
        tensor.map_or(ptr::null(), |tensor| tensor.0.shape().as_ptr())
    })
}

/// Its elements, `ws_tensor_bytes` bytes at a multiple of their size. They belong to the tensor; NULL for NULL.
///
/// # Safety
/// `tensor` is NULL or a tensor that was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ws_tensor_data(tensor: *const Tensor) -> *const c_void {
    answered(ptr::null(), || {
        // SAFETY: the caller's promise.
        let bytes = unsafe { tensor.as_ref() }.and_then(|tensor| tensor.0.bytes().ok());
        bytes.map_or(ptr::null(), |bytes| bytes.as_ptr().cast())
    })
}

/// How many bytes its elements take; 0 for NULL.
///
/// # Safety
/// `tensor` is NULL or a tensor that was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ws_tensor_bytes(tensor: *const Tensor) -> usize {
    answered(0, || {
        // SAFETY: the caller's promise.
        let tensor = unsafe { tensor.as_ref() };
        tensor.map_or(0, |tensor| tensor.0.count() * tensor.0.itemsize())
    })
}

/// Frees a tensor; what was computed from it stays. NULL is fine.
///
/// # Safety
/// `tensor` is NULL or a tensor that was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ws_tensor_free(tensor: *mut Tensor) {
    // SAFETY: the caller's promise.
    unsafe { freed(tensor) };
}
