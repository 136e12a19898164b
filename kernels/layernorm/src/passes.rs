//! The order in which the passes over the rows of a call run.

use crate::row::Moments;
use gristmill_core::cache::Caches;
use gristmill_simd::Isa;
use std::ops::Range;

/// The passes over one row after the other.
///
/// Whoever calls them promises **(Passes)**: the rows are the call's, and the passes over a row come in order, each
/// before the second-next row is begun, or the fourth-next where there are [`pairs`].
pub(crate) trait Passes<I: Isa>: Copy {
    /// Whether rows that are short enough are worked on two by two.
    const PAIRS: bool;

    /// Whether the passes over a row and those over the next one take turns, rather than that the second pass asks for the
    /// next row: what is then in use at a time must fit into a first cache of `l1d` bytes.
    fn take_turns(&self, l1d: usize) -> bool;

    /// Whether results go around the caches. Rows then come from memory too.
    fn streams(&self) -> bool;

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

    /// The second pass, about the first mean, which asks for the row `ahead`, if there is one.
    ///
    /// # Safety
    /// (Passes).
    unsafe fn moments(&self, isa: I, r: usize, begun: Moments, ahead: Option<usize>) -> Moments;

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
pub(crate) unsafe fn all<I: Isa, P: Passes<I>>(isa: I, mut passes: P, rows: Range<usize>, [all, n]: [usize; 2]) {
    // SAFETY: the caller's promise.
    unsafe {
        if P::PAIRS && pairs(n) {
            let last = rows.end - rows.len() % 2;
            pipeline::<I, 2, false>(isa, passes, rows.start..last, [all, n]);
            if last < rows.end {
                single(isa, passes, last);
            }
        } else if passes.take_turns(Caches::detected().l1d) {
            match passes.streams() {
                true => pipeline::<I, 1, true>(isa, passes, rows, [all, n]),
                false => pipeline::<I, 1, false>(isa, passes, rows, [all, n]),
            }
        } else {
            for r in rows.clone() {
                let ahead = (n <= FETCHED && r + 1 < all).then_some(r + 1);
                one(isa, &mut passes, r, r == rows.start, ahead);
            }
        }
    }
}

/// All passes over rows, `R` at a time, of which there is a multiple. The first pass over rows runs between the second and
/// the third over the rows before them: each fills the time in which the other's sums are being reduced to numbers.
/// `STREAMS` says what [`Passes::streams`] does.
///
/// # Safety
/// As [`all`].
#[inline(always)]
unsafe fn pipeline<I: Isa, const R: usize, const STREAMS: bool>(
    isa: I,
    mut passes: impl Passes<I>,
    rows: Range<usize>,
    [all, n]: [usize; 2],
) {
    let Range { start, end } = rows;
    let distance = (if STREAMS { 2 * AHEAD } else { AHEAD }).div_ceil(n);
    let existing = |row: usize| (n <= FETCHED && row + R <= all).then_some(row);
    let mut begun = [Moments::default(); R];
    for next in (start..end + R).step_by(R) {
        // The rows to finish, and the rows to begin; at the ends there are only the ones or the others.
        let (this, first, last) = (next.wrapping_sub(R), next == start, next == end);
        let mut moments = begun;
        // What comes from memory is asked for again: some requests find all ways there taken by what streams.
        let (near, far) = (next + distance, next + distance + if STREAMS { R } else { 0 });
        let (near, far) = (existing(near).filter(|_| STREAMS), existing(far));
        // SAFETY: the caller's promise; the order is that of (Passes).
        unsafe {
            if !first {
                for k in 0..R {
                    moments[k] = passes.moments(isa, this + k, begun[k], near.map(|near| near + k));
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
                passes.finish(isa, this, moments, far);
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
    // SAFETY: the caller's promise.
    unsafe { one(isa, &mut passes, r, true, None) }
}

/// All passes over row `r`, which may be the `first` one, while one `ahead` is asked for.
///
/// # Safety
/// As [`single`].
#[inline(always)]
unsafe fn one<I: Isa>(isa: I, passes: &mut impl Passes<I>, r: usize, first: bool, ahead: Option<usize>) {
    // SAFETY: the caller's promise; the order is that of (Passes).
    unsafe {
        let begun = passes.begin(isa, r);
        if first {
            passes.prepare(isa);
        }
        let moments = passes.moments(isa, r, begun, ahead);
        passes.finish(isa, r, [moments], None);
    }
}

/// Elements between what is in the first pass and what is being fetched.
const AHEAD: usize = 512;

/// Longest row that is fetched while an earlier one is in work: several have room in the second cache.
const FETCHED: usize = 16 << 10;
