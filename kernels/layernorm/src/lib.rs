//! Fused layer normalisation.
//!
//! Each row of a matrix is brought to mean 0 and variance 1, then scaled by `gamma` and moved by `beta`:
//!
//! `y = (x - mean) / sqrt(variance + eps) * gamma + beta`
//!
//! - [`layer_norm`] and [`layer_norm_in_place`] normalise `x`;
//! - [`add_layer_norm`] and [`add_layer_norm_in_place`] normalise `x + residual` in the same pass, and can return
//!   that sum too.
//!
//! # Numerical behaviour
//! The result is that of [`naive`], to the bit, at every level, for every layout and number of threads; a row's
//! result depends on nothing but that row. The variance is that of differences from the mean, with the mean's own
//! error corrected, so a large mean does no harm: before gamma and beta the error is at most 1e-6 of max(1, |y|) for
//! means to 1e7 and spreads to 1e3 on rows to 65,536 elements, and 1e-5 to a million. A constant row gives exactly
//! beta. A NaN or an infinity makes its whole row NaN. Where elements differ from the mean by more than 1.8e19 the
//! variance overflows, and the row becomes beta or NaN.
//!
//! ```
//! use gristmill_core::{MatMut, MatRef};
//! use gristmill_layernorm::{LayerNormOptions, layer_norm};
//!
//! let x = [1.0, 3.0, 2.0, 6.0];
//! let mut y = [0.0; 4];
//! let options = LayerNormOptions { eps: 0.0, gamma: Some(&[1.0, 2.0]), ..Default::default() };
//! layer_norm(MatRef::new(&x, 2, 2)?, MatMut::new(&mut y, 2, 2)?, &options)?;
//! assert_eq!(y, [-1.0, 2.0, -1.0, 2.0]);
//! # Ok::<(), gristmill_core::Error>(())
//! ```

mod check;
mod fused;
pub mod naive;
mod operand;
mod row;
mod sums;

use fused::{Arithmetic, Call, Raw};
use gristmill_core::{Error, MatMut, MatRef, Threads};
use gristmill_simd::{Level, Simd};
use row::{Affine, Length};

/// How to normalise. By default `eps` is 1e-5, and there is no gamma and no beta.
#[derive(Clone, Copy, Debug)]
pub struct LayerNormOptions<'a> {
    /// Added to the variance; finite and not negative.
    pub eps: f32,
    /// Scale of each column; `None` drops the multiplication.
    pub gamma: Option<&'a [f32]>,
    /// Shift of each column, after the scale; `None` drops the addition.
    pub beta: Option<&'a [f32]>,
    /// Where parallel work runs. Few rows never leave the calling thread.
    pub threads: Threads<'a>,
    /// The instruction set; `None` is the best there is.
    pub level: Option<Level>,
}

impl Default for LayerNormOptions<'_> {
    fn default() -> Self {
        Self { eps: 1e-5, gamma: None, beta: None, threads: Threads::default(), level: None }
    }
}

/// `y = norm(x)`, row by row; both are [rows, n].
///
/// # Errors
/// [`Error::ShapeMismatch`] when shapes or the lengths of gamma and beta disagree, [`Error::InvalidOption`] for an
/// `eps` that is negative or not finite, [`Error::Level`]. Then `y` is untouched.
pub fn layer_norm(x: MatRef<'_, f32>, mut y: MatMut<'_, f32>, options: &LayerNormOptions<'_>) -> Result<(), Error> {
    check::layer_norm(x, &y, options)?;
    let rows = x.rows();
    // SAFETY: shapes agree; y is borrowed exclusively.
    unsafe { run(rows, x.cols(), Operands { x: input(x), residual: None, y: output(&mut y), sum: None }, options) }
}

/// `x = norm(x)`, row by row.
///
/// # Errors
/// As [`layer_norm`].
pub fn layer_norm_in_place(mut x: MatMut<'_, f32>, options: &LayerNormOptions<'_>) -> Result<(), Error> {
    check::arithmetic(x.cols(), options)?;
    let (rows, n, y) = (x.rows(), x.cols(), output(&mut x));
    // SAFETY: one matrix, borrowed exclusively, is input and output.
    unsafe { run(rows, n, Operands { x: y.as_input(), residual: None, y, sum: None }, options) }
}

