//! Rows of scores in place: their maxima, then their exponentials and their sums. A row leaves one register of lanes.

use crate::mask::Edit;
use gristmill_simd::Isa;
use gristmill_simd::math::{self, ExpNear};
use gristmill_simd::sums::{SUM_LANES, halve, sum_registers};

/// What the largest score of a row is at least: above minus infinity, so that scores of minus infinity, though there be
/// no others, are infinitely far below it.
pub(crate) const LOWEST: f32 = f32::MIN;

/// Values in half a block of lanes.
const HALF: usize = SUM_LANES / 2;

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

/// As [`edit_and_max`], of scores that stay as they are; and lanes of which the smallest is the smallest such score.
#[inline(always)]
pub(crate) fn extremes<I: Isa>(isa: I, row: &[f32]) -> [I::F32; 2] {
    let [mut max, mut min] = [[isa.splat(LOWEST); 4], [isa.splat(f32::INFINITY); 4]];
    let mut blocks = row.chunks_exact(4 * I::LANES);
    for block in &mut blocks {
        for (j, (max, min)) in max.iter_mut().zip(&mut min).enumerate() {
            // SAFETY: the block has four registers.
            let x = unsafe { isa.load(block.as_ptr().add(j * I::LANES)) };
            (*max, *min) = (isa.max(x, *max), isa.min(x, *min));
        }
    }
    for (scores, (max, min)) in blocks.remainder().chunks(I::LANES).zip(max.iter_mut().zip(&mut min)) {
        let tail = isa.tail(scores.len());
        // SAFETY: the tail has as many lanes as there are scores.
        let (x, seen) = (unsafe { isa.load_tail(scores.as_ptr(), tail) }, isa.tail_mask(tail));
        *max = isa.select(seen, isa.max(x, *max), *max);
        *min = isa.select(seen, isa.min(x, *min), *min);
    }
    [
        isa.max(isa.max(max[0], max[1]), isa.max(max[2], max[3])),
        isa.min(isa.min(min[0], min[1]), isa.min(min[2], min[3])),
    ]
}

/// Whether no score of some rows is more than 87 below its row's largest. `max` has that in all lanes, `min` is of
/// [`extremes`].
#[inline(always)]
pub(crate) fn near<I: Isa, const N: usize>(isa: I, max: [I::F32; N], min: [I::F32; N]) -> bool {
    let mut least = [isa.splat(0.0); 2];
    for (i, (max, min)) in max.into_iter().zip(min).enumerate() {
        least[i % 2] = isa.min(isa.sub(min, max), least[i % 2]);
    }
    are_near(isa, isa.min(least[0], least[1]))
}

/// Whether no lane is below -87, nor NaN: the exponentials of what is nowhere below these are near ones.
#[inline(always)]
pub(crate) fn are_near<I: Isa>(isa: I, least: I::F32) -> bool {
    isa.mask_bits(isa.le(isa.splat(-87.0), least)) == u32::MAX >> (32 - I::LANES)
}

/// Rows of scores.
#[derive(Clone, Copy)]
pub(crate) struct Scores<'s, V> {
    rows: *mut f32,
    stride: usize,
    limit: usize,
    keys: &'s [usize],
    max: &'s [V],
}

impl<'s, V: Copy> Scores<'s, V> {
    /// Rows that are `stride` apart, of which row `r` has `keys[r]` and largest one, or [`LOWEST`], `max[r]` in every lane.
    ///
    /// # Safety
    /// There is at least one, and as many as `keys` and `max` have elements, for nobody else to use meanwhile; each has whole
    /// blocks of [`SUM_LANES`] for 1 and for `limit` keys, and no more keys than that (S1).
    #[inline(always)]
    pub(crate) unsafe fn new(rows: *mut f32, stride: usize, limit: usize, keys: &'s [usize], max: &'s [V]) -> Self {
        Self { rows, stride, limit, keys, max }
    }

    /// Replaces the scores by `exp(score - max)`, what follows them, up to `limit` at least, by zeros, and leaves lanes for
    /// each row whose sum by halving is its sum in the order of [`gristmill_simd::sums`]: zero for a row that is all zeros.
    /// With `NEAR` no score is more than 87 below its row's largest.
    #[inline(always)]
    pub(crate) fn exp_and_sum<I: Isa<F32 = V>, const NEAR: bool>(&self, isa: I, lanes: &mut [V]) {
        // As many registers in step as there is room for.
        match (sum_registers::<I>(), I::REGISTERS) {
            (4, 32..) => self.in_halves::<I, NEAR>(isa, lanes),
            (_, 32..) => self.in_step::<I, NEAR, 4>(isa, lanes),
            _ => self.in_step::<I, NEAR, 2>(isa, lanes),
        }
        for (r, &n) in self.keys.iter().enumerate() {
            let end = n.max(1).next_multiple_of(HALF);
            if end < self.limit {
                // SAFETY: S1.
                unsafe { std::slice::from_raw_parts_mut(self.row(r).add(end), self.limit - end).fill(0.0) };
            }
        }
    }

    #[inline(always)]
    fn row(&self, r: usize) -> *mut f32 {
        self.rows.wrapping_add(r * self.stride)
    }

