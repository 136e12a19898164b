//! The softmax of rows of few keys: the rows of a block in step.
//!
//! A short row is a chain of dependent operations that nothing else in the row overlaps. Here other rows do: the maxima
//! of all rows come first, of four at a time, then exponentials, several registers in step, and sums of four rows. Whether
//! exponents are near is asked once for all of them: the answer is what everything behind it waits for.

use crate::block::MAX_ROWS;
use crate::plan::WAVE;
use crate::softmax::{LOWEST, are_near};
use gristmill_simd::math;
use gristmill_simd::sums::SUM_LANES;
use gristmill_simd::{Isa, Kernel};

/// Rows whose maxima, and sums, are reduced together.
const ROWS: usize = 4;

/// The most rows: those of a wave.
const MOST: usize = WAVE * MAX_ROWS;

/// Whether rows of `limit` keys are short.
#[inline(always)]
pub(crate) fn takes<I: Isa>(limit: usize) -> bool {
    (1..=if I::REGISTERS < 32 { 2 } else { 4 }).contains(&limit.div_ceil(I::LANES))
}

/// Replaces the first `keys[r]` scores of row `r` by `exp(score - max)` and the rest of the row, up to whole registers
/// for `limit` keys, by zeros. `sums` receives the sum of each row in the order of [`gristmill_simd::sums`]: a zero
/// stands for a row that is all zeros.
///
/// # Safety
/// There are as many rows, `stride` apart, as `keys` and `sums` have elements, at least one, each of whole registers for
/// `limit` keys; no row has more keys than that, or fewer than the first row.
///
/// # Panics
/// Unless it [`takes`] rows of `limit` keys, and there are no more rows than a wave has.
#[inline(always)]
pub(crate) unsafe fn weigh<I: Isa>(
    isa: I,
    rows: *mut f32,
    stride: usize,
    limit: usize,
    keys: &[usize],
    sums: &mut [f32],
) {
    debug_assert!(!keys.is_empty() && keys.len() == sums.len(), "{} rows", keys.len());
    match (limit.div_ceil(I::LANES), I::REGISTERS < 32) {
        (1, _) => crate::apart(isa, &mut Weigh::<1, 4> { rows, stride, keys, sums }),
        // Eight registers in step, if they need no masks beside.
        (2, false) if keys[0] == 2 * I::LANES => crate::apart(isa, &mut Weigh::<2, 8> { rows, stride, keys, sums }),
        (2, _) => crate::apart(isa, &mut Weigh::<2, 4> { rows, stride, keys, sums }),
        (3, false) => crate::apart(isa, &mut Weigh::<3, 3> { rows, stride, keys, sums }),
        (4, false) => crate::apart(isa, &mut Weigh::<4, 8> { rows, stride, keys, sums }),
        _ => unreachable!("rows of {limit} keys are not short"),
    }
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

    /// The largest score of each row, and whether no score of any is more than 87 below the largest of all.
    #[inline(always)]
    fn maxima<I: Isa>(&self, isa: I, masked: bool) -> ([f32; MOST], bool) {
        let mut maxima = [LOWEST; MOST];
        let (mut largest, mut smallest) = (isa.splat(LOWEST), [isa.splat(f32::INFINITY); ROWS]);
        for (first, maxima) in (0..self.keys.len()).step_by(ROWS).zip(maxima.chunks_exact_mut(ROWS)) {
            let mut max = [isa.splat(LOWEST); ROWS];
            for (r, (max, min)) in max.iter_mut().zip(&mut smallest).enumerate() {
                for j in 0..N {
                    let x = self.scores(isa, first + r, j, masked);
                    // NaN is passed over.
                    (*max, *min) = (isa.max(x, *max), isa.min(x, *min));
                }
                largest = isa.max(*max, largest);
            }
            maxima.copy_from_slice(&isa.reduce_max_each(max));
        }
        let [a, b, c, d] = smallest;
        let least = isa.min(isa.min(a, b), isa.min(c, d));
        (maxima, are_near(isa, isa.sub(least, isa.splat(isa.reduce_max(largest)))))
    }

    /// Stores the exponentials of the rows from `first` on, as many as are computed in step, and leaves lanes of their sums.
    #[inline(always)]
    fn exponentials<I: Isa, const NEAR: bool>(
        &self,
        isa: I,
        first: usize,
        maxima: &[f32],
        masked: bool,
        lanes: &mut [I::F32],
    ) {
        let mut x = [isa.splat(0.0); EXPS];
        for (i, x) in x.iter_mut().enumerate() {
            let r = i / N;
            *x = isa.sub(self.scores(isa, first + r, i % N, masked), isa.splat(maxima[r]));
        }
        // What is hidden becomes zero, and is not near.
        let p = if NEAR { math::exp_near_each(isa, x) } else { math::exp_nonpositive_each(isa, x) };
        for (r, (lanes, p)) in lanes.iter_mut().zip(p.chunks_exact(N)).enumerate() {
            let mut sums = [isa.splat(0.0); N];
            for (j, (sum, &p)) in sums.iter_mut().zip(p).enumerate() {
                *sum = p;
                // SAFETY: whoever made this promised `N` registers in each row.
                unsafe { isa.store(self.row(first + r).add(j * I::LANES), p) };
            }
            // The halving tree over all lanes, without those that nothing was added to.
            let mut half = SUM_LANES / I::LANES / 2;
            while half > 0 {
                for j in half..N.min(2 * half) {
                    sums[j - half] = isa.add(sums[j - half], sums[j]);
                }
                half /= 2;
            }
            *lanes = sums[0];
        }
    }

    /// Replaces the scores by exponentials, and sums them.
    #[inline(always)]
    fn exp_and_sum<I: Isa, const NEAR: bool>(&mut self, isa: I, maxima: &[f32; MOST], masked: bool) {
        let rows = self.keys.len();
        for first in (0..rows).step_by(ROWS) {
            let mut lanes = [isa.splat(0.0); ROWS];
            for (begin, lanes) in (first..).step_by(EXPS / N).zip(lanes.chunks_exact_mut(EXPS / N)) {
                // No others stand in for a row that is done.
                if begin < rows {
                    self.exponentials::<I, NEAR>(isa, begin, &maxima[begin..][..EXPS / N], masked, lanes);
                }
            }
            let (all, sums) = (isa.reduce_add_each(lanes), &mut self.sums[first..]);
            match sums.first_chunk_mut() {
                Some(sums) => *sums = all,
                None => sums.iter_mut().zip(all).for_each(|(sum, all)| *sum = all),
            }
        }
    }
}

impl<const N: usize, const EXPS: usize> Kernel for &mut Weigh<'_, N, EXPS> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        const { assert!(EXPS.is_multiple_of(N) && ROWS.is_multiple_of(EXPS / N), "whole rows") };
        const { assert!(N * I::LANES <= SUM_LANES, "a lane of a sum has one element at most") };
        let masked = self.keys[0] < N * I::LANES;
        let (maxima, near) = self.maxima(isa, masked);
        if near {
            self.exp_and_sum::<I, true>(isa, &maxima, masked);
        } else {
            self.exp_and_sum::<I, false>(isa, &maxima, masked);
        }
    }
}
