//! Fused layer normalisation.
//!
//! Each row of a matrix is brought to mean 0 and variance 1, then scaled by `gamma` and moved by `beta`:
//!
//! `y = (x - mean) / sqrt(variance + eps) * gamma + beta`
//!
//! - [`layer_norm`] normalises `x`;
//! - [`add_layer_norm`] normalises `x + residual` in the same pass, and can return that sum too;
//! - [`rms_norm`] and [`add_rms_norm`] divide by the root of the mean square instead, without a mean;
//! - each has a form that works in place.
//!
//! Every matrix, gamma and beta may be of f32, f16 or bf16, in any mix; see [`Element`].
//!
//! # Numerical behaviour
//! The result is that of [`naive`], to the bit, at every level, for every layout and number of threads; a row's
//! result depends on nothing but that row. Values are widened to f32 when loaded, all arithmetic is f32, and results
//! are rounded once to their type. The variance is that of differences from the mean, with the mean's own
//! error corrected, so a large mean does no harm: before gamma and beta the error is at most 1e-6 of max(1, |y|) for
//! means to 1e7 and spreads to 1e3 on rows to 65,536 elements, and 1e-5 to a million. A constant row gives exactly
//! beta, or NaN where `eps` is 0. A NaN makes its whole row NaN, and so does an infinity where there is a mean to
//! subtract. RMS norms divide by it: the infinity becomes NaN, all finite elements beta. Where elements differ from the
//! mean by more than 1.8e19 the variance overflows, and the row becomes beta or NaN.
//!
//! ```
//! use gristmill_core::{MatMut, MatRef};
//! use gristmill_layernorm::{LayerNormOptions, NormOutput, layer_norm};
//!
//! let x = [1.0, 3.0, 2.0, 6.0];
//! let mut y = [0.0; 4];
//! let options = LayerNormOptions { eps: 0.0, gamma: Some(&[1.0, 2.0]), ..Default::default() };
//! layer_norm(MatRef::new(&x, 2, 2)?, MatMut::new(&mut y, 2, 2)?, &options)?;
//! assert_eq!(y, [-1.0, 2.0, -1.0, 2.0]);
//!
//! let (mut mean, mut rstd) = ([0.0; 2], [0.0; 2]);
//! let y = MatMut::new(&mut y, 2, 2)?;
//! let out = NormOutput { y, mean: Some(&mut mean), rstd: Some(&mut rstd) };
//! layer_norm(MatRef::new(&x, 2, 2)?, out, &options)?;
//! assert_eq!((mean, rstd), ([2.0, 4.0], [1.0, 0.5]));
//! # Ok::<(), gristmill_core::Error>(())
//! ```

mod call;
mod check;
mod ends;
mod fused;
mod keep;
pub mod naive;
mod narrow;
mod options;
mod passes;
mod row;
mod sums;
mod uniform;

pub use options::{LayerNormOptions, NormOutput};

use call::Norm;
use gristmill_core::{Error, MatMut, MatRef};
use gristmill_simd::Element;

/// `y = norm(x)`, row by row; `x` and `out.y` are [rows, n].
///
/// # Errors
/// [`Error::ShapeMismatch`] when shapes or the lengths of gamma, beta and the statistics disagree,
/// [`Error::InvalidOption`] for an `eps` that is negative or not finite, [`Error::Level`]. Then `out` is untouched.
#[inline(always)]
pub fn layer_norm<'y, X: Element, Y: Element, P: Element>(
    x: MatRef<'_, X>,
    out: impl Into<NormOutput<'y, Y>>,
    options: &LayerNormOptions<'_, P>,
) -> Result<(), Error> {
    call::plain(Norm::Layer, x, out.into(), options)
}

/// `x = norm(x)`, row by row.
///
/// # Errors
/// As [`layer_norm`].
pub fn layer_norm_in_place<'x, X: Element, P: Element>(
    x: impl Into<NormOutput<'x, X>>,
    options: &LayerNormOptions<'_, P>,
) -> Result<(), Error> {
    call::in_place(Norm::Layer, x.into(), options)
}

