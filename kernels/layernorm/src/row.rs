//! The three passes over a row: a first mean, both moments, the result.
//!
//! `n` is at least 1 everywhere, and every source and sink has `n` elements: that is the one precondition, **(Row)**,
//! of the `unsafe fn`s here.

use crate::ends::{Sink, Source};
use crate::sums::{self, LINE, Terms, ask};
use gristmill_simd::{Dtype, Element, Isa, TypedPtr, sums::reduce64};
use std::hint::black_box;

/// Division by the length of a row.
#[derive(Clone, Copy)]
pub(crate) struct Length {
    pub(crate) n: usize,
    /// Multiplying by the inverse of a power of two gives the bits of the division in a third of the time.
    inverse: Option<f32>,
}

impl Length {
    pub(crate) fn new(n: usize) -> Self {
        Self { n, inverse: n.is_power_of_two().then(|| 1.0 / n as f32) }
    }

    /// `x / n` in every lane.
    #[inline(always)]
    pub(crate) fn divide_lanes<I: Isa>(self, isa: I, x: I::F32) -> I::F32 {
        match self.inverse {
            Some(inverse) => isa.mul(x, isa.splat(inverse)),
            None => isa.div(x, isa.splat(self.n as f32)),
        }
    }

    #[inline(always)]
    fn divide(self, x: f32) -> f32 {
        match self.inverse {
            Some(inverse) => x * inverse,
            // Otherwise the compiler divides in any case, and selects.
            None => x / black_box(self.n as f32),
        }
    }
}

/// Gamma and beta, one of each per column.
///
/// A missing gamma is a row of 1 and a missing beta one of -0: a product with 1 and a sum with -0 are exact, so
/// that the one loop gives the bits of the operations that are there.
#[derive(Clone, Copy)]
pub(crate) struct Affine<P> {
    gamma: *const P,
    beta: *const P,
    /// All ones where the values advance with the column, zero where the first 64 serve all.
    gamma_mask: usize,
    beta_mask: usize,
}

/// Registers that the last pass handles per turn.
const UNROLL: usize = 4;
/// A turn at the widest level has as many elements as the constants that stand for a missing parameter.
const _: () = assert!(UNROLL * 16 <= f32::ONES.len());

impl<P: Element> Affine<P> {
    #[inline(always)]
    pub(crate) fn new(gamma: Option<*const P>, beta: Option<*const P>) -> Self {
        let mask = |values: Option<_>| if values.is_some() { usize::MAX } else { 0 };
        Self {
            gamma: gamma.unwrap_or(P::ONES.as_ptr()),
            beta: beta.unwrap_or(P::NEG_ZEROS.as_ptr()),
            gamma_mask: mask(gamma),
            beta_mask: mask(beta),
        }
    }
}

/// What the first two passes find out about a row.
#[derive(Clone, Copy, Default)]
pub(crate) struct Moments {
    /// The first mean.
    pub(crate) m: f32,
    /// What it misses.
    d: f32,
    /// One over the standard deviation.
    r: f32,
    /// Minus what the first mean misses, scaled: `-(d * r)`.
    e: f32,
}

impl Moments {
    /// What was subtracted.
    pub(crate) fn mean(self) -> f32 {
        self.m + self.d
    }

    /// What the differences are multiplied by.
    pub(crate) fn rstd(self) -> f32 {
        self.r
    }
}

/// The differences from a value: `less` is minus that value. (A sum has its first operand in memory, a difference has not.)
#[derive(Clone, Copy)]
struct Shifted<I: Isa, S, K> {
    x: S,
    less: I::F32,
    keep: K,
}

impl<I: Isa, S: Source, K: Sink> Terms<I, 1> for Shifted<I, S, K> {
    #[inline(always)]
    unsafe fn add(&self, isa: I, [s]: [I::F32; 1], i: usize) -> [I::F32; 1] {
        // SAFETY: the caller's promise.
        unsafe {
            let x = self.x.load(isa, i);
            self.keep.store(isa, i, x);
            [isa.add(s, isa.add(x, self.less))]
        }
    }
    #[inline(always)]
    unsafe fn add_tail(&self, isa: I, [s]: [I::F32; 1], i: usize, count: usize) -> [I::F32; 1] {
        // SAFETY: the caller's promise.
        let x = unsafe { self.x.load_tail(isa, i, count) };
        // SAFETY: as above.
        unsafe { self.keep.store_tail(isa, i, count, x) };
        [isa.add(s, first(isa, count, isa.add(x, self.less)))]
    }
    #[inline(always)]
    fn past(self, isa: I, n: usize) -> Self {
        Self { x: self.x.past(isa, n), keep: self.keep.past(isa, n), ..self }
    }
}

