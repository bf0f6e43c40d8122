//! What readers of other people's files must survive.
//!
//! Each target takes any bytes for one kind of file. It ends, takes memory in proportion, and what it accepts lies
//! within the files; where one of these is not so it panics. `fuzz/` looks for such bytes as long as it is let, and
//! `tests/seeds.rs` tries valid files with thousands of small damages in every run of the tests.
#![allow(clippy::expect_used, clippy::panic)] // a panic is how a target tells what it found
#![allow(clippy::disallowed_methods)] // it reads what it wrote

mod archives;
mod codec;
mod files;
mod packed;

pub use archives::{pickle, program, weights};
pub use codec::{codec, quantised};
pub use files::{export, gguf, index, safetensors, torch};
pub use packed::packed;

/// What is done with any bytes.
pub type Target = fn(&[u8]);

/// All of them, by name; seeds lie in folders of the same names.
pub const TARGETS: [(&str, Target); 11] = [
    ("codec", codec),
    ("export", export),
    ("gguf", gguf),
    ("index", index),
    ("packed", packed),
    ("pickle", pickle),
    ("program", program),
    ("quantised", quantised),
    ("safetensors", safetensors),
    ("torch", torch),
    ("weights", weights),
];
