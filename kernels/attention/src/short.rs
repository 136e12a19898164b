//! The softmax of rows of few keys: the rows of a block in step.
//!
//! A short row is a chain of dependent operations that nothing else in the row overlaps. Here other rows do: the maxima
//! of four rows are taken, and the sums of other four, while the exponentials of those between them are computed, several
//! registers in step.

use crate::softmax::{LOWEST, near};
use gristmill_simd::math;
use gristmill_simd::sums::SUM_LANES;
use gristmill_simd::{Isa, Kernel};

/// Rows whose maxima, and sums, are reduced together.
const ROWS: usize = 4;

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
/// Unless it [`takes`] rows of `limit` keys.
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

/// Rows that go together.
struct Four<V> {
    /// Where each of them lies; the last one stands in for those that are missing.
    at: [*mut f32; ROWS],
    /// How many keys each of them sees.
    keys: [usize; ROWS],
    /// Their largest scores, in all lanes.
    maxima: [V; ROWS],
    /// Whether no score is more than 87 below its row's largest.
    near: bool,
}

impl<const N: usize, const EXPS: usize> Weigh<'_, N, EXPS> {
    /// Rows `first .. first + 4`.
    #[inline(always)]
    fn four<I: Isa>(&self, isa: I, first: usize, masked: bool) -> Four<I::F32> {
        let (mut at, mut keys) = ([self.rows; ROWS], [0; ROWS]);
        for (r, (at, keys)) in at.iter_mut().zip(&mut keys).enumerate() {
            let r = (first + r).min(self.keys.len() - 1);
            *at = self.rows.wrapping_add(r * self.stride);
            if masked {
                *keys = self.keys[r];
            }
        }
        let mut four = Four { at, keys, maxima: [isa.splat(LOWEST); ROWS], near: false };
        let mut min = [isa.splat(f32::INFINITY); ROWS];
        for (r, min) in min.iter_mut().enumerate() {
            for j in 0..N {
                let x = Self::scores(isa, &four, r, j, masked);
                // NaN is passed over.
                (four.maxima[r], *min) = (isa.max(x, four.maxima[r]), isa.min(x, *min));
            }
        }
        four.maxima = isa.spread_max_each(four.maxima);
        four.near = near(isa, four.maxima, min);
        four
    }

    /// Register `j` of row `r`, where `masked` with minus infinity for keys that the row does not see.
    #[inline(always)]
    fn scores<I: Isa>(isa: I, four: &Four<I::F32>, r: usize, j: usize, masked: bool) -> I::F32 {
        // SAFETY: whoever made this promised `N` registers in each row.
        let x = unsafe { isa.load(four.at[r].add(j * I::LANES)) };
        if !masked {
            return x;
        }
        let seen = isa.tail_mask(isa.tail(four.keys[r].saturating_sub(j * I::LANES)));
        isa.select(seen, x, isa.splat(f32::NEG_INFINITY))
    }

    /// Stores the exponentials of the rows from `begin` on, as many as are computed in step, and leaves lanes of their sums.
    #[inline(always)]
    fn exponentials<I: Isa, const NEAR: bool>(
        isa: I,
        four: &Four<I::F32>,
        begin: usize,
        masked: bool,
        lanes: &mut [I::F32],
    ) {
        let mut x = [isa.splat(0.0); EXPS];
        for (i, x) in x.iter_mut().enumerate() {
            let r = begin + i / N;
            *x = isa.sub(Self::scores(isa, four, r, i % N, masked), four.maxima[r]);
        }
        // What is hidden becomes zero, and is not near.
        let p = if NEAR { math::exp_near_each(isa, x) } else { math::exp_nonpositive_each(isa, x) };
        for ((at, lanes), p) in four.at[begin..].iter().zip(lanes).zip(p.chunks_exact(N)) {
            let mut sums = [isa.splat(0.0); N];
            for (j, (sum, &p)) in sums.iter_mut().zip(p).enumerate() {
                *sum = p;
                // SAFETY: whoever made this promised `N` registers in each row.
                unsafe { isa.store(at.add(j * I::LANES), p) };
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

    /// Reduces the lanes of the sums of rows `first .. first + 4`, as many as there are.
    #[inline(always)]
    fn put_sums<I: Isa>(&mut self, isa: I, first: usize, lanes: [I::F32; ROWS]) {
        let (all, sums) = (isa.reduce_add_each(lanes), &mut self.sums[first..]);
        match sums.first_chunk_mut() {
            Some(sums) => *sums = all,
            None => sums.iter_mut().zip(all).for_each(|(sum, all)| *sum = all),
        }
    }
}

impl<const N: usize, const EXPS: usize> Kernel for &mut Weigh<'_, N, EXPS> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        const { assert!(EXPS.is_multiple_of(N) && ROWS.is_multiple_of(EXPS / N), "whole rows") };
        const { assert!(N * I::LANES <= SUM_LANES, "a lane of a sum has one element at most") };
        let rows = self.keys.len();
        let masked = self.keys[0] < N * I::LANES;
        let (mut next, mut lanes) = (self.four(isa, 0, masked), [isa.splat(0.0); ROWS]);
        for first in (0..rows).step_by(ROWS) {
            let four = next;
            next = self.four(isa, first + ROWS, masked);
            if first > 0 {
                self.put_sums(isa, first - ROWS, lanes);
            }
            for (begin, lanes) in (0..ROWS).step_by(EXPS / N).zip(lanes.chunks_exact_mut(EXPS / N)) {
                // No others stand in for a row that is done.
                if first + begin < rows {
                    match four.near {
                        true => Weigh::<N, EXPS>::exponentials::<I, true>(isa, &four, begin, masked, lanes),
                        false => Weigh::<N, EXPS>::exponentials::<I, false>(isa, &four, begin, masked, lanes),
                    }
                }
            }
        }
        self.put_sums(isa, (rows - 1) / ROWS * ROWS, lanes);
    }
}
