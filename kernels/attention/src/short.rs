//! The softmax of rows of few keys: several rows in step, and from scores to weights in registers.
//!
//! A short row is a chain of dependent operations that nothing else in the row overlaps. Here other rows do.

use crate::softmax::LOWEST;
use gristmill_simd::sums::SUM_LANES;
use gristmill_simd::{Isa, math};
use std::array;

/// Rows in step.
const ROWS: usize = 4;

/// Replaces the first `keys[r]` scores of row `r` by `exp(score - max)` and the rest of the row, up to whole registers
/// for `limit` keys, by zeros. `sums` receives the sum of each row in the order of [`gristmill_simd::sums`]: a zero
/// stands for a row that is all zeros. Does nothing and returns false if the rows are not short.
///
/// # Safety
/// There are as many rows, `stride` apart, as `keys` and `sums` have elements, at least one, each of whole registers for
/// `limit` keys; no row has more keys than that.
#[inline(always)]
pub(crate) unsafe fn weigh<I: Isa>(
    isa: I,
    rows: *mut f32,
    stride: usize,
    limit: usize,
    keys: &[usize],
    sums: &mut [f32],
) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        match (limit.div_ceil(I::LANES), I::REGISTERS < 32) {
            (1, _) => steps::<I, 1, 4>(isa, rows, stride, keys, sums),
            (2, false) => steps::<I, 2, 8>(isa, rows, stride, keys, sums),
            (2, true) => steps::<I, 2, 4>(isa, rows, stride, keys, sums),
            (3, false) => steps::<I, 3, 6>(isa, rows, stride, keys, sums),
            (4, false) => steps::<I, 4, 8>(isa, rows, stride, keys, sums),
            _ => return false,
        }
    }
    true
}

/// [`weigh`] of rows of `N` registers, the exponentials of `EXPS` registers in step.
///
/// # Safety
/// As there, for `N` registers.
#[inline(always)]
unsafe fn steps<I: Isa, const N: usize, const EXPS: usize>(
    isa: I,
    rows: *mut f32,
    stride: usize,
    keys: &[usize],
    sums: &mut [f32],
) {
    for (first, sums) in (0..).step_by(ROWS).zip(sums.chunks_mut(ROWS)) {
        // The last row stands in for those that are missing.
        let step = array::from_fn(|r| (first + r).min(keys.len() - 1));
        let starts = step.map(|r| rows.wrapping_add(r * stride));
        // SAFETY: the caller's promise.
        let found = unsafe { step_of::<I, N, EXPS>(isa, starts, step.map(|r| keys[r])) };
        sums.copy_from_slice(&found[..sums.len()]);
    }
}

/// [`weigh`] of the rows of `N` registers at `rows`, two of which may be the same one: their sums.
///
/// # Safety
/// As there, for `N` registers.
#[inline(always)]
unsafe fn step_of<I: Isa, const N: usize, const EXPS: usize>(
    isa: I,
    rows: [*mut f32; ROWS],
    keys: [usize; ROWS],
) -> [f32; ROWS] {
    const { assert!(EXPS.is_multiple_of(N) && ROWS.is_multiple_of(EXPS / N), "whole rows") };
    const { assert!(N * I::LANES <= SUM_LANES, "a lane of a sum has one element at most") };
    let hidden = isa.splat(f32::NEG_INFINITY);
    let mut x = [[hidden; N]; ROWS];
    let mut maxima = [isa.splat(LOWEST); ROWS];
    let shortest = keys.into_iter().fold(usize::MAX, usize::min);
    for j in 0..N {
        for (x, row) in x.iter_mut().zip(rows) {
            // SAFETY: the caller's promise.
            x[j] = unsafe { isa.load(row.add(j * I::LANES)) };
        }
        if shortest < (j + 1) * I::LANES {
            for (x, keys) in x.iter_mut().zip(keys) {
                let seen = isa.tail_mask(isa.tail(keys.saturating_sub(j * I::LANES)));
                x[j] = isa.select(seen, x[j], hidden);
            }
        }
        for (max, x) in maxima.iter_mut().zip(&x) {
            // NaN is passed over.
            *max = isa.max(x[j], *max);
        }
    }
    let maxima = isa.spread_max_each(maxima);
    let mut lanes = [hidden; ROWS];
    for first in (0..ROWS).step_by(EXPS / N) {
        let mut p = [hidden; EXPS];
        for (i, p) in p.iter_mut().enumerate() {
            let r = first + i / N;
            *p = isa.sub(x[r][i % N], maxima[r]);
        }
        // What is hidden becomes zero.
        let p = math::exp_nonpositive_each(isa, p);
        for (r, p) in p.chunks_exact(N).enumerate() {
            let mut sums = [hidden; N];
            for (j, (sum, &p)) in sums.iter_mut().zip(p).enumerate() {
                *sum = p;
                // SAFETY: the caller's promise.
                unsafe { isa.store(rows[first + r].add(j * I::LANES), p) };
            }
            // The halving tree over all lanes, without those that nothing was added to.
            let mut half = SUM_LANES / I::LANES / 2;
            while half > 0 {
                for j in half..N.min(2 * half) {
                    sums[j - half] = isa.add(sums[j - half], sums[j]);
                }
                half /= 2;
            }
            lanes[first + r] = sums[0];
        }
    }
    isa.reduce_add_each(lanes)
}
