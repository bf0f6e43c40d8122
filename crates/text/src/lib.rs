//! Text from a language model that `weightstream.export_text` wrote, or any program of the same interface.
//!
//! One program serves the prompt and every token after it: its KV cache is state, which it writes to where
//! `cache_position` says.
//!
//! ```no_run
//! use weightstream_graph::{Options, Program};
//! use weightstream_text::{Request, TextModel, Tokenizer, generate};
//!
//! # fn main() -> Result<(), weightstream_text::TextError> {
//! let tokenizer = Tokenizer::open("tokenizer.json".as_ref())?;
//! let model = TextModel::new(Program::open("model.pt2".as_ref(), Options::default())?)?;
//! let prompt = tokenizer.encode("Once upon a time")?;
//! let mut show = |text: &str| print!("{text}");
//! generate(&mut model.begin()?, &tokenizer, &prompt, &Request::default(), &mut show)?;
//! # Ok(())
//! # }
//! ```

mod error;
mod generate;
mod model;
mod sampling;
mod tokenizer;

pub use error::TextError;
pub use generate::{End, Generated, Request, generate};
pub use model::{Conversation, TextModel};
pub use sampling::{Sampler, Sampling};
pub use tokenizer::{TextStream, Tokenizer};
