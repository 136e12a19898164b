//! The column of a row's largest value.

use crate::rows::{self, Job, PIECE, Row};
use crate::scores::max;
use crate::{RowOptions, check};
use gristmill_core::{Error, MatMut, MatRef, Operand, SharedMat};
use gristmill_simd::{Element, Isa, slices};
use std::ops::Range;

/// `out[i]` = the column of the largest value of row `i` of `x`, the first of equal ones.
///
/// Zeros of either sign are equal. A NaN counts as larger than everything, so that a row with NaNs gives the first of
/// them.
///
/// # Errors
/// [`Error::ShapeMismatch`] when `out` has not one place per row, [`Error::Empty`] when there are rows but no columns,
/// [`Error::Level`]. Then `out` is untouched.
pub fn argmax<X: Element>(x: MatRef<'_, X>, out: &mut [usize], options: &RowOptions<'_>) -> Result<(), Error> {
    check::argmax(x, out)?;
    let rows = out.len();
    run(x.into(), MatMut::new(out, rows, 1)?, options)
}

fn run(x: Operand<'_>, mut out: MatMut<'_, usize>, options: &RowOptions<'_>) -> Result<(), Error> {
    let shape = [out.rows(), out.cols()];
    // SAFETY: x has a row for each of out, which is borrowed exclusively.
    unsafe { rows::divide(shape, x.cols(), options, &Argmax { x, out: out.share() }) }
}

struct Argmax<'a> {
    x: Operand<'a>,
    /// One column.
    out: SharedMat<'a, usize>,
}

impl Job for Argmax<'_> {
    #[inline(always)]
    unsafe fn run<I: Isa>(&self, isa: I, rows: Range<usize>) {
        let mut buffer = [0.0; PIECE];
        // SAFETY: (Job), and nobody else makes these rows.
        unsafe {
            let mut out = self.out.block(rows.clone(), 0..1);
            for (place, i) in rows.enumerate() {
                out.set(place, 0, row(isa, Row::of(&self.x, i), &mut buffer));
            }
        }
    }
}

/// Elements of a contiguous row that are searched at a time: few enough for the nearest cache.
const STRETCH: usize = 4096;

/// One pass to find the stretch with the largest value, then a search of that stretch alone.
///
/// # Safety
/// The matrix has the row.
#[inline(always)]
unsafe fn row<I: Isa>(isa: I, x: Row, buffer: &mut [f32; PIECE]) -> usize {
    let n = x.len();
    let step = if x.is_f32s() { STRETCH } else { PIECE };
    let (mut best, mut place) = (f32::NEG_INFINITY, 0..step.min(n));
    for start in (0..n).step_by(step) {
        let columns = start..n.min(start + step);
        // SAFETY: the caller's promise.
        let stretch = unsafe { x.borrow(isa, columns.clone(), buffer) };
        if has_nan(isa, stretch) {
            (best, place) = (f32::NAN, columns);
            break;
        }
        let max = max(isa, stretch);
        if max > best {
            (best, place) = (max, columns);
        }
    }
    // SAFETY: the caller's promise.
    place.start + position(unsafe { x.borrow(isa, place.clone(), buffer) }, best)
}

/// The first element that equals `value`, or is NaN if that is; there is one.
fn position(x: &[f32], value: f32) -> usize {
    let is = |x: f32| (x == value) | (value.is_nan() & x.is_nan());
    // A block without an early exit is compared in a few instructions.
    let block = x.chunks(64).position(|block| block.iter().fold(false, |any, &x| any | is(x)));
    let start = block.unwrap_or(0) * 64;
    start + x[start..].iter().position(|&x| is(x)).unwrap_or(0)
}

#[inline(always)]
fn has_nan<I: Isa>(isa: I, x: &[f32]) -> bool {
    let lanes = slices::fold(isa, x, 0.0, |seen, x| isa.select(isa.is_nan(x), x, seen));
    let mut any = 0;
    for &lane in lanes.as_ref() {
        any |= isa.mask_bits(isa.is_nan(lane));
    }
    any != 0
}
