//! One row of scores in place: its maximum, then its exponentials and their sum.

use crate::mask::Edit;
use gristmill_simd::sums::{SUM_LANES, reduce64, sum_registers};
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
    let mut lanes = gristmill_simd::slices::fold(isa, row, f32::NEG_INFINITY, |max, x| isa.max(x, max));
    let lanes = &mut lanes.as_mut()[..sum_registers::<I>()];
    let max = lanes.iter().fold(isa.splat(f32::NEG_INFINITY), |max, &x| isa.max(x, max));
    isa.reduce_max(max)
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
    let max = isa.splat(max);
    let mut lanes = isa.splat_lanes64(0.0);
    let acc = &mut lanes.as_mut()[..sum_registers::<I>()];
    let mut blocks = scores.chunks_exact_mut(SUM_LANES);
    for block in &mut blocks {
        for (j, acc) in acc.iter_mut().enumerate() {
            let at = block[j * I::LANES..].as_mut_ptr();
            // SAFETY: register j of a block of 64 values ends at (j + 1) * LANES <= 64.
            unsafe {
                let p = math::exp_nonpositive(isa, isa.sub(isa.load(at), max));
                isa.store(at, p);
                *acc = isa.add(*acc, p);
            }
        }
    }
    for (rest, acc) in blocks.into_remainder().chunks_mut(I::LANES).zip(acc) {
        let tail = isa.tail(rest.len());
        // SAFETY: the tail has as many lanes as `rest` has values.
        unsafe {
            let p = math::exp_nonpositive(isa, isa.sub(isa.load_tail(rest.as_ptr(), tail), max));
            isa.store_tail(rest.as_mut_ptr(), p, tail);
            // Adding +0 to a lane changes nothing.
            *acc = isa.add(*acc, isa.select(isa.tail_mask(tail), p, isa.splat(0.0)));
        }
    }
    reduce64(isa, lanes)
}
