//! The C interface to exported programs, for phones and for every language that calls C.
//!
//! `include/weightstream.h` is made from these files and tells whoever calls what belongs to whom; the names in C are
//! these with `ws_` before them. What a caller gives is checked here, and no panic leaves a function: each of them
//! runs in `boundary.rs`, which makes an error of it.

mod boundary;
mod cancel;
mod dtype;
mod error;
mod input;
mod options;
mod program;
mod run;
mod state;
mod stats;
mod tensor;
mod text;
mod value;
mod version;
mod versioned;

pub use cancel::{Cancel, ws_cancel_free, ws_cancel_new, ws_cancel_set};
pub use dtype::Dtype;
pub use error::{Error, Status, ws_error_free, ws_error_message, ws_error_status};
pub use input::{
    Dimension, Input, Kind, ws_input_dimension, ws_input_dtype, ws_input_kind, ws_input_name,
    ws_input_rank,
};
pub use options::Options;
pub use program::{
    Program, ws_program_free, ws_program_has_state, ws_program_input, ws_program_input_count,
    ws_program_open, ws_program_output_count, ws_program_output_name, ws_program_reset,
    ws_program_resize,
};
pub use run::{Progress, RunOptions, ws_program_run};
pub use state::{State, ws_state_free, ws_state_new};
pub use stats::{Stats, ws_program_stats};
pub use tensor::{
    Tensor, ws_tensor_bytes, ws_tensor_data, ws_tensor_dtype, ws_tensor_free, ws_tensor_new,
    ws_tensor_rank, ws_tensor_shape,
};
pub use text::{Show, Text, TextOptions, ws_text_free, ws_text_generate, ws_text_new};
pub use version::ws_version;
