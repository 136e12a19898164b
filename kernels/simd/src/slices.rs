//! Maps and folds over slices, whole registers first and a masked tail last.
//!
//! Everything here is generic over the token and must be inlined into a [`Kernel`](crate::Kernel). Slices of
//! unequal length are processed over their common prefix.

use crate::sums::{SUM_LANES, reduce64, sum_registers};
use crate::{Element, Isa};

/// A function of one register.
///
/// A trait and not a closure, because a closure cannot be `#[inline(always)]`: one that is used twice may stay a
/// function of its own, compiled without the level's instructions and a hundred times slower. Implementations must
/// be `#[inline(always)]`.
pub trait Map<I: Isa> {
    /// The function, lane by lane.
    fn map(&self, isa: I, x: I::F32) -> I::F32;

    /// The function of four registers, where together they take less time.
    #[inline(always)]
    fn map_four(&self, isa: I, [a, b, c, d]: [I::F32; 4]) -> [I::F32; 4] {
        [self.map(isa, a), self.map(isa, b), self.map(isa, c), self.map(isa, d)]
    }
}

/// A [`Map`] whose operations are a long chain, of four registers in step and in two halves.
///
/// The second half of some registers is written behind the first half of the next ones: the processor does not look far
/// enough ahead to begin these by itself.
pub trait Chain<I: Isa>: Map<I> {
    /// Four registers between the halves.
    type Half: Copy;

    /// The first half.
    fn begin(&self, isa: I, x: [I::F32; 4]) -> Self::Half;

    /// The second half.
    fn end(&self, isa: I, half: Self::Half) -> [I::F32; 4];

    /// The first half of `x`, and behind it the second half of what has been begun.
    fn end_behind(&self, isa: I, begun: Self::Half, x: [I::F32; 4]) -> ([I::F32; 4], Self::Half);
}

/// A function of two registers; see [`Map`].
pub trait Map2<I: Isa> {
    /// The function, lane by lane.
    fn map(&self, isa: I, a: I::F32, b: I::F32) -> I::F32;
}

/// `y[i] = f(x[i])`, computed in f32 and rounded once to `D`.
#[inline(always)]
pub fn map<I: Isa, S: Element, D: Element>(isa: I, x: &[S], y: &mut [D], f: &impl Map<I>) {
    let n = x.len().min(y.len());
    // SAFETY: both slices hold at least n values, and a shared and an exclusive slice do not overlap.
    unsafe { map_raw(isa, n, x.as_ptr(), y.as_mut_ptr(), f) }
}

/// `y[i] = x[i]`, rounded once to `D`.
#[inline(always)]
pub fn convert<I: Isa, S: Element, D: Element>(isa: I, x: &[S], y: &mut [D]) {
    map(isa, x, y, &Same);
}

/// The identity.
struct Same;

impl<I: Isa> Map<I> for Same {
    #[inline(always)]
    fn map(&self, _: I, x: I::F32) -> I::F32 {
        x
    }
}

/// `x[i] = f(x[i])`.
#[inline(always)]
pub fn map_in_place<I: Isa, T: Element>(isa: I, x: &mut [T], f: &impl Map<I>) {
    let p = x.as_mut_ptr();
    // SAFETY: p comes from an exclusive slice of x.len() values, and each one is read before it is written.
    unsafe { map_raw(isa, x.len(), p, p, f) }
}

/// `y[i] = f(a[i], b[i])`, computed in f32 and rounded once to `D`.
#[inline(always)]
pub fn map2<I: Isa, A: Element, B: Element, D: Element>(isa: I, a: &[A], b: &[B], y: &mut [D], f: &impl Map2<I>) {
    let n = a.len().min(b.len()).min(y.len());
    // SAFETY: the three slices hold at least n values, and y overlaps neither input.
    unsafe { map2_raw(isa, n, a.as_ptr(), b.as_ptr(), y.as_mut_ptr(), f) }
}

/// `a[i] = f(a[i], b[i])`.
#[inline(always)]
pub fn map2_in_place<I: Isa, A: Element, B: Element>(isa: I, a: &mut [A], b: &[B], f: &impl Map2<I>) {
    let n = a.len().min(b.len());
    let p = a.as_mut_ptr();
    // SAFETY: both slices hold at least n values; p is exclusive, and each value is read before it is written.
    unsafe { map2_raw(isa, n, p, b.as_ptr(), p, f) }
}

