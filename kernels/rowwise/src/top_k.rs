//! The columns of a row's largest values.

use crate::rows::{self, Job, PIECE, Row};
use crate::{RowOptions, check};
use gristmill_core::{Error, MatMut, MatRef};
use gristmill_simd::{Element, Isa};

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
    rows::divide(out, x.cols(), options, &TopK { x })
}

struct TopK<'a, X> {
    x: MatRef<'a, X>,
}

impl<X: Element> Job<usize> for TopK<'_, X> {
    #[inline(always)]
    fn run<I: Isa>(&self, isa: I, first: usize, mut out: MatMut<'_, usize>) {
        let mut buffer = [0.0; PIECE];
        for i in 0..out.rows() {
            row(isa, Row { matrix: self.x, index: first + i }, &mut out, i, &mut buffer);
        }
    }
}

/// Row `i` of `out`, of which some columns are there already, the best first.
struct Best<'r, 'a, X> {
    x: Row<'a, X>,
    out: &'r mut MatMut<'a, usize>,
    i: usize,
    found: usize,
}

impl<X: Element> Best<'_, '_, X> {
    fn value(&self, place: usize) -> f32 {
        self.x.matrix.at(self.x.index, self.out.at(self.i, place)).to_f32()
    }

    /// Puts a column where it belongs, after all that are not smaller; the last one falls out.
    #[inline(never)]
    fn insert(&mut self, column: usize, value: f32) {
        let k = self.out.cols();
        let mut place = self.found.min(k);
        while place > 0 && beats(value, self.value(place - 1)) {
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

#[inline(always)]
fn row<I: Isa, X: Element>(isa: I, x: Row<'_, X>, out: &mut MatMut<'_, usize>, i: usize, buffer: &mut [f32; PIECE]) {
    let (n, k) = (x.matrix.cols(), out.cols());
    let mut out = out.reborrow();
    let mut best = Best { x, out: &mut out, i, found: 0 };
    for columns in rows::pieces(n, PIECE) {
        let piece = x.borrow(isa, columns.clone(), buffer);
        // The first ones are the best so far, whatever they are.
        let start = (k - best.found).min(piece.len());
        for (j, &value) in piece[..start].iter().enumerate() {
            best.insert(columns.start + j, value);
        }
        let mut least = if start < piece.len() { best.value(k - 1) } else { 0.0 };
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
                    least = best.value(k - 1);
                }
            }
        }
    }
}
