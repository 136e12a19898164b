//! The softmax of rows of few keys: the rows of a block in step.
//!
//! A short row is a chain of dependent operations that nothing else in the row overlaps. Here other rows do: the maxima
//! of all rows come first, then all exponentials, last all sums, so that none waits for the one before it.

use crate::block::MAX_ROWS;
use crate::softmax::LOWEST;
use gristmill_simd::math;
use gristmill_simd::sums::SUM_LANES;
use gristmill_simd::{Isa, Kernel};
use std::array;

/// Rows whose maxima, or sums, are reduced together.
const ROWS: usize = 4;

/// Replaces the first `keys[r]` scores of row `r` by `exp(score - max)` and the rest of the row, up to whole registers
/// for `limit` keys, by zeros. `sums` receives the sum of each row in the order of [`gristmill_simd::sums`]: a zero
/// stands for a row that is all zeros. Does nothing and returns false if the rows are not short.
///
/// # Safety
/// There are as many rows, `stride` apart, as `keys` and `sums` have elements, from 1 to [`MAX_ROWS`], each of whole
/// registers for `limit` keys; no row has more keys than that, or fewer than the first row.
#[inline(always)]
pub(crate) unsafe fn weigh<I: Isa>(
    isa: I,
    rows: *mut f32,
    stride: usize,
    limit: usize,
    keys: &[usize],
    sums: &mut [f32],
) -> bool {
    debug_assert!(keys.len() == sums.len() && (1..=MAX_ROWS).contains(&keys.len()), "{} rows", keys.len());
    match (limit.div_ceil(I::LANES), I::REGISTERS < 32) {
        (1, _) => isa.vectorize(Weigh::<1, 4> { rows, stride, keys, sums }),
        // Eight registers in step, if they need no masks beside.
        (2, false) if keys[0] == 2 * I::LANES => isa.vectorize(Weigh::<2, 8> { rows, stride, keys, sums }),
        (2, _) => isa.vectorize(Weigh::<2, 4> { rows, stride, keys, sums }),
        (3, false) => isa.vectorize(Weigh::<3, 3> { rows, stride, keys, sums }),
        (4, false) => isa.vectorize(Weigh::<4, 8> { rows, stride, keys, sums }),
        _ => return false,
    }
    true
}

/// [`weigh`] of rows of `N` registers, as whoever makes one promises, the exponentials of `EXPS` registers in step.
struct Weigh<'w, const N: usize, const EXPS: usize> {
    rows: *mut f32,
    stride: usize,
    keys: &'w [usize],
    sums: &'w mut [f32],
}

impl<const N: usize, const EXPS: usize> Weigh<'_, N, EXPS> {
    /// Row `r`; the last one stands in for those that are missing.
    #[inline(always)]
    fn row(&self, r: usize) -> *mut f32 {
        self.rows.wrapping_add(r.min(self.keys.len() - 1) * self.stride)
    }

    /// Register `j` of row `r`, where `masked` with minus infinity for keys that the row does not see.
    #[inline(always)]
    fn scores<I: Isa>(&self, isa: I, r: usize, j: usize, masked: bool) -> I::F32 {
        // SAFETY: whoever made this promised `N` registers in each row.
        let x = unsafe { isa.load(self.row(r).add(j * I::LANES)) };
        if !masked {
            return x;
        }
        let keys = self.keys[r.min(self.keys.len() - 1)];
        let seen = isa.tail_mask(isa.tail(keys.saturating_sub(j * I::LANES)));
        isa.select(seen, x, isa.splat(f32::NEG_INFINITY))
    }

    /// What the scores of some rows are above their largest.
    #[inline(always)]
    fn differences<I: Isa>(&self, isa: I, first: usize, maxima: &[I::F32; MAX_ROWS], masked: bool) -> [I::F32; EXPS] {
        let mut x = [isa.splat(0.0); EXPS];
        for (i, x) in x.iter_mut().enumerate() {
            let r = first + i / N;
            *x = isa.sub(self.scores(isa, r, i % N, masked), maxima[r]);
        }
        x
    }
}

impl<const N: usize, const EXPS: usize> Kernel for Weigh<'_, N, EXPS> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        const { assert!(EXPS.is_multiple_of(N) && MAX_ROWS.is_multiple_of(EXPS / N), "whole rows") };
        const { assert!(N * I::LANES <= SUM_LANES, "a lane of a sum has one element at most") };
        let rows = self.keys.len();
        let masked = self.keys[0] < N * I::LANES;

        let mut maxima = [isa.splat(LOWEST); MAX_ROWS];
        let mut depth = isa.splat(0.0);
        for first in (0..rows).step_by(ROWS) {
            let (mut max, mut min) = ([isa.splat(LOWEST); ROWS], [isa.splat(f32::INFINITY); ROWS]);
            for (r, (max, min)) in max.iter_mut().zip(&mut min).enumerate() {
                for j in 0..N {
                    let x = self.scores(isa, first + r, j, masked);
                    // NaN is passed over.
                    (*max, *min) = (isa.max(x, *max), isa.min(x, *min));
                }
            }
            let max = isa.spread_max_each(max);
            for (max, min) in max.into_iter().zip(min) {
                depth = isa.max(isa.sub(max, min), depth);
            }
            maxima[first..first + ROWS].copy_from_slice(&max);
        }
        // Whether no score is more than 87 below its row's largest.
        let near = isa.mask_bits(isa.le(depth, isa.splat(87.0))) == u32::MAX >> (32 - I::LANES);

        let mut lanes = [isa.splat(0.0); MAX_ROWS];
        for first in (0..rows).step_by(EXPS / N) {
            let x = self.differences(isa, first, &maxima, masked);
            let mut p = math::exp_near_each(isa, x);
            if !near {
                // What is hidden becomes zero.
                p = math::exp_cut_each(isa, x, p);
            }
            for (r, p) in (first..).zip(p.chunks_exact(N)) {
                let mut sums = [isa.splat(0.0); N];
                for (j, (sum, &p)) in sums.iter_mut().zip(p).enumerate() {
                    *sum = p;
                    // SAFETY: whoever made this promised `N` registers in each row.
                    unsafe { isa.store(self.row(r).add(j * I::LANES), p) };
                }
                // The halving tree over all lanes, without those that nothing was added to.
                let mut half = SUM_LANES / I::LANES / 2;
                while half > 0 {
                    for j in half..N.min(2 * half) {
                        sums[j - half] = isa.add(sums[j - half], sums[j]);
                    }
                    half /= 2;
                }
                lanes[r] = sums[0];
            }
        }

        for (first, sums) in (0..).step_by(ROWS).zip(self.sums.chunks_mut(ROWS)) {
            let all = isa.reduce_add_each(array::from_fn(|r| lanes[first + r]));
            sums.copy_from_slice(&all[..sums.len()]);
        }
    }
}