/// `y[i] = f(x[i])`, and the lanes of [`sums`](crate::sums) of these values before they are rounded to `D`. `lanes`
/// are the sums so far, of a multiple of 64 elements.
#[inline(always)]
pub fn map_sum<I: Isa, S: Element, D: Element>(
    isa: I,
    x: &[S],
    y: &mut [D],
    lanes: I::Lanes64,
    f: &impl Chain<I>,
) -> I::Lanes64 {
    let n = x.len().min(y.len());
    // SAFETY: both slices hold at least n values, and a shared and an exclusive slice do not overlap.
    unsafe { map_sum_raw(isa, n, x.as_ptr(), y.as_mut_ptr(), lanes, f, []) }
}

/// Folds element `i` into lane `i % 64`, in order: `lane = f(lane, x[i])` from `init`.
///
/// A lane sees only elements that exist, so `f` needs no neutral element. It must be an operation or two, which the
/// compiler is sure to inline; see [`Map`].
#[inline(always)]
pub fn fold<I: Isa, T: Element>(isa: I, x: &[T], init: f32, f: impl Fn(I::F32, I::F32) -> I::F32) -> I::Lanes64 {
    let mut lanes = isa.splat_lanes64(init);
    let acc = &mut lanes.as_mut()[..sum_registers::<I>()];
    let mut blocks = x.chunks_exact(SUM_LANES);
    for block in &mut blocks {
        for (j, acc) in acc.iter_mut().enumerate() {
            // SAFETY: register j of a block of 64 values ends at (j + 1) * LANES <= 64.
            let v = unsafe { T::load(isa, block.as_ptr().add(j * I::LANES)) };
            *acc = f(*acc, v);
        }
    }
    for (rest, acc) in blocks.remainder().chunks(I::LANES).zip(acc) {
        let tail = isa.tail(rest.len());
        // SAFETY: the tail has as many lanes as `rest` has values.
        let v = unsafe { T::load_tail(isa, rest.as_ptr(), tail) };
        *acc = isa.select(isa.tail_mask(tail), f(*acc, v), *acc);
    }
    lanes
}

/// The sum of `x` in the order of [`sums`](crate::sums).
#[inline(always)]
pub fn sum<I: Isa, T: Element>(isa: I, x: &[T]) -> f32 {
    reduce64(isa, fold(isa, x, 0.0, |acc, v| isa.add(acc, v)))
}

/// [`map`] of `n` values at pointers, which may be equal.
///
/// # Safety
/// `n` values must be readable at `x` and writable at `y`; the two are equal or do not overlap.
#[inline(always)]
pub unsafe fn map_raw<I: Isa, S: Element, D: Element>(isa: I, n: usize, x: *const S, y: *mut D, f: &impl Map<I>) {
    let whole = n - n % I::LANES;
    for i in (0..whole).step_by(I::LANES) {
        // SAFETY: i + LANES <= n.
        unsafe { D::store(isa, y.add(i), f.map(isa, S::load(isa, x.add(i)))) }
    }
    if whole < n {
        let tail = isa.tail(n - whole);
        // SAFETY: whole + (n - whole) = n.
        unsafe { D::store_tail(isa, y.add(whole), f.map(isa, S::load_tail(isa, x.add(whole), tail)), tail) }
    }
}

/// [`map2`] of `n` values at pointers, which may be equal.
///
/// # Safety
/// `n` values must be readable at `a` and `b` and writable at `y`; `y` equals an input or overlaps it nowhere.
#[inline(always)]
pub unsafe fn map2_raw<I: Isa, A: Element, B: Element, D: Element>(
    isa: I,
    n: usize,
    a: *const A,
    b: *const B,
    y: *mut D,
    f: &impl Map2<I>,
) {
    let whole = n - n % I::LANES;
    for i in (0..whole).step_by(I::LANES) {
        // SAFETY: i + LANES <= n.
        unsafe { D::store(isa, y.add(i), f.map(isa, A::load(isa, a.add(i)), B::load(isa, b.add(i)))) }
    }
    if whole < n {
        let tail = isa.tail(n - whole);
        // SAFETY: whole + (n - whole) = n.
        unsafe {
            let v = f.map(isa, A::load_tail(isa, a.add(whole), tail), B::load_tail(isa, b.add(whole), tail));
            D::store_tail(isa, y.add(whole), v, tail);
        }
    }
}

/// [`map_sum`] of `n` values at pointers, which may be equal. Asks for as much memory behind each pointer of `ahead`, which
/// need not exist: it is read while there is arithmetic to do.
///
/// # Safety
/// `n` values must be readable at `x` and writable at `y`; the two are equal or do not overlap.
#[inline(always)]
pub unsafe fn map_sum_raw<I: Isa, S: Element, D: Element, const A: usize>(
    isa: I,
    n: usize,
    x: *const S,
    y: *mut D,
    lanes: I::Lanes64,
    f: &impl Chain<I>,
    ahead: [*const S; A],
) -> I::Lanes64 {
    // SAFETY: the caller's promise.
    unsafe { sum_raw::<true, I, S, D, A>(isa, n, x, y, lanes, f, ahead) }
}

