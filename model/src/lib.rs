//! The encoder-decoder Transformer of 'Attention Is All You Need' on the Gristmill kernels.

#![forbid(unsafe_code)]

mod checkpoint;
mod config;
mod error;
mod seeded;
mod source;
mod tokens;

pub use checkpoint::Checkpoint;
pub use config::{Activation, Config, NormOrder, Positions};
pub use error::Error;
pub use seeded::SeededWeights;
pub use source::TensorSource;
pub use tokens::Tokenizer;
