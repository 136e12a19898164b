//! Row-wise Transformer kernels: softmax, bias and activation, argmax, embedding.
//!
//! Matrices are rows by n; every row is computed for itself, so a result depends on nothing but its row. All kernels
//! return the bits of [`naive`] at every level, for every layout and number of threads.
//!
//! - [`softmax`], [`softmax_in_place`]; [`log_softmax`], [`log_softmax_in_place`];
//! - [`bias_activation`], [`bias_activation_in_place`]: a linear layer's bias and non-linearity;
//! - [`argmax`]: greedy choice of the next token;
//! - [`embed`], [`embed_in_place`]: token embedding, scale and positions, with [`sinusoidal_positions`].
//!
//! ```
//! use gristmill_core::{MatMut, MatRef};
//! use gristmill_rowwise::{RowOptions, argmax, softmax};
//!
//! let scores = [0.0, 1.0, 3.0, 2.0];
//! let scores = MatRef::new(&scores, 2, 2)?;
//! let mut p = [0.0; 4];
//! softmax(scores, MatMut::new(&mut p, 2, 2)?, &RowOptions::default())?;
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
mod log_softmax;
pub mod naive;
mod positions;
mod rows;
mod softmax;

pub use activation::{bias_activation, bias_activation_in_place};
pub use argmax::argmax;
pub use embed::{EmbedOptions, embed, embed_in_place};
pub use log_softmax::{log_softmax, log_softmax_in_place};
pub use positions::{PositionRows, Positions, sinusoidal_positions};
pub use softmax::{softmax, softmax_in_place};

use gristmill_core::Threads;
use gristmill_simd::Level;

/// Where to compute.
#[derive(Clone, Copy, Debug, Default)]
pub struct RowOptions<'a> {
    /// Where parallel work runs. Few rows never leave the calling thread.
    pub threads: Threads<'a>,
    /// The instruction set; `None` is the best there is.
    pub level: Option<Level>,
}
