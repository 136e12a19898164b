//! The order in which the passes over the rows of a call run.

use crate::row::Moments;
use gristmill_simd::Isa;
use std::ops::Range;

/// The passes over one row after the other.
///
/// Whoever calls them promises **(Passes)**: the rows are the call's, and the passes over a row come in order, each
/// before the second-next row is begun, or the fourth-next where there are [`pairs`].
pub(crate) trait Passes<I: Isa>: Copy {
    /// Whether rows that are short enough are worked on two by two.
    const PAIRS: bool;

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

    /// The last pass over `R` rows from `r` on, one or two, which writes the results. Asks for as many rows from `ahead` on,
    /// if there are such.
    ///
    /// # Safety
    /// (Passes).
    unsafe fn finish<const R: usize>(&self, isa: I, r: usize, moments: [Moments; R], ahead: Option<usize>);
}

/// All passes over rows of `n` elements, of which the matrix has `all`, one by one or in [`pairs`].
///
/// # Safety
/// The rows are the call's, and nobody else works on them.
#[inline(always)]
pub(crate) unsafe fn all<I: Isa, P: Passes<I>>(isa: I, passes: P, rows: Range<usize>, [all, n]: [usize; 2]) {
    // SAFETY: the caller's promise.
    unsafe {
        if !(P::PAIRS && pairs(n)) {
            return pipeline::<I, 1>(isa, passes, rows, [all, n]);
        }
        let last = rows.end - rows.len() % 2;
        pipeline::<I, 2>(isa, passes, rows.start..last, [all, n]);
        if last < rows.end {
            single(isa, passes, last);
        }
    }
}

/// All passes over rows, `R` at a time, of which there is a multiple. The first pass over rows runs between the second and
/// the third over the rows before them: each fills the time in which the other's sums are being reduced to numbers.
///
/// # Safety
/// As [`all`].
#[inline(always)]
unsafe fn pipeline<I: Isa, const R: usize>(
    isa: I,
    mut passes: impl Passes<I>,
    rows: Range<usize>,
    [all, n]: [usize; 2],
) {
    let Range { start, end } = rows;
    // Some rows ahead of the first pass, which is R ahead of the last.
    let distance = R + AHEAD.div_ceil(n);
    let mut begun = [Moments::default(); R];
    for next in (start..end + R).step_by(R) {
        // The rows to finish, and the rows to begin; at the ends there are only the ones or the others.
        let (this, first, last) = (next.wrapping_sub(R), next == start, next == end);
        let mut moments = begun;
        // SAFETY: the caller's promise; the order is that of (Passes).
        unsafe {
            if !first {
                for k in 0..R {
                    moments[k] = passes.moments(isa, this + k, begun[k]);
                }
            }
            if !last {
                for (k, begun) in begun.iter_mut().enumerate() {
                    *begun = passes.begin(isa, next + k);
                }
                if first {
                    passes.prepare(isa);
                }
            }
            if !first {
                let ahead = this + distance;
                let fetches = n <= FETCHED && ahead + R <= all;
                passes.finish(isa, this, moments, fetches.then_some(ahead));
            }
        }
    }
}

/// Whether rows of `n` elements may be worked on two by two: gamma and beta are then loaded once for both, and there are half
/// as many ends of passes. Rows of f32 do not gain by it, which wait for memory instead.
#[inline(always)]
pub(crate) fn pairs(n: usize) -> bool {
    n <= PAIRED
}

/// Longest row of a pair.
pub(crate) const PAIRED: usize = 960;

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
        passes.finish(isa, r, [moments], None);
    }
}

/// Elements between what is in the first pass and what is being fetched.
const AHEAD: usize = 512;

/// Longest row that is fetched while an earlier one is finished: several have room in the second cache.
const FETCHED: usize = 16 << 10;
