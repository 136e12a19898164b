//! What a call is told, and where its results go.

use gristmill_core::{MatMut, Threads};
use gristmill_simd::{Element, Level};

/// How to normalise. By default `eps` is 1e-5, and there is no gamma and no beta.
///
/// `P` is the storage type of gamma and beta; [`with_parameters`](LayerNormOptions::with_parameters) sets those of
/// another type.
#[derive(Clone, Copy, Debug)]
pub struct LayerNormOptions<'a, P = f32> {
    /// Added to the variance, or to the mean square; finite and not negative.
    pub eps: f32,
    /// Scale of each column; `None` drops the multiplication.
    pub gamma: Option<&'a [P]>,
    /// Shift of each column, after the scale; `None` drops the addition.
    pub beta: Option<&'a [P]>,
    /// Where parallel work runs. Few rows never leave the calling thread.
    pub threads: Threads<'a>,
    /// The instruction set; `None` is the best there is.
    pub level: Option<Level>,
}

/// For gamma and beta of f32, so that a call without them need not say their type.
impl Default for LayerNormOptions<'_> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P> LayerNormOptions<'_, P> {
    /// What [`Default`] gives, for gamma and beta of any type.
    pub const fn new() -> Self {
        Self { eps: 1e-5, gamma: None, beta: None, threads: Threads::Global, level: None }
    }
}

impl<'a, P: Element> LayerNormOptions<'a, P> {
    /// The same with this gamma and beta, of any storage type.
    pub fn with_parameters<Q: Element>(self, gamma: Option<&'a [Q]>, beta: Option<&'a [Q]>) -> LayerNormOptions<'a, Q> {
        let Self { eps, threads, level, .. } = self;
        LayerNormOptions { eps, gamma, beta, threads, level }
    }
}

/// Where a normalised matrix goes, and the statistics of its rows, when they are wanted.
///
/// A [`MatMut`] converts into one without statistics, and functions take either.
#[derive(Debug)]
pub struct NormOutput<'a, T> {
    /// The matrix.
    pub y: MatMut<'a, T>,
    /// What was subtracted from each row: its mean, 0 for RMS norms.
    pub mean: Option<&'a mut [f32]>,
    /// What each row was multiplied by: `1 / sqrt(variance + eps)`, or `1 / sqrt(mean square + eps)`.
    pub rstd: Option<&'a mut [f32]>,
}

impl<'a, T> From<MatMut<'a, T>> for NormOutput<'a, T> {
    fn from(y: MatMut<'a, T>) -> Self {
        Self { y, mean: None, rstd: None }
    }
}

impl<T> NormOutput<'_, T> {
    /// The statistics of row `i`.
    pub(crate) fn statistics(&mut self, i: usize, mean: f32, rstd: f32) {
        for (values, value) in [(&mut self.mean, mean), (&mut self.rstd, rstd)] {
            if let Some(values) = values {
                values[i] = value;
            }
        }
    }

    /// The statistics of rows without elements: there are none.
    pub(crate) fn no_columns(&mut self) {
        for values in [&mut self.mean, &mut self.rstd].into_iter().flatten() {
            values.fill(f32::NAN);
        }
    }
}
