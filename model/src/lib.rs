//! The encoder-decoder Transformer of 'Attention Is All You Need' on the Gristmill kernels.
//!
//! A [`Transformer`] is a [`Config`] and its weights: from a [`Checkpoint`] (`config.json` beside
//! `model.safetensors`, in the names of `torch.nn.Transformer`), [`SeededWeights`], or any other [`TensorSource`]. A
//! [`Session`] runs it: the encoder, teacher-forced logits, greedy generation, or a [`Decoding`] token by token with
//! keys and values kept. A [`Tokenizer`] turns text into ids and back where the configuration lists tokens.
//!
//! ```
//! use gristmill_model::{Config, GenerateOptions, Precision, SessionOptions, Transformer};
//!
//! # fn main() -> Result<(), gristmill_model::Error> {
//! // A little model with random weights; `Transformer::load` reads a trained one.
//! let config = Config { d_model: 32, heads: 4, d_ff: 64, src_vocab: 100, tgt_vocab: 100, ..Config::base() };
//! let model = Transformer::seeded(config, 1, Precision::F32)?;
//! let mut session = model.session(SessionOptions::default())?;
//!
//! // Two source sentences, as ids.
//! let sources = [vec![2, 17, 45, 3], vec![2, 8, 3]];
//! let targets = session.generate(&sources, &GenerateOptions { max_new_tokens: 10, ..Default::default() })?;
//!
//! // What the model thinks of its own words: a row of 100 logits for each target token.
//! let logits = session.forward(&sources, &targets)?;
//! assert_eq!(logits.sentence(0).unwrap().rows(), targets[0].len());
//! # Ok(())
//! # }
//! ```
//!
//! # The same bits
//! What a sentence gives does not depend on the threads, on the other sentences of its batch, or on whether its
//! targets come one by one or all at once; nor on the [`Level`](gristmill::Level), among those whose multiply-add is
//! fused. Batches are sentences of any lengths side by side: nothing is padded, so there is no padding to hide.
//!
//! # Threads
//! `&Transformer` is `Sync`: several sessions, each on a thread of its own with
//! [`Threads::Serial`](gristmill::Threads::Serial), share one set of weights; or one session splits its work over a
//! pool. A session enters its pool once per call.
//!
//! Split one batch where its own time matters: products of many rows scale with the cores, steps of a few sentences are
//! bound by the memory that all cores share. Where throughput matters, give each worker batches of its own: workers
//! never wait for each other, and a batch of equally long sentences wastes nothing. `gristmill time --workers`, of the
//! crate `gristmill-cli`, measures both.

#![forbid(unsafe_code)]

mod attend;
mod batch;
mod beam;
mod cache;
mod checkpoint;
mod config;
mod embed;
mod engine;
mod error;
mod generate;
mod layer;
mod matrix;
mod memory;
mod precision;
mod probability;
mod profile;
mod run;
mod seeded;
mod session;
mod source;
mod tokens;
mod transformer;
mod weights;

pub use checkpoint::Checkpoint;
pub use config::{Activation, Config, NormOrder, Positions};
pub use error::{Error, Result};
pub use generate::{GenerateOptions, Hypothesis, Token};
pub use precision::Precision;
pub use probability::Sampling;
pub use profile::{Operation, Profile, Spent};
pub use seeded::SeededWeights;
pub use session::{Decoding, Rows, Session, SessionOptions};
pub use source::TensorSource;
pub use tokens::Tokenizer;
pub use transformer::Transformer;
