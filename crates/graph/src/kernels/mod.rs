//! Loops over plain memory that operators of several families are made of. They know slices, not arguments.

mod attention;
mod bfloat16;
mod convert;
mod convolution;
mod map;
mod mathematics;
mod matrix;
mod reader;
mod reduce;
mod rows;
mod scratch;
mod selection;
mod window;

pub use attention::{Attention, Heads, attention};
pub use convert::Real;
pub use convolution::{Convolution, convolution, transposed_convolution};
pub use map::{map1, map2, map3};
pub use mathematics::{erf, exp, sigmoid, tanh};
pub use matrix::{Bias, product};
pub use reader::{Compute, Reader, compute_dtype};
pub use reduce::{exponentials, highest, sum_of};
pub use scratch::release_scratch;
pub use selection::first;
pub use window::{Matrix, Window, multiply_doubles};

/// Runs `loops`, compiled for the widest vectors of this processor.
#[inline(always)]
pub fn vectorised<R>(loops: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(loops)
}

/// Work of fewer elements than this is not worth a second thread.
pub const WORTH_A_THREAD: usize = 1 << 15;
