//! Rows of scores in place: their maxima, then their exponentials and their sums. A row leaves one register of lanes.

use crate::mask::Edit;
use gristmill_simd::sums::{SUM_LANES, halve, sum_registers};
use gristmill_simd::{Isa, math, slices};

/// What the largest score of a row is at least: above minus infinity, so that scores of minus infinity, though there be
/// no others, are infinitely far below it.
pub(crate) const LOWEST: f32 = f32::MIN;

/// Replaces `row` by its edited scores, minus infinity where the edit hides a key, and returns lanes of which the
/// largest is the largest score that is not NaN, [`LOWEST`] if there is none. No lane is NaN.
#[inline(always)]
pub(crate) fn edit_and_max<I: Isa>(isa: I, row: &mut [f32], edit: &Edit) -> I::F32 {
    let mut max = isa.splat(LOWEST);
    for (block, scores) in row.chunks_mut(I::LANES).enumerate() {
        let (n, tail) = (scores.len(), isa.tail(scores.len()));
        // SAFETY: the tail has as many lanes as `scores` has values; an edit has a value for each score of the row.
        unsafe {
            let score = edit.apply(isa, isa.load_tail(scores.as_ptr(), tail), block * I::LANES, n);
            isa.store_tail(scores.as_mut_ptr(), score, tail);
            max = isa.select(isa.tail_mask(tail), isa.max(score, max), max);
        }
    }
    max
}

/// As [`edit_and_max`], of scores that stay as they are.
#[inline(always)]
pub(crate) fn max<I: Isa>(isa: I, row: &[f32]) -> I::F32 {
    let lanes = slices::fold(isa, row, LOWEST, |max, x| isa.max(x, max));
    let (first, others) = (lanes.as_ref()[0], &lanes.as_ref()[1..]);
    others.iter().fold(first, |max, &x| isa.max(x, max))
}

/// Replaces the first `n` values `x` of `row` by `exp(x - max)`, the others by zeros, and returns lanes whose sum by
/// halving is their sum in the order of [`gristmill_simd::sums`]: zero for a row that is all zeros. `max` has the row's
/// largest value, or [`LOWEST`], in every lane.
#[inline(always)]
pub(crate) fn exp_and_sum<I: Isa>(isa: I, row: &mut [f32], n: usize, max: I::F32) -> I::F32 {
    let (scores, beyond) = row.split_at_mut(n);
    if !beyond.is_empty() {
        beyond.fill(0.0);
    }
    let mut lanes = isa.splat_lanes64(0.0);
    let sums = &mut lanes.as_mut()[..sum_registers::<I>()];
    let mut blocks = scores.chunks_exact_mut(SUM_LANES);
    for block in &mut blocks {
        // As many registers in step as there is room for.
        if I::REGISTERS < 32 {
            exp_and_sum_registers::<I, 2>(isa, block, sums, max);
        } else {
            exp_and_sum_registers::<I, 4>(isa, block, sums, max);
        }
    }
    // The sums are indexed by constants, so that they stay in registers.
    let rest = blocks.into_remainder();
    for (pair, sums) in rest.chunks_mut(2 * I::LANES).zip(sums.chunks_exact_mut(2)) {
        if pair.len() == 2 * I::LANES {
            exp_and_sum_registers::<I, 2>(isa, pair, sums, max);
            continue;
        }
        let (whole, tail) = pair.split_at_mut(pair.len() / I::LANES * I::LANES);
        let [first, second] = sums else { unreachable!("chunks of two") };
        if whole.is_empty() {
            exp_and_sum_tail(isa, tail, first, max);
        } else {
            exp_and_sum_registers::<I, 1>(isa, whole, std::slice::from_mut(first), max);
            if !tail.is_empty() {
                exp_and_sum_tail(isa, tail, second, max);
            }
        }
    }
    halve(isa, sums)
}

/// As [`exp_and_sum_registers`], of less than a register.
#[inline(always)]
fn exp_and_sum_tail<I: Isa>(isa: I, values: &mut [f32], sum: &mut I::F32, max: I::F32) {
    let lanes = isa.tail(values.len());
    // SAFETY: there are as many lanes as values.
    unsafe {
        let p = math::exp_nonpositive(isa, isa.sub(isa.load_tail(values.as_ptr(), lanes), max));
        isa.store_tail(values.as_mut_ptr(), p, lanes);
        // Adding +0 to a lane changes nothing.
        *sum = isa.add(*sum, isa.select(isa.tail_mask(lanes), p, isa.splat(0.0)));
    }
}

/// Replaces the values `x` of whole registers by `exp(x - max)` and adds each register to its lanes, `N` of them in step.
#[inline(always)]
fn exp_and_sum_registers<I: Isa, const N: usize>(isa: I, values: &mut [f32], sums: &mut [I::F32], max: I::F32) {
    for (values, sums) in values.chunks_exact_mut(N * I::LANES).zip(sums.chunks_exact_mut(N)) {
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
