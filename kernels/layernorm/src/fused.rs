//! A block of rows, one after the other, each while it is in the nearest cache.
//!
//! The first pass reads a row in its storage type and leaves it as f32 where the other passes find it; the last one
//! rounds results to theirs. Types are told apart once for a row and pass, so that every loop is compiled for each
//! type, and not for each mix of types.

use crate::call::{Call, Norm, Raw};
use crate::ends::{Nowhere, Sink, Source, Sum};
use crate::keep::{Home, Places, Scratch};
use crate::narrow;
use crate::passes::{self, Passes};
use crate::row::{self, Affine, Length, Moments};
use crate::uniform;
use gristmill_simd::{Dtype, Isa, Kernel, Simd, TypedPtr, typed};
use std::ops::Range;

/// Runs some of the rows of a call.
///
/// # Safety
/// (Call), and nobody else works on these rows.
pub(crate) unsafe fn run(call: &Call, simd: Simd, rows: Range<usize>) {
    let short = call.n.n <= SHORT;
    // SAFETY: the caller's promise.
    unsafe {
        match call.uniform() {
            // Short rows of other types are better widened once.
            Some(dtype) if dtype == Dtype::F32 || !short => uniform::run(call, dtype, simd, rows),
            _ if call.is_of_f32s() => in_scratch::<true, { 2 * SHORT }>(call, simd, rows, SHORT),
            _ if short => in_scratch::<false, { 5 * SHORT }>(call, simd, rows, SHORT),
            _ => in_scratch::<false, { 5 * LONG }>(call, simd, rows, LONG),
        }
    }
    if call.streams {
        simd.run(Fence);
    }
}

/// Ends what was written around the caches.
struct Fence;

impl Kernel for Fence {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        isa.stream_fence();
    }
}

/// Elements of a place in scratch memory.
const SHORT: usize = 2048;
/// Pairs take twice as many places, of less than half the size.
const _: () = assert!(4 * (passes::PAIRED + 16) <= 2 * SHORT);

/// Elements of a place for longer rows. Only for those: to enter a function with so large a frame takes as long as a
/// short row.
const LONG: usize = 8192;

/// # Safety
/// As [`run`]. `N` values are the places of `room` elements that the call needs: two for f32 rows, five for others.
#[inline(never)]
unsafe fn in_scratch<const F32: bool, const N: usize>(call: &Call, simd: Simd, rows: Range<usize>, room: usize) {
    let mut scratch = Scratch::<N>::new();
    let places = Places { start: scratch.start(), room };
    if rows.len() == 1 {
        simd.run(Fused::<F32, true> { call, rows, places });
    } else {
        simd.run(Fused::<F32, false> { call, rows, places });
    }
}

/// Some of the rows of a call, for which (Call) holds, and nobody else works on them; with scratch memory for them.
///
/// With `F32` all operands are f32, their elements side by side. Then types need not be told apart. With `ONE` there is
/// one row, and nothing need be prepared for more: that takes a third of the time of a short row.
struct Fused<'c, const F32: bool, const ONE: bool> {
    call: &'c Call,
    rows: Range<usize>,
    places: Places,
}

impl<const F32: bool, const ONE: bool> Kernel for Fused<'_, F32, ONE> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Self { mut rows, places, .. } = self;
        let call = if F32 { self.call.of_f32s() } else { *self.call };
        let call = Call { streams: call.streams && !ONE, ..call };
        if !ONE && call.n.n <= narrow::WIDEST {
            // SAFETY: (Call).
            rows.start = unsafe { narrow::blocks(isa, &call, rows.clone()) };
        }
        let work = Work { call, rows: rows.clone(), places };
        let Some(home) = call.home(places, !F32 && passes::pairs(call.n.n)) else { return work.pieces(isa) };
        let passes = AtHome::<F32> { work: &work, home, affine: None };
        // SAFETY: (Call) gives every row n elements of each operand, and a place in the statistics. A place in scratch
        // memory is not used again before the row is done, for there are two. Reading the next row before this one is
        // stored is harmless: they do not overlap.
        unsafe {
            match ONE {
                true => passes::single(isa, passes, rows.start),
                false => passes::all(isa, passes, rows, [call.rows, call.n.n]),
            }
        }
    }
}

impl Call {
    /// Element 0 of row `r`, the residual added.
    ///
    /// # Safety
    /// (Call), for this row.
    #[inline(always)]
    unsafe fn first(&self, r: usize) -> f32 {
        // SAFETY: the caller's promise, and n is at least 1.
        let value = |matrix: Raw| unsafe { matrix.at(r, 0).value() };
        let x = value(self.x);
        self.residual.map_or(x, |residual| x + value(residual))
    }

