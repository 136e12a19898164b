//! Fills, comparisons, guard pages and fuzz bodies for the tests of Gristmill.
//!
//! - [`fill`]: seeded values: normal, integer-valued, special.
//! - [`compare`]: equality in bits, and bounds against a reference in f64.
//! - [`strided`]: matrices and heads in every layout, their gaps poisoned.
//! - [`strategy`]: the same for proptest, and masks of every combination.
//! - [`shapes`]: the sizes that tests and benches share.
//! - [`sweep`]: every level, several thread counts.
//! - [`pin`]: processes whose level cannot be used.
//! - [`allocations`]: how many there are; [`shortage`]: what happens when they fail.
//! - [`guard`]: memory that ends where an inaccessible page begins.
//! - [`golden`]: results of an independent implementation, in f64.
//! - `models` (with the feature `model`): small models, their checkpoints, and sentences.
//! - `fuzz` (with the feature of that name): the bodies of the fuzz targets.

pub mod allocations;
pub mod compare;
pub mod fill;
#[cfg(feature = "fuzz")]
pub mod fuzz;
pub mod golden;
#[cfg(unix)]
pub mod guard;
pub mod mask;
#[cfg(feature = "model")]
pub mod models;
pub mod pin;
pub mod shapes;
pub mod shortage;
pub mod strategy;
pub mod strided;
pub mod sweep;

pub use compare::{assert_bits_eq, assert_mat_bits_eq};
pub use fill::{Fill, Rng};
pub use strided::{Heads, Layout, Matrix, Strided};
