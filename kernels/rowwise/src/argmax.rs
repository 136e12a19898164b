//! The column of a row's largest value.

use crate::rows::{self, Job, PIECE, Row};
use crate::softmax::max;
use crate::{RowOptions, check};
use gristmill_core::{Error, MatMut, MatRef};
use gristmill_simd::{Isa, slices};

/// `out[i]` = the column of the largest value of row `i` of `x`, the first of equal ones.
///
/// Zeros of either sign are equal. A NaN counts as larger than everything, so that a row with NaNs gives the first of
/// them.
///
/// # Errors
/// [`Error::ShapeMismatch`] when `out` has not one place per row, [`Error::Empty`] when there are rows but no columns,
/// [`Error::Level`]. Then `out` is untouched.
pub fn argmax(x: MatRef<'_, f32>, out: &mut [usize], options: &RowOptions<'_>) -> Result<(), Error> {
    check::argmax(x, out)?;
    let rows = out.len();
    rows::divide(MatMut::new(out, rows, 1)?, x.cols(), options, &Argmax { x })
}

struct Argmax<'a> {
    x: MatRef<'a, f32>,
}

impl Job<usize> for Argmax<'_> {
    #[inline(always)]
    fn run<I: Isa>(&self, isa: I, first: usize, mut out: MatMut<'_, usize>) {
        let mut buffer = [0.0; PIECE];
        for i in 0..out.rows() {
            out.set(i, 0, row(isa, Row { matrix: self.x, index: first + i }, &mut buffer));
        }
    }
}

/// One pass to find the piece with the largest value, then a search of that piece alone.
#[inline(always)]
fn row<I: Isa>(isa: I, x: Row<'_>, buffer: &mut [f32; PIECE]) -> usize {
    let n = x.matrix.cols();
    let (mut best, mut place) = (f32::NEG_INFINITY, 0..PIECE.min(n));
    for columns in rows::pieces(n) {
        let piece = x.borrow(columns.clone(), buffer);
        if has_nan(isa, piece) {
            (best, place) = (f32::NAN, columns);
            break;
        }
        let max = max(isa, piece);
        if max > best {
            (best, place) = (max, columns);
        }
    }
    let start = place.start;
    let piece = x.borrow(place, buffer);
    let found = piece.iter().position(|&x| x == best || (best.is_nan() && x.is_nan()));
    start + found.unwrap_or(0)
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