/// The lanes of [`sums`](crate::sums) of `f` of `n` values; the rest as [`map_sum_raw`].
///
/// # Safety
/// `n` values must be readable at `x`.
#[inline(always)]
pub unsafe fn sum_of_raw<I: Isa, T: Element, const A: usize>(
    isa: I,
    n: usize,
    x: *const T,
    lanes: I::Lanes64,
    f: &impl Chain<I>,
    ahead: [*const T; A],
) -> I::Lanes64 {
    // SAFETY: the caller's promise; nothing is written.
    unsafe { sum_raw::<false, I, T, T, A>(isa, n, x, x.cast_mut(), lanes, f, ahead) }
}

/// [`sum_of_raw`]; with `KEEP`, [`map_sum_raw`].
///
/// # Safety
/// `n` values must be readable at `x` and, with `KEEP`, writable at `y`; the two are equal or do not overlap.
#[inline(always)]
unsafe fn sum_raw<const KEEP: bool, I: Isa, S: Element, D: Element, const A: usize>(
    isa: I,
    n: usize,
    x: *const S,
    y: *mut D,
    mut lanes: I::Lanes64,
    f: &impl Chain<I>,
    ahead: [*const S; A],
) -> I::Lanes64 {
    let acc = &mut lanes.as_mut()[..sum_registers::<I>()];
    let whole = n - n % SUM_LANES;
    let mut i = 0;
    // SAFETY: the caller's promise; every group of four registers ends within a block of 64 of the whole ones.
    unsafe {
        if whole > 0 && acc.len() == 4 {
            let mut begun = f.begin(isa, load_four(isa, x, ahead));
            while i + SUM_LANES < whole {
                let next = i + SUM_LANES;
                let x = load_four(isa, x.add(next), ahead.map(|p| p.wrapping_add(next)));
                let (v, half) = f.end_behind(isa, begun, x);
                count_four::<KEEP, I, D>(isa, y.wrapping_add(i), v, acc);
                (begun, i) = (half, next);
            }
            count_four::<KEEP, I, D>(isa, y.wrapping_add(i), f.end(isa, begun), acc);
            i = whole;
        }
        while i < whole {
            for acc in acc.chunks_exact_mut(4) {
                let x = load_four(isa, x.add(i), ahead.map(|p| p.wrapping_add(i)));
                count_four::<KEEP, I, D>(isa, y.wrapping_add(i), f.end(isa, f.begin(isa, x)), acc);
                i += 4 * I::LANES;
            }
        }
        for (i, acc) in (i..n).step_by(I::LANES).zip(acc) {
            let tail = isa.tail(n - i);
            let v = f.map(isa, S::load_tail(isa, x.add(i), tail));
            if KEEP {
                D::store_tail(isa, y.add(i), v, tail);
            }
            // Adding +0 to a lane changes nothing.
            *acc = isa.add(*acc, isa.select(isa.tail_mask(tail), v, isa.splat(0.0)));
        }
    }
    lanes
}

/// Four registers at `x`. Asks for as much memory behind each pointer of `ahead`.
///
/// # Safety
/// They must be readable.
#[inline(always)]
unsafe fn load_four<I: Isa, S: Element, const A: usize>(isa: I, x: *const S, ahead: [*const S; A]) -> [I::F32; 4] {
    let mut v = [isa.splat(0.0); 4];
    for (j, v) in v.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        *v = unsafe { S::load(isa, x.add(j * I::LANES)) };
        for ahead in ahead {
            isa.prefetch(ahead.wrapping_add(j * I::LANES));
        }
    }
    v
}

/// Adds four registers to `acc`; with `KEEP` stores them at `y`.
///
/// # Safety
/// With `KEEP` they must be writable there.
#[inline(always)]
unsafe fn count_four<const KEEP: bool, I: Isa, D: Element>(isa: I, y: *mut D, v: [I::F32; 4], acc: &mut [I::F32]) {
    for (j, (v, acc)) in v.into_iter().zip(acc).enumerate() {
        if KEEP {
            // SAFETY: the caller's promise.
            unsafe { D::store(isa, y.add(j * I::LANES), v) };
        }
        *acc = isa.add(*acc, v);
    }
}
