//! Logarithms of the softmax of rows.

use crate::rows::{self, Job, PIECE, Row};
use crate::softmax::{exponential, max};
use crate::{RowOptions, check};
use gristmill_core::{Error, MatMut, MatRef};
use gristmill_simd::slices::{self, Map};
use gristmill_simd::sums::reduce64;
use gristmill_simd::{Isa, math};

/// `y[i] = (x[i] - max) - ln(sum(exp(x - max)))`, row by row; both are [rows, n].
///
/// Minus infinity stays minus infinity, in a row of nothing else too. A NaN or a plus infinity makes its row NaN.
/// Values more than 87 below their row's largest add nothing to the sum, but keep their own finite results.
///
/// # Errors
/// [`Error::ShapeMismatch`], [`Error::Level`]. Then `y` is untouched.
pub fn log_softmax(x: MatRef<'_, f32>, y: MatMut<'_, f32>, options: &RowOptions<'_>) -> Result<(), Error> {
    check::same_shape(x, &y)?;
    rows::divide(y, x.cols(), options, &LogSoftmax { x: Some(x) })
}

/// [`log_softmax`] of `x` into `x`.
///
/// # Errors
/// [`Error::Level`]. Then `x` is untouched.
pub fn log_softmax_in_place(x: MatMut<'_, f32>, options: &RowOptions<'_>) -> Result<(), Error> {
    let n = x.cols();
    rows::divide(x, n, options, &LogSoftmax { x: None })
}

struct LogSoftmax<'a> {
    /// Without it, the values are in the output.
    x: Option<MatRef<'a, f32>>,
}

impl Job<f32> for LogSoftmax<'_> {
    #[inline(always)]
    fn run<I: Isa>(&self, isa: I, first: usize, mut y: MatMut<'_, f32>) {
        let (mut from, mut to) = ([0.0; PIECE], [0.0; PIECE]);
        for i in 0..y.rows() {
            let x = self.x.map(|matrix| Row { matrix, index: first + i });
            row(isa, x, &mut y, i, &mut from, &mut to);
        }
    }
}

/// `(x - max) - ln(sum)`.
struct Shift<V> {
    max: V,
    ln: V,
}

impl<I: Isa> Map<I> for Shift<I::F32> {
    #[inline(always)]
    fn map(&self, isa: I, x: I::F32) -> I::F32 {
        isa.sub(isa.sub(x, self.max), self.ln)
    }
}

/// Row `i` of `y` from a row of `x`, or from itself, piece by piece.
#[inline(always)]
fn row<I: Isa>(
    isa: I,
    x: Option<Row<'_>>,
    y: &mut MatMut<'_, f32>,
    i: usize,
    from: &mut [f32; PIECE],
    to: &mut [f32; PIECE],
) {
    let n = y.cols();
    let mut largest = f32::NEG_INFINITY;
    for columns in rows::pieces(n) {
        let x = x.unwrap_or(Row { matrix: y.as_ref(), index: i });
        let max = max(isa, x.borrow(columns, from));
        largest = if max > largest { max } else { largest };
    }
    let exponential = exponential(isa, largest);
    let mut lanes = isa.splat_lanes64(0.0);
    for columns in rows::pieces(n) {
        let x = x.unwrap_or(Row { matrix: y.as_ref(), index: i });
        let piece = x.borrow(columns, from);
        lanes = slices::map_sum(isa, piece, &mut to[..piece.len()], lanes, &exponential);
    }
    let sum = reduce64(isa, lanes);
    // Only a row of minus infinities has the sum 0; less ln(1) = +0 they stay what they are.
    let ln = math::ln(isa, isa.splat(if sum == 0.0 { 1.0 } else { sum }));
    let shift = Shift { max: exponential.0, ln };
    for columns in rows::pieces(n) {
        let x = x.unwrap_or(Row { matrix: y.as_ref(), index: i });
        let piece = x.gather(columns.clone(), from);
        slices::map_in_place(isa, piece, &shift);
        match y.row_mut(i) {
            Some(row) => row[columns].copy_from_slice(piece),
            None => rows::scatter(y, i, columns.start, piece),
        }
    }
}