    /// What the sum of the first pass says.
    #[inline(always)]
    fn reduce<I: Isa>(&self, isa: I, c: f32, lanes: I::Lanes64) -> Moments {
        match self.norm {
            Norm::Layer => Moments::first(isa, self.n, c, lanes),
            Norm::Rms => Moments::of_squares(isa, self.n, lanes, self.eps),
        }
    }
}

/// The first pass of either norm over `n` elements.
#[derive(Clone, Copy)]
struct First {
    norm: Norm,
    n: usize,
    c: f32,
}

impl First {
    /// # Safety
    /// (Row).
    #[inline(always)]
    unsafe fn pass<I: Isa, S: Source>(self, isa: I, lanes: I::Lanes64, x: S, keep: impl Sink) -> I::Lanes64 {
        // SAFETY: the caller's promise.
        unsafe {
            match self.norm {
                Norm::Layer => row::differences(isa, lanes, self.n, (x, keep), self.c),
                Norm::Rms => row::squares(isa, lanes, self.n, (x, keep)),
            }
        }
    }
}

/// Rows of a call, and the scratch memory for them.
struct Work {
    call: Call,
    rows: Range<usize>,
    places: Places,
}

/// Rows that have a home: their first pass leaves them there as f32.
#[derive(Clone, Copy)]
struct AtHome<'w, const F32: bool> {
    work: &'w Work,
    home: Home,
    /// Gamma and beta, where the last pass goes over whole rows.
    affine: Option<Affine<f32>>,
}

impl<I: Isa, const F32: bool> Passes<I> for AtHome<'_, F32> {
    const PAIRS: bool = !F32;

    #[inline(always)]
    fn take_turns(&self, l1d: usize) -> bool {
        let Call { norm, residual, streams, n, .. } = self.work.call;
        // The homes of this row and the next one, what comes into the latter, what is asked for, gamma, beta, and y.
        let rows = 4 + if residual.is_some() { 4 } else { 2 } + usize::from(!streams);
        norm == Norm::Rms || rows * n.n * size_of::<f32>() < l1d
    }

    #[inline(always)]
    fn streams(&self) -> bool {
        self.work.call.streams
    }

    #[inline(always)]
    unsafe fn begin(&self, isa: I, r: usize) -> Moments {
        let Self { work, home, .. } = self;
        // SAFETY: the caller's promise.
        unsafe {
            let c = work.call.first(r);
            let lanes = work.begin(isa, r, 0..work.call.n.n, (c, isa.splat_lanes64(0.0)), home.row(r));
            work.call.reduce(isa, c, lanes)
        }
    }

    #[inline(always)]
    unsafe fn prepare(&mut self, isa: I) {
        let work = self.work;
        if work.is_finished_whole() {
            // SAFETY: the caller's promise, and there is room.
            self.affine = Some(unsafe { work.call.affine(isa, 0..work.call.n.n, work.places) });
        }
    }

    #[inline(always)]
    unsafe fn moments(&self, isa: I, r: usize, begun: Moments, ahead: Option<usize>) -> Moments {
        let (Call { norm, n, eps, x, residual, .. }, row) = (self.work.call, self.home.row(r).cast_const());
        // SAFETY: the caller's promise; the first pass has filled the row's home.
        unsafe {
            match (norm, ahead, residual) {
                (Norm::Rms, ..) => begun,
                (_, None, _) => begun.second(isa, n, row, eps, []),
                (_, Some(a), None) => begun.second(isa, n, row, eps, [x.at(a, 0)]),
                (_, Some(a), Some(b)) => begun.second(isa, n, row, eps, [x.at(a, 0), b.at(a, 0)]),
            }
        }
    }

    #[inline(always)]
    unsafe fn finish<const R: usize>(&self, isa: I, r: usize, moments: [Moments; R], ahead: Option<usize>) {
        let (work, n) = (self.work, self.work.call.n.n);
        let row = |k: usize| (self.home.row(r + k).cast_const(), moments[k]);
        // SAFETY: the caller's promise; the first pass has filled the rows' homes.
        unsafe {
            for k in 0..R {
                let (row, moments) = row(k);
                work.call.statistics.set(r + k, moments.mean(), moments.rstd());
                match self.affine {
                    Some(_) => work.keep_sum(isa, r + k, 0..n, row),
                    None => work.finish_part(isa, r + k, 0..n, row, moments),
                }
            }
            let Some(affine) = self.affine else { return };
            if R == 2 && work.are_even(r) {
                return work.finish_two(isa, r, [row(0), row(1)], affine, ahead);
            }
            for k in 0..R {
                work.finish(isa, r + k, row(k), affine, ahead.map(|ahead| ahead + k));
            }
        }
    }
}

