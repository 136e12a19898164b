//! The 64 lane chains of a row sum, walked register by register.

use gristmill_simd::sums::{SUM_LANES, sum_registers};
use gristmill_simd::{Dtype, Isa, TypedPtr};
use std::array;

/// The terms of `K` row sums over the same elements.
pub(crate) trait Terms<I: Isa, const K: usize>: Copy {
    /// Adds the terms of elements `i .. i + LANES`.
    ///
    /// # Safety
    /// The row has these elements.
    unsafe fn add(&self, isa: I, lanes: [I::F32; K], i: usize) -> [I::F32; K];
    /// Adds the terms of elements `i .. i + count`, for `count <= LANES`, and +0.0 beyond.
    ///
    /// # Safety
    /// The row has these elements.
    unsafe fn add_tail(&self, isa: I, lanes: [I::F32; K], i: usize, count: usize) -> [I::F32; K];
    /// The terms of the elements from `n` on.
    fn past(self, isa: I, n: usize) -> Self;
}

/// Registers whose chains run side by side: enough to hide the latency of an addition, few enough for two sums to
/// stay in the 16 registers of the lesser levels.
const GROUP: usize = 4;

/// The lanes of `K` sums over `n` elements that follow those of which `sums` are the lanes so far: whole blocks of 64.
/// With each block goes a request for one of every row `ahead`; nothing of these need exist.
///
/// # Safety
/// The row that `terms` was made for has `n` elements.
#[inline(always)]
pub(crate) unsafe fn lanes<I: Isa, const K: usize, const N: usize>(
    isa: I,
    mut sums: [I::Lanes64; K],
    n: usize,
    terms: impl Terms<I, K>,
    ahead: [TypedPtr; N],
) -> [I::Lanes64; K] {
    let whole = n - n % SUM_LANES;
    for first in (0..sum_registers::<I>()).step_by(GROUP) {
        let mut group: [[I::F32; K]; GROUP] = array::from_fn(|g| array::from_fn(|k| sums[k].as_ref()[first + g]));
        let mut i = first * I::LANES;
        let mut terms = terms.past(isa, i);
        while i < whole {
            if first == 0 {
                ahead.iter().for_each(|ahead| ask(isa, ahead.offset(i as isize), SUM_LANES));
            }
            for (g, lanes) in group.iter_mut().enumerate() {
                // SAFETY: i < whole is `first * LANES` modulo 64, and GROUP * LANES <= 64 - first * LANES: the group ends
                // within the block of i, and that at or before `whole`.
                *lanes = unsafe { terms.add(isa, *lanes, g * I::LANES) };
            }
            terms = terms.past(isa, SUM_LANES);
            i += SUM_LANES;
        }
        if i < n {
            for (g, lanes) in group.iter_mut().enumerate() {
                let (start, rest) = (g * I::LANES, n - i);
                if start + I::LANES <= rest {
                    // SAFETY: the register ends within the row.
                    *lanes = unsafe { terms.add(isa, *lanes, start) };
                } else if start < rest {
                    // SAFETY: the elements up to n.
                    *lanes = unsafe { terms.add_tail(isa, *lanes, start, rest - start) };
                }
            }
        }
        for (g, lanes) in group.into_iter().enumerate() {
            for (sum, lane) in sums.iter_mut().zip(lanes) {
                sum.as_mut()[first + g] = lane;
            }
        }
    }
    sums
}

/// Bytes of a line of the caches, and at least those of a register.
pub(crate) const LINE: usize = 64;

/// Asks for `n` elements.
#[inline(always)]
pub(crate) fn ask<I: Isa>(isa: I, p: TypedPtr, n: usize) {
    // Lines of 16-bit values, and as many again: each loop has a length that the compiler knows.
    for k in (0..2 * n).step_by(LINE) {
        isa.prefetch(p.address().wrapping_add(k));
    }
    if p.dtype() == Dtype::F32 {
        for k in (2 * n..4 * n).step_by(LINE) {
            isa.prefetch(p.address().wrapping_add(k));
        }
    }
}
