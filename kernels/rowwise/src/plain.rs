//! Rows whose scores are their values, side by side: they are read where they lie, and only exponentials of which results
//! have fewer bits need scratch memory.
//!
//! There are three passes over a row: its extremes, its exponentials and their sum, its results. The last pass over a row
//! and the first one over a later row go side by side, for one multiplies where the other compares. Between two passes over
//! a row there is one over another row, so that none waits until lanes are reduced to a number.

use crate::scores::{self, Exponential, Extremes, Finish, NearExponential};
use gristmill_simd::slices::{self, Map};
use gristmill_simd::sums::reduce64;
use gristmill_simd::{Element, Isa};
use std::ptr;

/// Where the scores of a row lie, and where its results go: to the same place, or to memory apart.
///
/// Whoever makes one promises **(Plain)**: there are `n` values at `x` and `all` at `y`, which are exclusively the
/// maker's, and `n` is at most `all`; `kept` is null, or there is room for `n` values, which is `y` or nobody else's until
/// the row is done.
#[derive(Clone, Copy)]
pub(crate) struct PlainRow<X, Y> {
    pub(crate) x: *const X,
    /// Where exponentials wait for their sum, if they do.
    pub(crate) kept: *mut f32,
    pub(crate) y: *mut Y,
    /// Visible scores.
    pub(crate) n: usize,
    /// Results.
    pub(crate) all: usize,
}

/// A row after its first pass.
#[derive(Clone, Copy)]
struct Begun<X, Y> {
    row: PlainRow<X, Y>,
    extremes: [f32; 2],
}

/// A row after its second pass.
#[derive(Clone, Copy)]
pub(crate) struct Summed<X, Y> {
    pub(crate) row: PlainRow<X, Y>,
    /// The largest score, or what stands for it.
    pub(crate) max: f32,
    /// Of the exponentials; not zero.
    pub(crate) sum: f32,
    /// Whether no score is further below the largest than [`Finish::NEAR`].
    pub(crate) near: bool,
}

/// Longest row that waits for its second pass while others have theirs. The nearest cache would not hold as many longer
/// ones: these have the second pass at once, and wait for their extremes.
const WAITING: usize = 1024;

/// Makes rows of `n` results one after the other.
///
/// # Safety
/// (Plain), for each, but that every other row may have the same place for exponentials.
#[inline(always)]
pub(crate) unsafe fn run<I: Isa, X: Element, Y: Element>(
    isa: I,
    finish: impl Finish,
    mut rows: impl Iterator<Item = PlainRow<X, Y>>,
    n: usize,
) {
    let (mut waiting, mut begun, mut summed) = (None, None, None);
    loop {
        let next = rows.next();
        // SAFETY: the caller's promise; the passes over a row come in order.
        unsafe {
            #[expect(
                clippy::manual_map,
                reason = "a closure may stay a function of its own, without the level's instructions"
            )]
            let exponentials = match begun {
                Some(begun) => Some(sum(isa, finish, begun, next.map_or(begun.row.x, |next| next.x))),
                None => None,
            };
            let extremes = match summed {
                Some(summed) => finish.last(isa, summed, next),
                None => extremes(isa, next),
            };
            let found = next.map(|row| Begun { row, extremes });
            begun = if n <= WAITING { std::mem::replace(&mut waiting, found) } else { found };
            summed = exponentials;
        }
        if waiting.is_none() && begun.is_none() && summed.is_none() {
            return;
        }
    }
}

/// Makes one row.
///
/// # Safety
/// (Plain).
#[inline(always)]
pub(crate) unsafe fn one<I: Isa>(isa: I, finish: impl Finish, row: PlainRow<f32, f32>) {
    // SAFETY: the caller's promise; the passes come in order.
    unsafe {
        let begun = Begun { row, extremes: extremes(isa, Some(row)) };
        let summed = sum(isa, finish, begun, row.x);
        finish.last(isa, summed, None);
    }
}

/// The second pass, and the results for what is hidden. Asks for the row that begins at `next`.
///
/// # Safety
/// (Plain).
#[inline(always)]
unsafe fn sum<I: Isa, F: Finish, X: Element, Y: Element>(
    isa: I,
    _: F,
    Begun { row, extremes: [min, max] }: Begun<X, Y>,
    next: *const X,
) -> Summed<X, Y> {
    // False for infinities, and then some.
    let near = min - max >= F::NEAR;
    let max = scores::finite(max);
    // SAFETY: the caller's promise.
    unsafe {
        let lanes = match near {
            true => F::sum(isa, row, &NearExponential(isa.splat(max)), next),
            false => F::sum(isa, row, &Exponential(isa.splat(max)), next),
        };
        let sum = scores::not_zero(reduce64(isa, lanes));
        if row.n < row.all {
            std::slice::from_raw_parts_mut(row.y.add(row.n), row.all - row.n).fill(Y::from_f32(F::hidden(sum)));
        }
        Summed { row, max, sum, near }
    }
}

/// The extremes of a row, if there is one.
///
/// # Safety
/// (Plain).
#[inline(always)]
pub(crate) unsafe fn extremes<I: Isa, X: Element, Y>(isa: I, row: Option<PlainRow<X, Y>>) -> [f32; 2] {
    let mut extremes = Extremes::new(isa);
    if let Some(row) = row {
        // SAFETY: the caller's promise.
        extremes.see(isa, unsafe { std::slice::from_raw_parts(row.x, row.n) });
    }
    extremes.reduce(isa)
}

/// `y = f(x)` for `n` values, and the extremes of the row `next`, if there is one.
///
/// # Safety
/// `n` values must be readable at `x` and writable at `y`; the two are equal or do not overlap; (Plain) for `next`, of which
/// `y` is no part.
#[inline(always)]
pub(crate) unsafe fn map_beside<I: Isa, S: Element, X: Element, Y: Element>(
    isa: I,
    n: usize,
    (x, y): (*const S, *mut Y),
    f: &impl Map<I>,
    next: Option<PlainRow<X, Y>>,
) -> [f32; 2] {
    let mut extremes = Extremes::new(isa);
    let step = Extremes::<I>::BLOCK;
    let (scores, beside) = next.map_or((ptr::null(), 0), |next| (next.x, next.n));
    let both = n.min(beside) / step * step;
    // SAFETY: the caller's promise.
    unsafe {
        for i in (0..both).step_by(step) {
            let (seen, v) = (Extremes::block(isa, scores.add(i)), Extremes::block(isa, x.add(i)));
            for (k, v) in f.map_four(isa, v).into_iter().enumerate() {
                Y::store(isa, y.add(i + k * I::LANES), v);
            }
            extremes.see_block(isa, seen);
        }
        slices::map_raw(isa, n - both, x.add(both), y.add(both), f);
        if let Some(next) = next {
            extremes.see(isa, std::slice::from_raw_parts(next.x.add(both), next.n - both));
        }
    }
    extremes.reduce(isa)
}