/// `y = norm(x + residual)`, row by row, and `sum = x + residual` when there is a `sum`; all are [rows, n].
///
/// # Errors
/// As [`layer_norm`].
pub fn add_layer_norm(
    x: MatRef<'_, f32>,
    residual: MatRef<'_, f32>,
    mut y: MatMut<'_, f32>,
    sum: Option<MatMut<'_, f32>>,
    options: &LayerNormOptions<'_>,
) -> Result<(), Error> {
    check::add_layer_norm(x, residual, &y, sum.as_ref(), options)?;
    let (rows, n) = (x.rows(), x.cols());
    let sum = sum.map(|mut sum| output(&mut sum));
    let operands = Operands { x: input(x), residual: Some(input(residual)), y: output(&mut y), sum };
    // SAFETY: shapes agree; y and sum are borrowed exclusively until here.
    unsafe { run(rows, n, operands, options) }
}

/// The residual connection of a Transformer on a stream of activations `x`; all matrices are [rows, n].
///
/// Without a `y`, as in post-norm models: `x = norm(x + residual)`. With one, as in pre-norm models:
/// `x = x + residual` and `y = norm(x)`.
///
/// # Errors
/// As [`layer_norm`].
pub fn add_layer_norm_in_place(
    mut x: MatMut<'_, f32>,
    residual: MatRef<'_, f32>,
    y: Option<MatMut<'_, f32>>,
    options: &LayerNormOptions<'_>,
) -> Result<(), Error> {
    check::addend(x.as_ref(), residual)?;
    match &y {
        Some(y) => check::layer_norm(x.as_ref(), y, options)?,
        None => check::arithmetic(x.cols(), options)?,
    }
    let (rows, n, stream) = (x.rows(), x.cols(), output(&mut x));
    let (y, sum) = match y {
        Some(mut y) => (output(&mut y), Some(stream)),
        None => (stream, None),
    };
    let operands = Operands { x: stream.as_input(), residual: Some(input(residual)), y, sum };
    // SAFETY: shapes agree; x is borrowed exclusively and is input and one of the outputs, and so is y the other.
    unsafe { run(rows, n, operands, options) }
}

/// Elements that are worth a job of their own.
const JOB: usize = 1 << 15;

/// The matrices of a call.
struct Operands {
    x: Raw<*const f32>,
    residual: Option<Raw<*const f32>>,
    y: Raw<*mut f32>,
    sum: Option<Raw<*mut f32>>,
}

fn input(a: MatRef<'_, f32>) -> Raw<*const f32> {
    Raw { start: a.as_ptr(), row_stride: a.row_stride(), col_stride: a.col_stride() }
}

fn output(a: &mut MatMut<'_, f32>) -> Raw<*mut f32> {
    Raw { start: a.as_mut_ptr(), row_stride: a.row_stride(), col_stride: a.col_stride() }
}

/// Divides the rows among the threads.
///
/// # Safety
/// Every operand has `rows` rows of `n` elements; two are the same memory, element for element, or do not overlap;
/// the outputs are the caller's alone; the lengths of gamma and beta have been checked.
unsafe fn run(rows: usize, n: usize, operands: Operands, options: &LayerNormOptions<'_>) -> Result<(), Error> {
    let simd = Simd::choose(options.level)?;
    if n == 0 {
        return Ok(());
    }
    let Operands { x, residual, y, sum } = operands;
    let affine = Affine::new(options.gamma, options.beta);
    let arithmetic = Arithmetic { n: Length::new(n), affine, eps: options.eps };
    let call = Call { x, residual, y, sum, arithmetic };
    let share = (JOB / n).max(1);
    options.threads.for_each(rows.div_ceil(share), |job| {
        let first = job * share;
        // SAFETY: the caller's promise is (Call); the jobs divide the rows.
        unsafe { call.run(simd, first..rows.min(first + share)) };
    });
    Ok(())
}
