//! Runs a program that `torch.export.save` wrote, without Python and without libtorch, its weights streamed.
//!
//! # How an operator is written
//!
//! Each family of operators is a file in `ops/`. It has a table `OPERATORS` of names (without `torch.ops.`:
//! `aten.add.Tensor`) and functions, which `ops/mod.rs` lists in `FAMILIES`: nothing else has to be changed to add one.
//!
//! - An operator is a `fn(&Context, Arguments) -> Result<Vec<Value>, OperatorError>`. Arguments are found **by the names
//!   of torch's schema**; what the graph leaves out has the schema's default, which the operator gives
//!   (`arguments.int_or("dim", -1)`). Sizes that export kept symbolic arrive as integers.
//! - Results are in the order of the schema: one tensor is `vec![tensor.into()]`, `max.dim` gives two values, `split`
//!   gives one [`Value::List`].
//! - Results live in memory of [`Context::empty`]; [`Tensor::elements`] and [`Tensor::elements_mut`] are its elements as
//!   slices (contiguous), [`Tensor::strided`] with a [`Walk`] serves all strides. Slices are guards: dropping them
//!   ends the borrow, and a tensor can't be written while it is read.
//! - A view (`transpose`, `narrow`, `select`, `expand`, `view`, …) shares memory with what it is a view of; graphs that
//!   were not decomposed rely on it, because in-place operators write through views.
//! - In-place forms (`aten.add_.Tensor`) are made from the others. An operator with a faster way of its own
//!   (`index_copy_` into a cache) puts its own entry into the table and writes through [`Tensor::strided_mut`].
//! - Weights can't be written, may lie anywhere, and a touch of one may wait for the disk: read each of them as few
//!   times as possible, in order, and never copy a whole one.
//! - An argument that nobody uses afterwards is moved in: after `arguments.take_tensor("self")` its memory may be
//!   unique ([`Storage::is_unique`]), and the result can be written over it.
//! - bf16 and fp16 are computed in fp32 and rounded once. [`ops::result_dtype`] is torch's type promotion.
//! - Loops over many elements use `rayon`; [`Context::threads`] goes to `gemm`. Results must not depend on how work is
//!   divided: streamed and resident runs are compared bit for bit.
//! - What can't be computed is an [`OperatorError`] that says what was expected and what was got. Nothing panics.

mod aliases;
mod archive;
mod arena;
mod arguments;
mod blocks;
mod context;
mod error;
mod execute;
mod generator;
mod graph;
mod kernels;
mod memory;
pub mod ops;
mod packing;
mod program;
mod schema;
mod signature;
mod structure;
mod tensor;
mod threads;
mod value;
mod weights;

pub use arena::{Arena, Block};
pub use arguments::Arguments;
pub use context::Context;
pub use error::{OperatorError, ProgramError, UnsupportedOperators};
pub use generator::Generator;
pub use packing::Packing;
pub use program::{BlockReport, Options, Program, Report, Run};
pub use signature::{Dimension, Input, InputKind};
pub use tensor::{
    Element, Elements, ElementsMut, Storage, Tensor, Walk, broadcast_shapes, contiguous_strides,
    dimension, itemsize,
};
pub use value::{MemoryFormat, Value};
pub use weights::State;
