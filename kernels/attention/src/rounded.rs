//! The softmax of rows whose weights are rounded to bf16, as products of pairs want them.

use crate::block::MAX_ROWS;
use crate::pairs::swap_pairs;
use crate::softmax::LOWEST;
use gristmill_gemm::Chain;
use gristmill_simd::sums::{SUM_LANES, halve, sum_registers};
use gristmill_simd::{Element, Isa, Kernel, bf16, math};
use std::array;

/// Rows of scores that become weights of bf16.
pub(crate) struct Rounded<'r> {
    rows: *mut f32,
    stride: usize,
    limit: usize,
    keys: &'r [usize],
    sums: &'r mut [f32],
    scale: f32,
    chain: Chain,
}

impl<'r> Rounded<'r> {
    /// Replaces the first `keys[r]` scores of row `r`, times `scale`, by `exp(score - max)` rounded to bf16, and the rest of
    /// the row, to the end of the pair of the last one of `limit` keys, by zeros: in the form that `chain` reads. `sums`
    /// receives the sums of the rounded weights: a zero stands for a row that is all zeros. `scale` is finite and positive.
    ///
    /// # Safety
    /// There are as many rows, `stride` apart, as `keys` and `sums` have elements, from 1 to [`MAX_ROWS`], for nobody else to
    /// use meanwhile, each of whole blocks of [`SUM_LANES`] for `limit` keys; no row has more keys than that (R1).
    #[inline(always)]
    pub(crate) unsafe fn new(
        (rows, stride, limit): (*mut f32, usize, usize),
        keys: &'r [usize],
        sums: &'r mut [f32],
        scale: f32,
        chain: Chain,
    ) -> Self {
        Self { rows, stride, limit, keys, sums, scale, chain }
    }
}

impl Kernel for Rounded<'_> {
    type Output = ();

    // For the conversion, which comes with the dot product.
    const DOT: bool = true;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        if self.chain == Chain::Dot {
            self.weigh::<I, true>(isa);
        } else {
            self.weigh::<I, false>(isa);
        }
    }
}

