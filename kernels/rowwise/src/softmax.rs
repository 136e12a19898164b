//! Softmax of rows.

use crate::rows::{self, Job, PIECE, Row};
use crate::{RowOptions, check};
use gristmill_core::{Error, MatMut, MatRef};
use gristmill_simd::slices::{self, Map};
use gristmill_simd::sums::{reduce64, sum_registers};
use gristmill_simd::{Divisor, Isa, math};

/// `y[i] = exp(x[i] - max) / sum`, row by row; both are [rows, n].
///
/// A value more than 87 below its row's largest gives exactly 0, and so does minus infinity; a row of nothing but
/// minus infinities gives zeros. A NaN or a plus infinity makes its row NaN. Given the differences from the largest value as rounded, the result is within 6 ULP on rows of up to 37,000 elements.
///
/// # Errors
/// [`Error::ShapeMismatch`], [`Error::Level`]. Then `y` is untouched.
pub fn softmax(x: MatRef<'_, f32>, y: MatMut<'_, f32>, options: &RowOptions<'_>) -> Result<(), Error> {
    check::same_shape(x, &y)?;
    rows::divide(y, x.cols(), options, &Softmax { x: Some(x) })
}

/// [`softmax`] of `x` into `x`.
///
/// # Errors
/// [`Error::Level`]. Then `x` is untouched.
pub fn softmax_in_place(x: MatMut<'_, f32>, options: &RowOptions<'_>) -> Result<(), Error> {
    let n = x.cols();
    rows::divide(x, n, options, &Softmax { x: None })
}

struct Softmax<'a> {
    /// Without it, the values are in the output.
    x: Option<MatRef<'a, f32>>,
}

impl Job<f32> for Softmax<'_> {
    #[inline(always)]
    fn run<I: Isa>(&self, isa: I, first: usize, mut y: MatMut<'_, f32>) {
        for i in 0..y.rows() {
            let next = (i + 1).min(y.rows() - 1);
            let fetch = match self.x {
                Some(x) => Fetch([x.ptr_at(first + next, 0), y.ptr_at(next, 0)]),
                None => Fetch([y.ptr_at(next, 0); 2]),
            };
            match (self.x, self.x.and_then(|x| x.row(first + i)), y.row_mut(i)) {
                (Some(_), Some(x), Some(y)) => row(isa, x, y, fetch),
                (None, _, Some(x)) => row_in_place(isa, x, fetch),
                (x, ..) => strided(isa, x.map(|matrix| Row { matrix, index: first + i }), &mut y, i),
            }
        }
    }
}

/// `exp(x - max)`.
pub(crate) struct Exponential<V>(pub(crate) V);

impl<I: Isa> Map<I> for Exponential<I::F32> {
    #[inline(always)]
    fn map(&self, isa: I, x: I::F32) -> I::F32 {
        math::exp_nonpositive(isa, isa.sub(x, self.0))
    }
}

/// `x / sum`.
struct Divide<I: Isa>(Divisor<I>);

impl<I: Isa> Map<I> for Divide<I> {
    #[inline(always)]
    fn map(&self, isa: I, x: I::F32) -> I::F32 {
        self.0.divide(isa, x)
    }
}

/// The rows to be worked on next: memory is read while there is arithmetic to do.
#[derive(Clone, Copy)]
struct Fetch([*const f32; 2]);

/// Elements that are fetched at a time: whole blocks of 64 lanes.
const FETCHED: usize = 128;

impl Fetch {
    /// Asks for elements `k * FETCHED ..`, which need not exist.
    #[inline(always)]
    fn chunk<I: Isa>(self, isa: I, k: usize) {
        for row in self.0 {
            for line in 0..FETCHED / LINE {
                isa.prefetch(row.wrapping_add(k * FETCHED + line * LINE));
            }
        }
    }
}

/// Elements of a cache line.
const LINE: usize = 16;

#[inline(always)]
fn row<I: Isa>(isa: I, x: &[f32], y: &mut [f32], fetch: Fetch) {
    let exponential = exponential(isa, max(isa, x));
    let mut lanes = isa.splat_lanes64(0.0);
    for (k, (x, y)) in x.chunks(FETCHED).zip(y.chunks_mut(FETCHED)).enumerate() {
        fetch.chunk(isa, k);
        lanes = slices::map_sum(isa, x, y, lanes, &exponential);
    }
    slices::map_in_place(isa, y, &denominator(isa, lanes));
}

#[inline(always)]
fn row_in_place<I: Isa>(isa: I, x: &mut [f32], fetch: Fetch) {
    let exponential = exponential(isa, max(isa, x));
    let mut lanes = isa.splat_lanes64(0.0);
    for (k, x) in x.chunks_mut(FETCHED).enumerate() {
        fetch.chunk(isa, k);
        lanes = slices::map_sum_in_place(isa, x, lanes, &exponential);
    }
    slices::map_in_place(isa, x, &denominator(isa, lanes));
}

/// Row `i` of `y` from a row of `x`, or from itself, piece by piece.
#[inline(always)]
fn strided<I: Isa>(isa: I, x: Option<Row<'_>>, y: &mut MatMut<'_, f32>, i: usize) {
    let (n, mut buffer) = (y.cols(), [0.0; PIECE]);
    let mut largest = f32::NEG_INFINITY;
    for columns in rows::pieces(n) {
        let x = x.unwrap_or(Row { matrix: y.as_ref(), index: i });
        let max = max(isa, x.gather(columns, &mut buffer));
        largest = if max > largest { max } else { largest };
    }
    let exponential = exponential(isa, largest);
    let mut lanes = isa.splat_lanes64(0.0);
    for columns in rows::pieces(n) {
        let x = x.unwrap_or(Row { matrix: y.as_ref(), index: i });
        let piece = x.gather(columns.clone(), &mut buffer);
        lanes = slices::map_sum_in_place(isa, piece, lanes, &exponential);
        rows::scatter(y, i, columns.start, piece);
    }
    let denominator = denominator(isa, lanes);
    for columns in rows::pieces(n) {
        let piece = Row { matrix: y.as_ref(), index: i }.gather(columns.clone(), &mut buffer);
        slices::map_in_place(isa, piece, &denominator);
        rows::scatter(y, i, columns.start, piece);
    }
}

/// The largest value that is not NaN, minus infinity if there is none.
#[inline(always)]
pub(crate) fn max<I: Isa>(isa: I, x: &[f32]) -> f32 {
    let lanes = slices::fold(isa, x, f32::NEG_INFINITY, |max, x| isa.max(x, max));
    let mut max = isa.splat(f32::NEG_INFINITY);
    for &lane in &lanes.as_ref()[..sum_registers::<I>()] {
        max = isa.max(lane, max);
    }
    isa.reduce_max(max)
}

#[inline(always)]
pub(crate) fn exponential<I: Isa>(isa: I, max: f32) -> Exponential<I::F32> {
    // A row of minus infinities must not have NaN for its differences.
    Exponential(isa.splat(if max == f32::NEG_INFINITY { 0.0 } else { max }))
}

#[inline(always)]
fn denominator<I: Isa>(isa: I, lanes: I::Lanes64) -> Divide<I> {
    let sum = reduce64(isa, lanes);
    // Only a row of minus infinities has the sum 0: zeros, which any divisor leaves.
    Divide(Divisor::new(isa, if sum == 0.0 { 1.0 } else { sum }))
}
