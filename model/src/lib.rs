//! The encoder-decoder Transformer of 'Attention Is All You Need' on the Gristmill kernels.

#![forbid(unsafe_code)]

mod attend;
mod batch;
mod cache;
mod checkpoint;
mod config;
mod embed;
mod error;
mod generate;
mod layer;
mod matrix;
mod run;
mod seeded;
mod session;
mod source;
mod tokens;
mod transformer;
mod weights;

pub use checkpoint::Checkpoint;
pub use config::{Activation, Config, NormOrder, Positions};
pub use error::Error;
pub use generate::GenerateOptions;
pub use seeded::SeededWeights;
pub use session::{Decoding, Rows, Session, SessionOptions};
pub use source::TensorSource;
pub use tokens::Tokenizer;
pub use transformer::Transformer;
