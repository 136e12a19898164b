//! The softmax of rows of few keys: several rows in step, and from scores to weights in registers.
//!
//! A short row is a chain of dependent operations that nothing else in the row overlaps. Here other rows do.

use gristmill_simd::sums::SUM_LANES;
use gristmill_simd::{Isa, math};

/// Replaces the first `keys[r]` scores of row `r` by `exp(score - max)` and the rest of the row, up to whole registers
/// for `limit` keys, by zeros. `sums` receives the sum of each row in the order of [`gristmill_simd::sums`]. Returns the
/// number of rows done: all of them, or those before a row that is not short or has no largest score.
///
/// # Safety
/// There are as many rows, `stride` apart, as `keys` and `sums` have elements, each of whole registers for `limit`
/// keys; no row has more keys than that.
#[inline(always)]
pub(crate) unsafe fn weigh<I: Isa>(
    isa: I,
    rows: *mut f32,
    stride: usize,
    limit: usize,
    keys: &[usize],
    sums: &mut [f32],
) -> usize {
    // SAFETY: the caller's promise.
    unsafe {
        match (limit.div_ceil(I::LANES), I::REGISTERS < 32) {
            (1, _) => steps::<I, 4, 1, 4>(isa, rows, stride, keys, sums),
            (2, false) => steps::<I, 4, 2, 8>(isa, rows, stride, keys, sums),
            (2, true) => steps::<I, 2, 2, 4>(isa, rows, stride, keys, sums),
            (3 | 4, false) => steps::<I, 2, 4, 8>(isa, rows, stride, keys, sums),
            _ => 0,
        }
    }
}

/// [`weigh`] of rows of `N` registers, `ROWS` in step, which makes `ALL` registers.
///
/// # Safety
/// As there, for `N` registers.
#[inline(always)]
unsafe fn steps<I: Isa, const ROWS: usize, const N: usize, const ALL: usize>(
    isa: I,
    rows: *mut f32,
    stride: usize,
    keys: &[usize],
    sums: &mut [f32],
) -> usize {
    let mut done = 0;
    for (keys, sums) in keys.chunks_exact(ROWS).zip(sums.chunks_exact_mut(ROWS)) {
        // SAFETY: the caller's promise.
        if !unsafe { step::<I, ROWS, N, ALL>(isa, rows.add(done * stride), stride, keys, sums) } {
            return done;
        }
        done += ROWS;
    }
    done
}

/// [`weigh`] of `ROWS` rows of `N` registers, unless one of them has no largest score: then nothing changes.
///
/// # Safety
/// As there, for `ROWS` rows and `N` registers.
#[inline(always)]
unsafe fn step<I: Isa, const ROWS: usize, const N: usize, const ALL: usize>(
    isa: I,
    rows: *mut f32,
    stride: usize,
    keys: &[usize],
    sums: &mut [f32],
) -> bool {
    const { assert!(ALL == ROWS * N && N * I::LANES <= SUM_LANES, "a lane of a sum has one element at most") };
    let hidden = isa.splat(f32::NEG_INFINITY);
    let mut x = [hidden; ALL];
    let mut maxima = [0.0; ROWS];
    for (r, row) in x.chunks_exact_mut(N).enumerate() {
        for (j, x) in row.iter_mut().enumerate() {
            let seen = isa.tail_mask(isa.tail(keys[r].saturating_sub(j * I::LANES)));
            // SAFETY: the caller's promise.
            *x = isa.select(seen, unsafe { isa.load(rows.add(r * stride + j * I::LANES)) }, hidden);
        }
        // NaN is passed over.
        maxima[r] = isa.reduce_max(row.iter().fold(hidden, |max, &x| isa.max(x, max)));
    }
    if maxima.contains(&f32::NEG_INFINITY) {
        return false;
    }
    for (row, max) in x.chunks_exact_mut(N).zip(maxima) {
        row.iter_mut().for_each(|x| *x = isa.sub(*x, isa.splat(max)));
    }
    // What is hidden becomes zero.
    let p = math::exp_nonpositive_each(isa, x);
    for (r, (row, sum)) in p.chunks_exact(N).zip(sums).enumerate() {
        let mut lanes = [hidden; N];
        for (j, &p) in row.iter().enumerate() {
            lanes[j] = p;
            // SAFETY: the caller's promise.
            unsafe { isa.store(rows.add(r * stride + j * I::LANES), p) };
        }
        // The halving tree over all lanes, without those that nothing was added to.
        let mut half = SUM_LANES / I::LANES / 2;
        while half > 0 {
            for j in half..N.min(2 * half) {
                lanes[j - half] = isa.add(lanes[j - half], lanes[j]);
            }
            half /= 2;
        }
        *sum = isa.reduce_add(lanes[0]);
    }
    true
}