/// Differences from a value and their squares; as [`Shifted`].
#[derive(Clone, Copy)]
struct Centred<I: Isa, S> {
    x: S,
    less: I::F32,
}

impl<I: Isa, S: Source> Terms<I, 2> for Centred<I, S> {
    #[inline(always)]
    unsafe fn add(&self, isa: I, [s1, s2]: [I::F32; 2], i: usize) -> [I::F32; 2] {
        // SAFETY: the caller's promise.
        let u = isa.add(unsafe { self.x.load(isa, i) }, self.less);
        [isa.add(s1, u), isa.fma(u, u, s2)]
    }
    #[inline(always)]
    unsafe fn add_tail(&self, isa: I, [s1, s2]: [I::F32; 2], i: usize, count: usize) -> [I::F32; 2] {
        // SAFETY: the caller's promise.
        let u = first(isa, count, isa.add(unsafe { self.x.load_tail(isa, i, count) }, self.less));
        [isa.add(s1, u), isa.fma(u, u, s2)]
    }
    #[inline(always)]
    fn past(self, isa: I, n: usize) -> Self {
        Self { x: self.x.past(isa, n), ..self }
    }
}

#[derive(Clone, Copy)]
struct Squared<S, K> {
    x: S,
    keep: K,
}

impl<I: Isa, S: Source, K: Sink> Terms<I, 1> for Squared<S, K> {
    #[inline(always)]
    unsafe fn add(&self, isa: I, [s]: [I::F32; 1], i: usize) -> [I::F32; 1] {
        // SAFETY: the caller's promise.
        unsafe {
            let x = self.x.load(isa, i);
            self.keep.store(isa, i, x);
            [isa.fma(x, x, s)]
        }
    }
    #[inline(always)]
    unsafe fn add_tail(&self, isa: I, [s]: [I::F32; 1], i: usize, count: usize) -> [I::F32; 1] {
        // SAFETY: the caller's promise.
        unsafe {
            // Zeros beyond the row: their squares add nothing.
            let x = self.x.load_tail(isa, i, count);
            self.keep.store_tail(isa, i, count, x);
            [isa.fma(x, x, s)]
        }
    }
    #[inline(always)]
    fn past(self, isa: I, n: usize) -> Self {
        Self { x: self.x.past(isa, n), keep: self.keep.past(isa, n) }
    }
}

/// The first `count` lanes, +0 elsewhere.
#[inline(always)]
fn first<I: Isa>(isa: I, count: usize, v: I::F32) -> I::F32 {
    isa.select(isa.tail_mask(isa.tail(count)), v, isa.splat(0.0))
}

/// First pass: the terms of the first mean, which are differences from `c`, on top of the `lanes` so far. What was
/// loaded is also stored to `keep`.
///
/// # Safety
/// (Row).
#[inline(always)]
pub(crate) unsafe fn differences<I: Isa>(
    isa: I,
    lanes: I::Lanes64,
    n: usize,
    (x, keep): (impl Source, impl Sink),
    c: f32,
) -> I::Lanes64 {
    // SAFETY: (Row).
    let [lanes] = unsafe { sums::lanes(isa, [lanes], n, Shifted { x, less: isa.splat(-c), keep }, []) };
    lanes
}

/// The first pass of an RMS norm, which has no second one: squares, on top of the `lanes` so far. The rest as in
/// [`differences`].
///
/// # Safety
/// (Row).
#[inline(always)]
pub(crate) unsafe fn squares<I: Isa>(
    isa: I,
    lanes: I::Lanes64,
    n: usize,
    (x, keep): (impl Source, impl Sink),
) -> I::Lanes64 {
    // SAFETY: (Row).
    let [lanes] = unsafe { sums::lanes(isa, [lanes], n, Squared { x, keep }, []) };
    lanes
}

