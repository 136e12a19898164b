//! One row of scores in place: its maximum, then its exponentials and their sum.

use crate::mask::Edit;
use gristmill_simd::slices::{self, Map};
use gristmill_simd::sums::reduce64;
use gristmill_simd::{Isa, math};

/// Replaces `row` by its edited scores, minus infinity where the edit hides a key, and returns the largest that is
/// not NaN, minus infinity if there is none.
#[inline(always)]
pub(crate) fn edit_and_max<I: Isa>(isa: I, row: &mut [f32], edit: &Edit) -> f32 {
    let mut max = isa.splat(f32::NEG_INFINITY);
    for (block, scores) in row.chunks_mut(I::LANES).enumerate() {
        let (n, tail) = (scores.len(), isa.tail(scores.len()));
        // SAFETY: the tail has as many lanes as `scores` has values; an edit has a value for each score of the row.
        unsafe {
            let score = edit.apply(isa, isa.load_tail(scores.as_ptr(), tail), block * I::LANES, n);
            isa.store_tail(scores.as_mut_ptr(), score, tail);
            max = isa.select(isa.tail_mask(tail), isa.max(score, max), max);
        }
    }
    isa.reduce_max(max)
}

/// The largest value that is not NaN, minus infinity if there is none.
#[inline(always)]
pub(crate) fn max<I: Isa>(isa: I, row: &[f32]) -> f32 {
    let lanes = slices::fold(isa, row, f32::NEG_INFINITY, |max, x| isa.max(x, max));
    let (first, others) = (lanes.as_ref()[0], &lanes.as_ref()[1..]);
    isa.reduce_max(others.iter().fold(first, |max, &x| isa.max(x, max)))
}

/// Replaces the first `n` values `x` of `row` by `exp(x - max)`, the others by zeros, and returns their sum in the
/// order of [`gristmill_simd::sums`]. Zero stands for a row that is all zeros.
#[inline(always)]
pub(crate) fn exp_and_sum<I: Isa>(isa: I, row: &mut [f32], n: usize, max: f32) -> f32 {
    let (scores, beyond) = row.split_at_mut(n);
    beyond.fill(0.0);
    if max == f32::NEG_INFINITY {
        // All scores are minus infinity or, which alone makes a sum, NaN.
        let nan = scores.iter().any(|x| x.is_nan());
        scores.fill(0.0);
        return if nan { f32::NAN } else { 0.0 };
    }
    let weight = Weight::<I> { max: isa.splat(max) };
    reduce64(isa, slices::map_sum_in_place(isa, scores, isa.splat_lanes64(0.0), &weight))
}

/// `exp(x - max)`.
struct Weight<I: Isa> {
    max: I::F32,
}

impl<I: Isa> Map<I> for Weight<I> {
    #[inline(always)]
    fn map(&self, isa: I, x: I::F32) -> I::F32 {
        math::exp_nonpositive(isa, isa.sub(x, self.max))
    }
}
