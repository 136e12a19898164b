//! Row-wise Transformer kernels: softmax, bias and activation, argmax, top-k, embedding.
//!
//! Matrices are rows by n; every row is computed for itself, so a result depends on nothing but its row. Inputs and
//! outputs may be of f32, f16 or bf16, in any mix: values are widened to f32 when loaded and rounded once when stored,
//! and all arithmetic is f32. All kernels return the bits of [`naive`] at every level, for every layout and number of
//! threads.
//!
//! - [`softmax`], [`log_softmax`], with the masks of attention; [`softmax_in_place`], [`log_softmax_in_place`];
//! - [`bias_activation`], [`bias_activation_in_place`]: a linear layer's bias and non-linearity;
//! - [`argmax`]: greedy choice of the next token; [`top_k`]: a shortlist;
//! - [`embed`], [`embed_in_place`]: token embedding, scale and positions, with [`sinusoidal_positions`].
//!
//! ```
//! use gristmill_core::{MatMut, MatRef};
//! use gristmill_rowwise::{RowOptions, SoftmaxOptions, argmax, softmax};
//!
//! let scores = [0.0, 1.0, 3.0, 2.0];
//! let scores = MatRef::new(&scores, 2, 2)?;
//! let mut p = [0.0; 4];
//! softmax(scores, MatMut::new(&mut p, 2, 2)?, &SoftmaxOptions::default())?;
//! assert!((p[1] - 0.7310586).abs() < 1e-6);
//! let mut best = [0; 2];
//! argmax(scores, &mut best, &RowOptions::default())?;
//! assert_eq!(best, [1, 0]);
//! # Ok::<(), gristmill_core::Error>(())
//! ```

mod activation;
mod argmax;
mod check;
mod embed;
pub mod naive;
mod options;
mod plain;
mod positions;
mod rows;
mod scores;
mod softmax;
mod top_k;

pub use activation::{bias_activation, bias_activation_in_place};
pub use argmax::argmax;
pub use embed::{EmbedOptions, embed, embed_in_place};
pub use options::{RowOptions, SoftmaxOptions};
pub use positions::{PositionRows, Positions, sinusoidal_positions};
pub use softmax::{log_softmax, log_softmax_in_place, softmax, softmax_in_place};
pub use top_k::top_k;