    /// Where a block is four registers: the second half of its exponentials stands behind the first half of those of the
    /// next one, in the same row or in the next.
    #[inline(always)]
    fn in_halves<I: Isa<F32 = V>, const NEAR: bool>(&self, isa: I, lanes: &mut [V]) {
        let mut begun = ExpNear::begin(isa, self.differences::<I, 4>(isa, 0, 0));
        for (r, (&n, lanes)) in self.keys.iter().zip(lanes).enumerate() {
            // Half a block and less stands apart, unless there is nothing else.
            let apart = if n > SUM_LANES && n % SUM_LANES <= HALF { n % SUM_LANES } else { 0 };
            let last = (n - apart).saturating_sub(1) / SUM_LANES * SUM_LANES;
            let mut sums = [isa.splat(0.0); 4];
            for from in (0..last).step_by(SUM_LANES) {
                let (mut p, half) = begun.end_behind(isa, self.differences(isa, r, from + SUM_LANES));
                if !NEAR {
                    p = math::exp_cut_each(isa, self.differences(isa, r, from), p);
                }
                self.put(isa, r, from, p, &mut sums);
                begun = half;
            }
            // Behind the last row any will do.
            let next = (r + 1).min(self.keys.len() - 1);
            let (mut p, half) = begun.end_behind(isa, self.differences(isa, next, 0));
            if !NEAR || last + SUM_LANES > n {
                p = math::exp_cut_each(isa, self.differences(isa, r, last), p);
            }
            self.put(isa, r, last, p, &mut sums);
            begun = half;
            if apart > 0 {
                let x = self.differences::<I, 2>(isa, r, n - apart);
                self.put(isa, r, n - apart, math::exp_nonpositive_each(isa, x), &mut sums);
            }
            *lanes = halve(isa, &mut sums);
        }
    }

    /// `N` registers in step.
    #[inline(always)]
    fn in_step<I: Isa<F32 = V>, const NEAR: bool, const N: usize>(&self, isa: I, lanes: &mut [V]) {
        for (r, (&n, lanes)) in self.keys.iter().zip(lanes).enumerate() {
            let mut all = isa.splat_lanes64(0.0);
            let sums = &mut all.as_mut()[..sum_registers::<I>()];
            for block in (0..n.max(1)).step_by(SUM_LANES) {
                // The sums are indexed by constants, so that they stay in registers.
                for (from, sums) in (block..).step_by(N * I::LANES).zip(sums.chunks_exact_mut(N)) {
                    let x = self.differences::<I, N>(isa, r, from);
                    let p = match NEAR && from + N * I::LANES <= n {
                        true => math::exp_near_each(isa, x),
                        false => math::exp_nonpositive_each(isa, x),
                    };
                    self.put(isa, r, from, p, sums);
                }
            }
            *lanes = halve(isa, sums);
        }
    }

    /// `score - max` for the registers of row `r` from key `from` on, minus infinity where there is no score.
    #[inline(always)]
    fn differences<I: Isa<F32 = V>, const N: usize>(&self, isa: I, r: usize, from: usize) -> [V; N] {
        let (row, n) = (self.row(r).wrapping_add(from), self.keys[r]);
        let mut x = [self.max[r]; N];
        for (j, x) in x.iter_mut().enumerate() {
            // SAFETY: S1.
            *x = isa.sub(unsafe { isa.load(row.add(j * I::LANES)) }, *x);
        }
        if from + N * I::LANES > n {
            for (j, x) in x.iter_mut().enumerate() {
                let seen = isa.tail_mask(isa.tail(n.saturating_sub(from + j * I::LANES)));
                *x = isa.select(seen, *x, isa.splat(f32::NEG_INFINITY));
            }
        }
        x
    }

    /// Stores exponentials, and adds each register to its lanes.
    #[inline(always)]
    fn put<I: Isa<F32 = V>, const N: usize>(&self, isa: I, r: usize, from: usize, p: [V; N], sums: &mut [V]) {
        for (j, (p, sum)) in p.into_iter().zip(sums).enumerate() {
            // SAFETY: S1.
            unsafe { isa.store(self.row(r).add(from + j * I::LANES), p) };
            *sum = isa.add(*sum, p);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gristmill_simd::{Kernel, Level, Simd};

    /// Puts one value into each lane among zeros.
    struct Judge<'j>(&'j [(f32, bool)]);

    impl Kernel for Judge<'_> {
        type Output = ();

        #[inline(always)]
        fn run<I: Isa>(self, isa: I) {
            for (lane, &(value, near)) in (0..I::LANES).flat_map(|lane| self.0.iter().map(move |v| (lane, v))) {
                let mut values = [0.0; 16];
                values[lane] = value;
                // SAFETY: a register has at most 16 lanes.
                let least = unsafe { isa.load(values.as_ptr()) };
                assert_eq!(are_near(isa, least), near, "{}: {value:e} in lane {lane}", I::LEVEL);
            }
        }
    }

    #[test]
    fn exponents_are_near_down_to_the_last_that_is_not_cut() {
        let below = f32::from_bits((-87.0f32).to_bits() + 1);
        let judged = [(-1.0, true), (-87.0, true), (below, false), (f32::NEG_INFINITY, false), (f32::NAN, false)];
        for level in Level::available() {
            Simd::choose(Some(level)).unwrap().run(Judge(&judged));
        }
    }
}