impl Work {
    /// Whether the last pass can go over whole rows: results need not pass through scratch memory, and it has room for
    /// what must be widened of gamma and beta.
    #[inline(always)]
    fn is_finished_whole(&self) -> bool {
        let Call { n, y, gamma, beta, .. } = self.call;
        let f32s = |values: Option<TypedPtr>| values.is_none_or(|values| values.dtype() == Dtype::F32);
        y.is_dense() && (n.n <= self.places.room || f32s(gamma) && f32s(beta))
    }

    /// Rows that do not, a piece at a time, which is brought for each pass.
    #[inline(always)]
    fn pieces<I: Isa>(&self, isa: I) {
        let Call { norm, n, eps, statistics, .. } = self.call;
        let places = self.places;
        let zero = isa.splat_lanes64(0.0);
        let (piece, room) = (places.start, places.room);
        for r in self.rows.clone() {
            // SAFETY: (Call) gives the row a place in the statistics, and n elements of each operand. A piece has up to
            // `room` elements, and all but the last are whole blocks of 64. A piece of an output is written when the
            // last pass has read that piece of the inputs.
            unsafe {
                let c = self.call.first(r);
                let mut moments = Moments::default();
                for pass in 0..3 {
                    if norm == Norm::Rms && pass == 1 {
                        continue;
                    }
                    let (mut lanes, mut powers) = (zero, [zero; 2]);
                    for start in (0..n.n).step_by(room) {
                        let columns = start..n.n.min(start + room);
                        lanes = self.begin(isa, r, columns.clone(), (c, lanes), piece);
                        match pass {
                            0 => {}
                            1 => powers = row::powers(isa, powers, columns.len(), piece.cast_const(), moments.m, []),
                            _ => self.finish_part(isa, r, columns, piece, moments),
                        }
                    }
                    match pass {
                        0 => moments = self.call.reduce(isa, c, lanes),
                        1 => moments = moments.about(isa, n, powers, eps),
                        _ => {}
                    }
                }
                statistics.set(r, moments.mean(), moments.rstd());
            }
        }
    }

    /// The first pass over some columns of row `r`, on top of the `lanes` so far: they are left at `row` as f32, the
    /// residual added.
    ///
    /// # Safety
    /// (Call), for this row; `row` has room for the columns, and unless they lie side by side there are at most `room`.
    #[inline(always)]
    unsafe fn begin<I: Isa>(
        &self,
        isa: I,
        r: usize,
        columns: Range<usize>,
        (c, lanes): (f32, I::Lanes64),
        row: *mut f32,
    ) -> I::Lanes64 {
        let (n, start) = (columns.len(), columns.start);
        let Call { norm, x, residual, .. } = self.call;
        let at = |matrix: Raw| matrix.at(r, start);
        let first = First { norm, n, c };
        // SAFETY: the caller's promise.
        unsafe {
            match residual {
                None if x.is_dense() => {
                    let x = at(x);
                    if x.address() == row.cast_const().cast() {
                        first.pass(isa, lanes, x.cast::<f32>(), Nowhere)
                    } else {
                        typed!(x.dtype(), X => first.pass(isa, lanes, x.cast::<X>(), row))
                    }
                }
                Some(residual) if x.is_dense() && residual.is_dense() && x.dtype() == residual.dtype() => {
                    let (x, residual) = (at(x), at(residual));
                    typed!(x.dtype(), X => first.pass(isa, lanes, Sum(x.cast::<X>(), residual.cast::<X>()), row))
                }
                _ => {
                    let (from, stride, x) = (at(x), x.col_stride, row.cast_const());
                    // A row may be its own home.
                    if from.address() != x.cast() {
                        from.read(isa, stride, n, row);
                    }
                    match residual {
                        None => first.pass(isa, lanes, x, Nowhere),
                        Some(residual) => {
                            let place = self.places.passing();
                            at(residual).read(isa, residual.col_stride, n, place);
                            first.pass(isa, lanes, Sum(x, place.cast_const()), row)
                        }
                    }
                }
            }
        }
    }

    /// Whether rows `r` and `r + 1` of `y` begin alike, so that the last pass can go over both in step.
    #[inline(always)]
    fn are_even(&self, r: usize) -> bool {
        let y = self.call.y;
        typed!(y.dtype(), Y => {
            let [one, two] = [r, r + 1].map(|r| row::head::<Y>(y.at(r, 0).cast::<Y>()));
            one == two
        })
    }

