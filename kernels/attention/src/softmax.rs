//! Rows of scores in place: their maxima, then their exponentials and their sums.
//!
//! A row leaves one register of lanes. Finishing it takes a chain of shuffles that nothing overlaps; so the registers of
//! all rows of a block are turned over, and one tree of operations finishes all of them.

use crate::mask::Edit;
use gristmill_simd::sums::{SUM_LANES, sum_registers};
use gristmill_simd::{Isa, math, slices};

/// Lanes, or rows, at most.
const SIDE: usize = 16;

/// A register of lanes for each of up to [`LANES`](Isa::LANES) rows.
#[repr(align(64))]
pub(crate) struct RowLanes([f32; SIDE * SIDE]);

impl RowLanes {
    pub(crate) fn new() -> Self {
        Self([0.0; SIDE * SIDE])
    }

    /// Sets the lanes of a row.
    #[inline(always)]
    pub(crate) fn set<I: Isa>(&mut self, isa: I, row: usize, lanes: I::F32) {
        // SAFETY: the slice holds a register.
        unsafe { isa.store(self.0[row * I::LANES..][..I::LANES].as_mut_ptr(), lanes) };
    }

    /// The largest lane of each of the first rows.
    #[inline(always)]
    pub(crate) fn maxima<I: Isa>(&self, isa: I, rows: usize) -> [f32; SIDE] {
        self.reduce::<I, true>(isa, rows)
    }

    /// The sum of the lanes of each of the first rows, by halving: lane l plus lane l + LANES / 2, and so on.
    #[inline(always)]
    pub(crate) fn sums<I: Isa>(&self, isa: I, rows: usize) -> [f32; SIDE] {
        self.reduce::<I, false>(isa, rows)
    }

    #[inline(always)]
    fn reduce<I: Isa, const MAX: bool>(&self, isa: I, rows: usize) -> [f32; SIDE] {
        debug_assert!(rows <= I::LANES && I::LANES <= SIDE);
        let mut results = [0.0; SIDE];
        let mut turned = Self::new();
        // SAFETY: both arrays hold LANES registers.
        unsafe {
            if rows < 4 {
                for (r, result) in results.iter_mut().enumerate().take(rows) {
                    let lanes = isa.load(self.0.as_ptr().add(r * I::LANES));
                    *result = if MAX { isa.reduce_max(lanes) } else { isa.reduce_add(lanes) };
                }
                return results;
            }
            isa.transpose(self.0.as_ptr(), I::LANES as isize, turned.0.as_mut_ptr(), I::LANES);
            let mut lanes = [isa.splat(0.0); SIDE];
            for (l, lane) in lanes.iter_mut().enumerate().take(I::LANES) {
                *lane = isa.load(turned.0.as_ptr().add(l * I::LANES));
            }
            let mut half = I::LANES / 2;
            while half > 0 {
                for l in 0..half {
                    let (a, b) = (lanes[l], lanes[l + half]);
                    lanes[l] = if MAX { isa.max(a, b) } else { isa.add(a, b) };
                }
                half /= 2;
            }
            isa.store(results.as_mut_ptr(), lanes[0]);
        }
        results
    }
}

/// Replaces `row` by its edited scores, minus infinity where the edit hides a key, and returns lanes of which the
/// largest is the largest score that is not NaN, minus infinity if there is none. No lane is NaN.
#[inline(always)]
pub(crate) fn edit_and_max<I: Isa>(isa: I, row: &mut [f32], edit: &Edit) -> I::F32 {
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
    max
}

/// As [`edit_and_max`], of scores that stay as they are.
#[inline(always)]
pub(crate) fn max<I: Isa>(isa: I, row: &[f32]) -> I::F32 {
    let lanes = slices::fold(isa, row, f32::NEG_INFINITY, |max, x| isa.max(x, max));
    let (first, others) = (lanes.as_ref()[0], &lanes.as_ref()[1..]);
    others.iter().fold(first, |max, &x| isa.max(x, max))
}

/// Replaces the first `n` values `x` of `row` by `exp(x - max)`, the others by zeros, and returns lanes whose sum by
/// halving is their sum in the order of [`gristmill_simd::sums`]. Zeros stand for a row that is all zeros.
#[inline(always)]
pub(crate) fn exp_and_sum<I: Isa>(isa: I, row: &mut [f32], n: usize, max: f32) -> I::F32 {
    let (scores, beyond) = row.split_at_mut(n);
    if !beyond.is_empty() {
        beyond.fill(0.0);
    }
    if max == f32::NEG_INFINITY {
        // All scores are minus infinity or, which alone makes a sum, NaN.
        let nan = scores.iter().any(|x| x.is_nan());
        scores.fill(0.0);
        return isa.splat(if nan { f32::NAN } else { 0.0 });
    }
    let max = isa.splat(max);
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
    let rest = blocks.into_remainder();
    let (whole, tail) = rest.split_at_mut(rest.len() / I::LANES * I::LANES);
    let whole_registers = whole.len() / I::LANES;
    let pairs = whole_registers / 2 * 2;
    let (paired, single) = whole.split_at_mut(pairs * I::LANES);
    exp_and_sum_registers::<I, 2>(isa, paired, sums, max);
    exp_and_sum_registers::<I, 1>(isa, single, &mut sums[pairs..], max);
    if !tail.is_empty() {
        let (lanes, sum) = (isa.tail(tail.len()), &mut sums[whole_registers]);
        // SAFETY: there are as many lanes as values.
        unsafe {
            let p = math::exp_nonpositive(isa, isa.sub(isa.load_tail(tail.as_ptr(), lanes), max));
            isa.store_tail(tail.as_mut_ptr(), p, lanes);
            // Adding +0 to a lane changes nothing.
            *sum = isa.add(*sum, isa.select(isa.tail_mask(lanes), p, isa.splat(0.0)));
        }
    }
    let mut half = sum_registers::<I>() / 2;
    while half > 0 {
        for j in 0..half {
            sums[j] = isa.add(sums[j], sums[j + half]);
        }
        half /= 2;
    }
    sums[0]
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