/// Second pass: the terms of both moments about `m`, on top of the `lanes` so far. Asks for rows `ahead`, of
/// which nothing need exist: memory would have nothing to do, since the first pass has brought what is read.
///
/// # Safety
/// (Row).
#[inline(always)]
pub(crate) unsafe fn powers<I: Isa, const N: usize>(
    isa: I,
    lanes: [I::Lanes64; 2],
    n: usize,
    x: impl Source,
    m: f32,
    ahead: [TypedPtr; N],
) -> [I::Lanes64; 2] {
    // SAFETY: (Row).
    unsafe { sums::lanes(isa, lanes, n, Centred { x, less: isa.splat(-m) }, ahead) }
}

impl Moments {
    /// The first mean alone, from differences from `c`.
    #[inline(always)]
    pub(crate) fn first<I: Isa>(isa: I, n: Length, c: f32, differences: I::Lanes64) -> Self {
        Self { m: c + n.divide(reduce64(isa, differences)), ..Self::default() }
    }

    /// About the first mean.
    #[inline(always)]
    pub(crate) fn about<I: Isa>(self, isa: I, n: Length, [s1, s2]: [I::Lanes64; 2], eps: f32) -> Self {
        let (s1, s2) = (reduce64(isa, s1), reduce64(isa, s2));
        let d = n.divide(s1);
        let variance = n.divide(if I::FUSED { (-d).mul_add(s1, s2) } else { -d * s1 + s2 });
        let variance = if variance < 0.0 { 0.0 } else { variance };
        let r = 1.0 / (variance + eps).sqrt();
        Self { d, r, e: -(d * r), ..self }
    }

    /// The second pass, over `n` elements of `x`; as [`powers`].
    ///
    /// # Safety
    /// (Row).
    #[inline(always)]
    pub(crate) unsafe fn second<I: Isa, const N: usize>(
        self,
        isa: I,
        n: Length,
        x: impl Source,
        eps: f32,
        ahead: [TypedPtr; N],
    ) -> Self {
        // SAFETY: (Row).
        let lanes = unsafe { powers(isa, [isa.splat_lanes64(0.0); 2], n.n, x, self.m, ahead) };
        self.about(isa, n, lanes, eps)
    }

    /// About 0, with nothing missing.
    #[inline(always)]
    pub(crate) fn of_squares<I: Isa>(isa: I, n: Length, squares: I::Lanes64, eps: f32) -> Self {
        let r = 1.0 / (n.divide(reduce64(isa, squares)) + eps).sqrt();
        // Subtracting 0 and adding -0 are exact: the last pass multiplies by r alone.
        Self { m: 0.0, d: 0.0, r, e: -0.0 }
    }
}

/// One row of the last pass, from `x` to `y`.
#[derive(Clone, Copy)]
struct Last<I: Isa, S, Y> {
    x: S,
    y: *mut Y,
    /// Minus what is subtracted; as in [`Shifted`].
    less: I::F32,
    r: I::F32,
    e: I::F32,
}

impl<I: Isa, S: Source, Y: Element> Last<I, S, Y> {
    #[inline(always)]
    fn new(isa: I, (x, y, row): (S, *mut Y, Moments)) -> Self {
        Self { x, y, less: isa.splat(-row.m), r: isa.splat(row.r), e: isa.splat(row.e) }
    }

    #[inline(always)]
    fn value(&self, isa: I, x: I::F32, gamma: I::F32, beta: I::F32) -> I::F32 {
        isa.fma(isa.fma(isa.add(x, self.less), self.r, self.e), gamma, beta)
    }

    /// What comes after the next `n` elements.
    #[inline(always)]
    fn past(self, isa: I, n: usize) -> Self {
        Self { x: self.x.past(isa, n), y: isa.opaque(self.y.wrapping_add(n)).cast_mut(), ..self }
    }
}

impl<P: Element> Affine<P> {
    /// What comes after the next `n` elements.
    #[inline(always)]
    fn past<I: Isa>(self, isa: I, n: usize) -> Self {
        Self {
            gamma: isa.opaque(self.gamma.wrapping_add(n & self.gamma_mask)),
            beta: isa.opaque(self.beta.wrapping_add(n & self.beta_mask)),
            ..self
        }
    }

