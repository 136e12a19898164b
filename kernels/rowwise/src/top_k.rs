//! The columns of a row's largest values.

use crate::rows::{self, Job, PIECE, Row};
use crate::{RowOptions, check};
use gristmill_core::{Error, MatMut, MatRef, Operand, SharedMat};
use gristmill_simd::{Element, Isa, typed};
use std::ops::Range;

/// `out[i]` = the columns of the `k` largest values of row `i` of `x`, the largest first; `x` is [rows, n], `out` is
/// [rows, k].
///
/// Equal values stand in the order of their columns, and zeros of either sign are equal. NaNs count as larger than
/// everything and as equal. The time is that of one pass over `x` and of keeping `k` columns in order: meant for the
/// few dozen of a beam or a shortlist.
///
/// ```
/// use gristmill_core::{MatMut, MatRef};
/// use gristmill_rowwise::{RowOptions, top_k};
///
/// let mut best = [0; 2];
/// let x = MatRef::new(&[1.0, 3.0, 2.0, 3.0], 1, 4)?;
/// top_k(x, MatMut::new(&mut best, 1, 2)?, &RowOptions::default())?;
/// assert_eq!(best, [1, 3]);
/// # Ok::<(), gristmill_core::Error>(())
/// ```
///
/// # Errors
/// [`Error::ShapeMismatch`] when `out` has not one row per row, [`Error::RangeOutOfBounds`] when `k` exceeds `n`,
/// [`Error::Level`]. Then `out` is untouched.
pub fn top_k<X: Element>(x: MatRef<'_, X>, out: MatMut<'_, usize>, options: &RowOptions<'_>) -> Result<(), Error> {
    check::top_k(x, &out)?;
    run(x.into(), out, options)
}

fn run(x: Operand<'_>, mut out: MatMut<'_, usize>, options: &RowOptions<'_>) -> Result<(), Error> {
    let shape = [out.rows(), out.cols()];
    // SAFETY: x has a row for each of out, which is borrowed exclusively.
    unsafe { rows::divide(shape, x.cols(), options, &TopK { x, out: out.share() }) }
}

struct TopK<'a> {
    x: Operand<'a>,
    out: SharedMat<'a, usize>,
}

impl Job for TopK<'_> {
    #[inline(always)]
    unsafe fn run<I: Isa>(&self, isa: I, rows: Range<usize>) {
        let mut buffer = [0.0; PIECE];
        // SAFETY: (Job), and nobody else makes these rows.
        unsafe {
            let mut out = self.out.block(rows.clone(), 0..self.out.cols());
            for (place, i) in rows.enumerate() {
                row(isa, Row::of(&self.x, i), &mut out, place, &mut buffer);
            }
        }
    }
}

/// Row `i` of `out`, of which some columns of `x` are there already, the best first. The matrix has the row `x`.
struct Best<'r, 'a> {
    x: Row,
    out: &'r mut MatMut<'a, usize>,
    i: usize,
    found: usize,
}

impl Best<'_, '_> {
    /// The value in a place where a column is.
    #[inline(always)]
    fn value<T: Element>(&self, place: usize) -> f32 {
        // SAFETY: the matrix has the row, and what is found is one of its columns.
        unsafe { self.x.value::<T>(self.out.at(self.i, place)) }
    }

    /// The last of the best.
    fn least(&self) -> f32 {
        typed!(self.x.dtype(), T => self.value::<T>(self.out.cols() - 1))
    }

    /// Puts a column where it belongs, after all that are not smaller; the last one falls out.
    #[inline(never)]
    fn insert(&mut self, column: usize, value: f32) {
        typed!(self.x.dtype(), T => self.insert_among::<T>(column, value));
    }

    #[inline(always)]
    fn insert_among<T: Element>(&mut self, column: usize, value: f32) {
        let k = self.out.cols();
        let mut place = self.found.min(k);
        while place > 0 && beats(value, self.value::<T>(place - 1)) {
            if place < k {
                self.out.set(self.i, place, self.out.at(self.i, place - 1));
            }
            place -= 1;
        }
        if place < k {
            self.out.set(self.i, place, column);
            self.found = (self.found + 1).min(k);
        }
    }
}

/// Whether `a` is larger: NaN is larger than everything but NaN.
fn beats(a: f32, b: f32) -> bool {
    a > b || (a.is_nan() && !b.is_nan())
}

/// # Safety
/// The matrix has the row.
#[inline(always)]
unsafe fn row<I: Isa>(isa: I, x: Row, out: &mut MatMut<'_, usize>, i: usize, buffer: &mut [f32; PIECE]) {
    let (n, k) = (x.len(), out.cols());
    let mut out = out.reborrow();
    let mut best = Best { x, out: &mut out, i, found: 0 };
    for columns in rows::pieces(n, PIECE) {
        // SAFETY: the caller's promise.
        let piece = unsafe { x.borrow(isa, columns.clone(), buffer) };
        // The first ones are the best so far, whatever they are.
        let start = (k - best.found).min(piece.len());
        for (j, &value) in piece[..start].iter().enumerate() {
            best.insert(columns.start + j, value);
        }
        let mut least = if start < piece.len() { best.least() } else { 0.0 };
        for (block, values) in piece[start..].chunks(I::LANES).enumerate() {
            let tail = isa.tail(values.len());
            // SAFETY: the tail has as many lanes as the block has values.
            let v = unsafe { isa.load_tail(values.as_ptr(), tail) };
            // Most blocks have nothing that beats the last of the best; where it is NaN nothing does.
            let larger = isa.mask_or(isa.lt(isa.splat(least), v), isa.is_nan(v));
            if isa.mask_bits(isa.mask_and(larger, isa.tail_mask(tail))) == 0 {
                continue;
            }
            for (j, &value) in values.iter().enumerate() {
                if beats(value, least) {
                    best.insert(columns.start + start + block * I::LANES + j, value);
                    least = best.least();
                }
            }
        }
    }
}