impl Rounded<'_> {
    #[inline(always)]
    fn weigh<I: Isa, const NARROW: bool>(self, isa: I) {
        let count = self.keys.len();
        let mut lanes = [isa.splat(0.0); MAX_ROWS];
        for first in (0..count).step_by(4) {
            let rows = first..count.min(first + 4);
            let mut maxima = [isa.splat(LOWEST); 4];
            for r in rows.clone() {
                maxima[r - first] = self.max(isa, r);
            }
            let maxima = isa.reduce_max_each(maxima);
            for r in rows {
                // The largest score, since the scale is positive: above minus infinity again.
                let max = isa.mul(isa.splat(maxima[r - first]), isa.splat(self.scale));
                let max = isa.max(max, isa.splat(LOWEST));
                lanes[r] = self.exponentials::<I, NARROW>(isa, r, max);
            }
        }
        for (first, sums) in (0..).step_by(4).zip(self.sums.chunks_mut(4)) {
            let all = isa.reduce_add_each(array::from_fn(|r| lanes[first + r]));
            sums.copy_from_slice(&all[..sums.len()]);
        }
        if self.chain == Chain::OddFirst {
            for r in 0..count {
                // SAFETY: R1.
                swap_pairs(unsafe { std::slice::from_raw_parts_mut(self.row(r), self.limit.next_multiple_of(2)) });
            }
        }
    }

    #[inline(always)]
    fn row(&self, r: usize) -> *mut f32 {
        self.rows.wrapping_add(r * self.stride)
    }

    /// Lanes of which the largest is the largest value of row `r` that is not NaN, [`LOWEST`] if there is none.
    #[inline(always)]
    fn max<I: Isa>(&self, isa: I, r: usize) -> I::F32 {
        let (row, keys) = (self.row(r).cast_const(), self.keys[r]);
        let mut max = [isa.splat(LOWEST); 4];
        let whole = keys / I::LANES;
        // SAFETY: R1.
        unsafe {
            for j in (0..whole / 4 * 4).step_by(4) {
                for (u, max) in max.iter_mut().enumerate() {
                    *max = isa.max(isa.load(row.add((j + u) * I::LANES)), *max);
                }
            }
            for j in whole / 4 * 4..whole {
                max[0] = isa.max(isa.load(row.add(j * I::LANES)), max[0]);
            }
            if whole * I::LANES < keys {
                let seen = isa.tail_mask(isa.tail(keys - whole * I::LANES));
                let x = isa.select(seen, isa.load(row.add(whole * I::LANES)), isa.splat(LOWEST));
                max[1] = isa.max(x, max[1]);
            }
        }
        isa.max(isa.max(max[0], max[1]), isa.max(max[2], max[3]))
    }

    /// The weights of row `r`; lanes whose sum by halving is their sum.
    #[inline(always)]
    fn exponentials<I: Isa, const NARROW: bool>(&self, isa: I, r: usize, max: I::F32) -> I::F32 {
        let (keys, registers) = (self.keys[r], self.limit.div_ceil(I::LANES));
        let per = const { sum_registers::<I>() };
        let whole = keys / SUM_LANES * per;
        // A lane for each pair of keys of a block.
        let mut lanes = isa.splat_lanes64(0.0);
        let sums = &mut lanes.as_mut()[..per / 2];
        let mut done = 0;
        // As many registers in step as there is room for.
        if I::REGISTERS < 32 {
            while done < whole {
                for (j, sum) in sums.iter_mut().enumerate() {
                    self.step::<I, NARROW, false, 2, 1>(isa, r, done + 2 * j, std::slice::from_mut(sum), max);
                }
                done += per;
            }
        } else {
            while done < whole {
                self.step::<I, NARROW, false, 4, 2>(isa, r, done, sums, max);
                done += 4;
            }
        }
        let rest = (keys - done * I::LANES).div_ceil(I::LANES);
        if I::REGISTERS < 32 || rest < 3 {
            for (j, sum) in sums.iter_mut().enumerate().take(rest.div_ceil(2)) {
                self.step::<I, NARROW, true, 2, 1>(isa, r, done + 2 * j, std::slice::from_mut(sum), max);
            }
            done += rest.next_multiple_of(2);
        } else {
            self.step::<I, NARROW, true, 4, 2>(isa, r, done, sums, max);
            done += 4;
        }
        while done < registers {
            // SAFETY: R1.
            unsafe { self.put::<I, NARROW>(isa, r, done, [isa.splat(0.0); 2]) };
            done += 2;
        }
        halve(isa, sums)
    }

    /// `N` registers, `HALF` times two, in step, from register `j` on: the `LAST` ones, or all of visible keys.
    #[inline(always)]
    fn step<I: Isa, const NARROW: bool, const LAST: bool, const N: usize, const HALF: usize>(
        &self,
        isa: I,
        r: usize,
        j: usize,
        sums: &mut [I::F32],
        max: I::F32,
    ) {
        let scale = isa.splat(self.scale);
        let mut x = [max; N];
        for (u, x) in x.iter_mut().enumerate() {
            // SAFETY: R1.
            *x = isa.sub(isa.mul(unsafe { isa.load(self.row(r).add((j + u) * I::LANES)) }, scale), *x);
            if LAST {
                let seen = isa.tail_mask(isa.tail(self.keys[r].saturating_sub((j + u) * I::LANES)));
                *x = isa.select(seen, *x, isa.splat(f32::NEG_INFINITY));
            }
        }
        let p = math::exp_coarse_each(isa, x);
        for (h, sum) in sums.iter_mut().enumerate().take(HALF) {
            // SAFETY: R1; these scores have been read.
            let pairs = unsafe { self.put::<I, NARROW>(isa, r, j + 2 * h, [p[2 * h], p[2 * h + 1]]) };
            *sum = if I::DOT {
                // Times one.
                isa.dot_bf16(*sum, pairs, isa.splat_i32(0x3f80_3f80))
            } else {
                let [even, odd] = bf16::split(isa, isa.from_bits(pairs));
                isa.add(isa.add(*sum, odd), even)
            };
        }
    }

    /// Writes the weights of registers `j` and `j + 1`, and returns them rounded, in pairs. As bf16 they never reach scores
    /// that are still to be read.
    ///
    /// # Safety
    /// The row has the registers, and their scores have been read.
    #[inline(always)]
    unsafe fn put<I: Isa, const NARROW: bool>(&self, isa: I, r: usize, j: usize, p: [I::F32; 2]) -> I::I32 {
        // SAFETY: the caller's promise; a register has at most 16 lanes.
        unsafe {
            if NARROW {
                return isa.store_bf16_pairs(self.row(r).cast::<bf16>().add(j * I::LANES), p);
            }
            let mut narrow = [bf16::ZERO; 32];
            let pairs = isa.store_bf16_pairs(narrow.as_mut_ptr(), p);
            for (u, from) in narrow.chunks_exact(I::LANES).enumerate().take(2) {
                isa.store(self.row(r).add((j + u) * I::LANES), bf16::load(isa, from.as_ptr()));
            }
            pairs
        }
    }
}