    /// The next `UNROLL * LANES` elements of some rows; with `STREAM`, which is for f32, around the caches.
    ///
    /// # Safety
    /// (Row), for each: they exist, with `STREAM` in whole registers of memory.
    #[inline(always)]
    unsafe fn turn<const STREAM: bool, I: Isa, S: Source, Y: Element>(self, isa: I, rows: &[Last<I, S, Y>]) {
        for k in (0..UNROLL).map(|g| g * I::LANES) {
            // SAFETY: the caller's promise.
            unsafe {
                let (gamma, beta) = (P::load(isa, self.gamma.add(k)), P::load(isa, self.beta.add(k)));
                for row in rows {
                    let (y, value) = (row.y.add(k), row.value(isa, row.x.load(isa, k), gamma, beta));
                    if STREAM { isa.stream(y.cast(), value) } else { Y::store(isa, y, value) }
                }
            }
        }
    }

    /// The next `count` elements of some rows, for `count <= LANES`.
    ///
    /// # Safety
    /// (Row), for each: they exist.
    #[inline(always)]
    unsafe fn part<I: Isa, S: Source, Y: Element>(self, isa: I, rows: &[Last<I, S, Y>], count: usize) {
        let tail = isa.tail(count);
        // SAFETY: the caller's promise.
        unsafe {
            let (gamma, beta) = (P::load_tail(isa, self.gamma, tail), P::load_tail(isa, self.beta, tail));
            for row in rows {
                let x = row.x.load_tail(isa, 0, count);
                Y::store_tail(isa, row.y, row.value(isa, x, gamma, beta), tail);
            }
        }
    }
}

/// Elements of `y` up to where a register of memory, and perhaps another, begins.
#[inline(always)]
pub(crate) fn head<Y>(y: *const Y) -> usize {
    y.addr().wrapping_neg() % LINE / size_of::<Y>()
}

/// Last pass: normalises each `x` into its `y`, around the caches if it `streams`, which is for f32. Asks for rows
/// `ahead`; nothing of them need exist.
///
/// # Safety
/// (Row), for each; all have the same [`head`]; gamma and beta, where present, have `n` elements too. What streams is fenced
/// before anybody reads it.
#[inline(always)]
pub(crate) unsafe fn normalise<I: Isa, S: Source, P: Element, Y: Element, const R: usize, const N: usize>(
    isa: I,
    n: usize,
    rows: [(S, *mut Y, Moments); R],
    streams: bool,
    mut affine: Affine<P>,
    ahead: [TypedPtr; N],
) {
    let head = head(rows[0].1.cast_const()) % I::LANES;
    let mut rows = rows.map(|row| Last::new(isa, row));
    let turn = UNROLL * I::LANES;
    let mut i = 0;
    // A store that straddles cache lines costs double: worth one partial register where the row is long.
    let long = n >= 4 * turn;
    if head > 0 && long {
        // SAFETY: (Row): head < LANES < n.
        unsafe { affine.part(isa, &rows, head) };
        (rows, affine) = (rows.map(|row| row.past(isa, head)), affine.past(isa, head));
        i = head;
    }
    while i + turn <= n {
        ahead.iter().for_each(|ahead| ask(isa, ahead.offset(i as isize), turn));
        // SAFETY: (Row): i + turn <= n. Behind the head of a long row registers of memory are whole.
        unsafe {
            match streams && long && Y::DTYPE == Dtype::F32 {
                true => affine.turn::<true, I, S, Y>(isa, &rows),
                false => affine.turn::<false, I, S, Y>(isa, &rows),
            }
        }
        (rows, affine) = (rows.map(|row| row.past(isa, turn)), affine.past(isa, turn));
        i += turn;
    }
    while i < n {
        let count = I::LANES.min(n - i);
        // SAFETY: (Row): i + count <= n.
        unsafe { affine.part(isa, &rows, count) };
        (rows, affine) = (rows.map(|row| row.past(isa, count)), affine.past(isa, count));
        i += count;
    }
}
