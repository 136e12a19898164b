//! One row of scores in place: its maximum, then its exponentials and their sum.

use crate::mask::Edit;
use gristmill_simd::slices;
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
    let max = isa.splat(max);
    let mut lanes = isa.splat_lanes64(0.0);
    let sums = &mut lanes.as_mut()[..sum_registers::<I>()];
    let mut blocks = scores.chunks_exact_mut(SUM_LANES);
    for block in &mut blocks {
        // As many registers in step as there is room for.
        if I::REGISTERS < 32 {
            exp_and_sum_block::<I, 2>(isa, block, sums, max);
        } else {
            exp_and_sum_block::<I, 4>(isa, block, sums, max);
        }
    }
    for (rest, sum) in blocks.into_remainder().chunks_mut(I::LANES).zip(sums) {
        let tail = isa.tail(rest.len());
        // SAFETY: the tail has as many lanes as `rest` has values.
        unsafe {
            let p = math::exp_nonpositive(isa, isa.sub(isa.load_tail(rest.as_ptr(), tail), max));
            isa.store_tail(rest.as_mut_ptr(), p, tail);
            // Adding +0 to a lane changes nothing.
            *sum = isa.add(*sum, isa.select(isa.tail_mask(tail), p, isa.splat(0.0)));
        }
    }
    reduce64(isa, lanes)
}

/// Replaces the 64 values `x` of a block by `exp(x - max)` and adds them to the lanes, `N` registers in step.
#[inline(always)]
fn exp_and_sum_block<I: Isa, const N: usize>(isa: I, block: &mut [f32], sums: &mut [I::F32], max: I::F32) {
    for (values, sums) in block.chunks_exact_mut(N * I::LANES).zip(sums.chunks_exact_mut(N)) {
        let mut x = [max; N];
        for (j, x) in x.iter_mut().enumerate() {
            // SAFETY: `values` holds N registers.
            *x = isa.sub(unsafe { isa.load(values.as_ptr().add(j * I::LANES)) }, *x);
        }
        let p = math::exp_nonpositive_each(isa, x);
        for (j, (p, sum)) in p.into_iter().zip(sums).enumerate() {
            // SAFETY: as above.
            unsafe { isa.store(values.as_mut_ptr().add(j * I::LANES), p) };
            *sum = isa.add(*sum, p);
        }
    }
}