    /// The last pass over row `r`, which [`begin`](Self::begin) has left at `row`; with gamma and beta of all columns.
    /// Asks for the row `ahead`, if there is one.
    ///
    /// # Safety
    /// (Call), for this row, and the elements of `y` lie side by side.
    #[inline(always)]
    unsafe fn finish<I: Isa>(
        &self,
        isa: I,
        r: usize,
        (row, moments): (*const f32, Moments),
        affine: Affine<f32>,
        ahead: Option<usize>,
    ) {
        let Call { x, residual, y, n: Length { n, .. }, .. } = self.call;
        let to = y.at(r, 0);
        let streams = self.streams(to, row);
        // SAFETY: the caller's promise.
        typed!(to.dtype(), Y => unsafe {
            let rows = [(row, to.cast::<Y>().cast_mut(), moments)];
            match (ahead, residual) {
                (None, _) => row::normalise(isa, n, rows, streams, affine, []),
                (Some(a), None) => row::normalise(isa, n, rows, streams, affine, [x.at(a, 0)]),
                (Some(a), Some(b)) => row::normalise(isa, n, rows, streams, affine, [x.at(a, 0), b.at(a, 0)]),
            }
        })
    }

    /// [`finish`](Self::finish) of the rows `r` and `r + 1`, which [`are_even`](Self::are_even). Asks for two rows ahead.
    ///
    /// # Safety
    /// As there, for both.
    #[inline(always)]
    unsafe fn finish_two<I: Isa>(
        &self,
        isa: I,
        r: usize,
        [one, two]: [(*const f32, Moments); 2],
        affine: Affine<f32>,
        ahead: Option<usize>,
    ) {
        let Call { x, residual, y, n: Length { n, .. }, .. } = self.call;
        let to = [y.at(r, 0), y.at(r + 1, 0)];
        let streams = self.streams(to[0], one.0);
        // What is asked for where nothing is ahead is near already.
        let a = ahead.unwrap_or(r);
        // SAFETY: the caller's promise.
        typed!(y.dtype(), Y => unsafe {
            let to = to.map(|to| to.cast::<Y>().cast_mut());
            let rows = [(one.0, to[0], one.1), (two.0, to[1], two.1)];
            let [x, next] = [x.at(a, 0), x.at(a + 1, 0)];
            match residual {
                None => row::normalise(isa, n, rows, streams, affine, [x, next]),
                Some(b) => row::normalise(isa, n, rows, streams, affine, [x, next, b.at(a, 0), b.at(a + 1, 0)]),
            }
        })
    }

    /// Whether a row of `y` is written around the caches; what was kept there is in one already.
    #[inline(always)]
    fn streams(&self, y: TypedPtr, kept: *const f32) -> bool {
        self.call.streams && y.address() != kept.cast()
    }

    /// The sum, where it is wanted, of some columns of row `r`, which [`begin`](Self::begin) has left at `row`.
    ///
    /// # Safety
    /// (Call), for this row and these columns.
    #[inline(always)]
    unsafe fn keep_sum<I: Isa>(&self, isa: I, r: usize, columns: Range<usize>, row: *const f32) {
        let Some(sum) = self.call.sum else { return };
        let to = sum.at(r, columns.start);
        if to.address() != row.cast() {
            // SAFETY: the caller's promise.
            unsafe { to.write(isa, sum.col_stride, columns.len(), row) };
        }
    }

    /// [`finish`](Self::finish) of some columns, in parts for which there is room in scratch memory.
    ///
    /// # Safety
    /// (Call), for this row and these columns.
    #[inline(always)]
    unsafe fn finish_part<I: Isa>(&self, isa: I, r: usize, columns: Range<usize>, row: *const f32, moments: Moments) {
        let (y, room) = (self.call.y, self.places.room);
        // SAFETY: the caller's promise; a part has at most `room` elements.
        unsafe {
            self.keep_sum(isa, r, columns.clone(), row);
            for start in columns.clone().step_by(room) {
                let row = row.add(start - columns.start);
                let columns = start..columns.end.min(start + room);
                let (to, n) = (y.at(r, start), columns.len());
                let affine = self.call.affine(isa, columns.clone(), self.places);
                if y.is_dense() {
                    typed!(to.dtype(), Y => {
                        let to = to.cast::<Y>().cast_mut();
                        row::normalise(isa, n, [(row, to, moments)], false, affine, []);
                    });
                } else {
                    let place = self.places.passing();
                    row::normalise(isa, n, [(row, place, moments)], false, affine, []);
                    to.write(isa, y.col_stride, n, place);
                }
            }
        }
    }
}
