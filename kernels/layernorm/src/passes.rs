//! The order in which the passes over the rows of a call run.

use crate::row::Moments;
use gristmill_simd::Isa;
use std::ops::Range;

/// The passes over one row after the other.
///
/// Whoever calls them promises **(Passes)**: the rows are the call's, and the passes over a row come in order, each
/// before the second-next row is begun.
pub(crate) trait Passes<I: Isa> {
    /// The first pass, which finds the first mean, or all that an RMS norm needs.
    ///
    /// # Safety
    /// (Passes).
    unsafe fn begin(&self, isa: I, r: usize) -> Moments;

    /// What the last pass needs, made once while the first row's sum is being reduced to a number.
    ///
    /// # Safety
    /// (Passes).
    unsafe fn prepare(&mut self, isa: I);

    /// The second pass, about the first mean.
    ///
    /// # Safety
    /// (Passes).
    unsafe fn moments(&self, isa: I, r: usize, begun: Moments) -> Moments;

    /// The last pass, which writes the results. Asks for the row `ahead`, if there is one.
    ///
    /// # Safety
    /// (Passes).
    unsafe fn finish(&self, isa: I, r: usize, moments: Moments, ahead: Option<usize>);
}

/// All passes over rows of `n` elements, of which the matrix has `all`. The first pass over a row runs between the second
/// and the third over the row before it: each fills the time in which the other's sum is being reduced to a number.
///
/// # Safety
/// The rows are the call's, and nobody else works on them.
#[inline(always)]
pub(crate) unsafe fn pipeline<I: Isa>(isa: I, mut passes: impl Passes<I>, rows: Range<usize>, [all, n]: [usize; 2]) {
    let Range { start, end } = rows;
    // Some rows ahead of the first pass, which is one ahead of the last.
    let distance = 1 + AHEAD.div_ceil(n);
    let mut begun = Moments::default();
    for next in start..end + 1 {
        // The row to finish, and the row to begin; at the ends there is only one of them.
        let (this, first, last) = (next.wrapping_sub(1), next == start, next == end);
        let mut moments = begun;
        // SAFETY: the caller's promise; the order is that of (Passes).
        unsafe {
            if !first {
                moments = passes.moments(isa, this, begun);
            }
            if !last {
                begun = passes.begin(isa, next);
                if first {
                    passes.prepare(isa);
                }
            }
            if !first {
                let ahead = (n <= FETCHED && this + distance < all).then_some(this + distance);
                passes.finish(isa, this, moments, ahead);
            }
        }
    }
}

/// All passes over row `r`.
///
/// # Safety
/// It is the call's, and nobody else works on it.
#[inline(always)]
pub(crate) unsafe fn single<I: Isa>(isa: I, mut passes: impl Passes<I>, r: usize) {
    // SAFETY: the caller's promise; the order is that of (Passes).
    unsafe {
        let begun = passes.begin(isa, r);
        passes.prepare(isa);
        let moments = passes.moments(isa, r, begun);
        passes.finish(isa, r, moments, None);
    }
}

/// Elements between what is in the first pass and what is being fetched.
const AHEAD: usize = 1024;

/// Longest row that is fetched while an earlier one is finished: several have room in the second cache.
const FETCHED: usize = 16 << 10;