/// `y = norm(x + residual)`, row by row, and `sum = x + residual` when there is a `sum`; all are [rows, n].
///
/// What is normalised is the sum in f32; `sum` receives it rounded to the type of `x`.
///
/// # Errors
/// As [`layer_norm`]. Then `sum` is untouched too.
pub fn add_layer_norm<'y, X: Element, R: Element, Y: Element, P: Element>(
    x: MatRef<'_, X>,
    residual: MatRef<'_, R>,
    out: impl Into<NormOutput<'y, Y>>,
    sum: Option<MatMut<'_, X>>,
    options: &LayerNormOptions<'_, P>,
) -> Result<(), Error> {
    call::added(Norm::Layer, x, residual, out.into(), sum, options)
}

/// The residual connection of a Transformer on a stream of activations `x`; all matrices are [rows, n].
///
/// Without a `y`, as in post-norm models: `x = norm(x + residual)`. With one, as in pre-norm models:
/// `x = x + residual` and `y = norm(x + residual)`. The statistics, where `x` comes with them, are those of the norm
/// in either case.
///
/// # Errors
/// As [`layer_norm`].
pub fn add_layer_norm_in_place<'x, X: Element, R: Element, P: Element>(
    x: impl Into<NormOutput<'x, X>>,
    residual: MatRef<'_, R>,
    y: Option<MatMut<'_, X>>,
    options: &LayerNormOptions<'_, P>,
) -> Result<(), Error> {
    call::added_in_place(Norm::Layer, x.into(), residual, y, options)
}

/// [`layer_norm`] without a mean: `y = x / sqrt(mean(x^2) + eps) * gamma + beta`, row by row.
///
/// A row of zeros gives exactly beta, or NaN where `eps` is 0. Values above 1.8e19 overflow their mean square, and their
/// row becomes beta.
///
/// # Errors
/// As [`layer_norm`].
///
/// ```
/// use gristmill_core::{MatMut, MatRef};
/// use gristmill_layernorm::{LayerNormOptions, rms_norm};
///
/// let (x, mut y) = ([3.0, 4.0, 5.0, 5.0], [0.0; 4]);
/// let options = LayerNormOptions { eps: 0.0, ..Default::default() };
/// rms_norm(MatRef::new(&x, 2, 2)?, MatMut::new(&mut y, 2, 2)?, &options)?;
/// assert_eq!(y[2..], [1.0, 1.0]);
/// # Ok::<(), gristmill_core::Error>(())
/// ```
#[inline(always)]
pub fn rms_norm<'y, X: Element, Y: Element, P: Element>(
    x: MatRef<'_, X>,
    out: impl Into<NormOutput<'y, Y>>,
    options: &LayerNormOptions<'_, P>,
) -> Result<(), Error> {
    call::plain(Norm::Rms, x, out.into(), options)
}

/// [`layer_norm_in_place`] without a mean.
///
/// # Errors
/// As [`layer_norm`].
pub fn rms_norm_in_place<'x, X: Element, P: Element>(
    x: impl Into<NormOutput<'x, X>>,
    options: &LayerNormOptions<'_, P>,
) -> Result<(), Error> {
    call::in_place(Norm::Rms, x.into(), options)
}

/// [`add_layer_norm`] without a mean.
///
/// # Errors
/// As [`add_layer_norm`].
pub fn add_rms_norm<'y, X: Element, R: Element, Y: Element, P: Element>(
    x: MatRef<'_, X>,
    residual: MatRef<'_, R>,
    out: impl Into<NormOutput<'y, Y>>,
    sum: Option<MatMut<'_, X>>,
    options: &LayerNormOptions<'_, P>,
) -> Result<(), Error> {
    call::added(Norm::Rms, x, residual, out.into(), sum, options)
}

/// [`add_layer_norm_in_place`] without a mean.
///
/// # Errors
/// As [`layer_norm`].
pub fn add_rms_norm_in_place<'x, X: Element, R: Element, P: Element>(
    x: impl Into<NormOutput<'x, X>>,
    residual: MatRef<'_, R>,
    y: Option<MatMut<'_, X>>,
    options: &LayerNormOptions<'_, P>,
) -> Result<(), Error> {
    call::added_in_place(Norm::Rms, x.into(), residual, y, options)
}
