//! Rows of one storage type throughout, without a residual: every pass reads them where they lie, gamma and beta too.

use crate::call::{Call, Norm, Statistics};
use crate::ends::Nowhere;
use crate::narrow;
use crate::passes::{self, Passes};
use crate::row::{self, Affine, Length, Moments};
use gristmill_simd::{Dtype, Element, Isa, Kernel, Simd, TypedPtr, typed};
use std::ops::Range;

impl Call {
    /// The type of all operands, where there is one and the elements of a row lie side by side.
    #[inline(always)]
    pub(crate) fn uniform(&self) -> Option<Dtype> {
        let Self { x, residual, sum, y, gamma, beta, .. } = self;
        let dtype = x.dtype();
        let same = |values: &Option<TypedPtr>| values.is_none_or(|values| values.dtype() == dtype);
        let dense = x.is_dense() && y.is_dense();
        let uniform = dense && residual.is_none() && sum.is_none() && y.dtype() == dtype && same(gamma) && same(beta);
        uniform.then_some(dtype)
    }
}

/// Runs some rows of a call whose operands are all of type `dtype`.
///
/// # Safety
/// (Call), nobody else works on these rows, and `dtype` is what [`Call::uniform`] says.
pub(crate) unsafe fn run(call: &Call, dtype: Dtype, simd: Simd, rows: Range<usize>) {
    typed!(dtype, T => {
        let values = |p: Option<TypedPtr>| p.map(TypedPtr::cast::<T>);
        let &Call { norm, n, eps, x, y, statistics, streams, .. } = call;
        let (affine, strides) = (Affine::new(values(call.gamma), values(call.beta)), [x.row_stride, y.row_stride]);
        let (x, y) = (x.at(0, 0).cast::<T>(), y.at(0, 0).cast::<T>().cast_mut());
        let uniform = Uniform { norm, n, eps, x, y, strides, affine, statistics, streams };
        if rows.len() == 1 && !streams {
            simd.run(One { call: &uniform, r: rows.start });
        } else {
            simd.run(Rows { call, uniform, rows });
        }
    });
}

/// Runs the only row of a call of f32.
///
/// # Safety
/// (Call).
pub(crate) unsafe fn one(call: &Uniform<f32>, simd: Simd) {
    simd.run(One { call, r: 0 });
}

/// A row for which the promise of [`run`] holds, and which does not stream.
struct One<'c, T> {
    call: &'c Uniform<T>,
    r: usize,
}

impl<T: Element> Kernel for One<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        // SAFETY: the row is the call's, and nobody else works on it.
        unsafe { passes::single(isa, Uniform { streams: false, ..*self.call }, self.r) }
    }
}

/// Some rows for which the promise of [`run`] holds.
struct Rows<'c, T> {
    call: &'c Call,
    uniform: Uniform<T>,
    rows: Range<usize>,
}

impl<T: Element> Kernel for Rows<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Self { call, uniform, mut rows } = self;
        let n = uniform.n.n;
        // Of other types only long rows come here.
        if T::DTYPE == Dtype::F32 && n <= narrow::WIDEST {
            // SAFETY: (Call).
            rows.start = unsafe { narrow::blocks(isa, &call.of_f32s(), rows.clone()) };
        }
        // SAFETY: the rows are the call's, and nobody else works on them.
        unsafe { passes::all(isa, uniform, rows, [call.rows, n]) }
    }
}

/// The arguments of a call whose operands are all of type `T`, the elements of a row side by side.
///
/// Whoever runs it promises (Call) of these operands.
#[derive(Clone, Copy)]
pub(crate) struct Uniform<T> {
    pub(crate) norm: Norm,
    pub(crate) n: Length,
    pub(crate) eps: f32,
    pub(crate) x: *const T,
    pub(crate) y: *mut T,
    /// From row to row of both.
    pub(crate) strides: [isize; 2],
    pub(crate) affine: Affine<T>,
    pub(crate) statistics: Statistics,
    /// As [`Call::streams`].
    pub(crate) streams: bool,
}

impl<T> Uniform<T> {
    #[inline(always)]
    fn x(&self, r: usize) -> *const T {
        self.x.wrapping_offset((r as isize).wrapping_mul(self.strides[0]))
    }
    /// What is asked for of a row.
    #[inline(always)]
    fn ask(&self, r: Option<usize>) -> Option<TypedPtr>
    where
        T: Element,
    {
        r.map(|r| TypedPtr::new(self.x(r)))
    }
    #[inline(always)]
    fn y(&self, r: usize) -> *mut T {
        self.y.wrapping_offset((r as isize).wrapping_mul(self.strides[1]))
    }
}

impl<I: Isa, T: Element> Passes<I> for Uniform<T> {
    const PAIRS: bool = false;

    #[inline(always)]
    fn take_turns(&self, l1d: usize) -> bool {
        // This row, the next one, the one that is asked for, gamma, beta, and y.
        let rows = if self.streams { 5 } else { 6 };
        self.norm == Norm::Rms || rows * self.n.n * size_of::<T>() < l1d
    }

    #[inline(always)]
    fn streams(&self) -> bool {
        T::DTYPE == Dtype::F32 && self.streams
    }

    #[inline(always)]
    unsafe fn begin(&self, isa: I, r: usize) -> Moments {
        let (&Self { norm, n, eps, .. }, x, zero) = (self, self.x(r), isa.splat_lanes64(0.0));
        // SAFETY: (Call): the row has n elements, of which there is at least one.
        unsafe {
            match norm {
                Norm::Layer => {
                    let c = (*x).to_f32();
                    Moments::first(isa, n, c, row::differences(isa, zero, n.n, (x, Nowhere), c))
                }
                Norm::Rms => Moments::of_squares(isa, n, row::squares(isa, zero, n.n, (x, Nowhere)), eps),
            }
        }
    }

    #[inline(always)]
    unsafe fn prepare(&mut self, _: I) {}

    #[inline(always)]
    unsafe fn moments(&self, isa: I, r: usize, begun: Moments, ahead: Option<usize>) -> Moments {
        let (&Self { norm, n, eps, .. }, x) = (self, self.x(r));
        // SAFETY: (Call): the row has n elements.
        unsafe {
            match (norm, self.ask(ahead)) {
                (Norm::Rms, _) => begun,
                (Norm::Layer, None) => begun.second(isa, n, x, eps, []),
                (Norm::Layer, Some(ahead)) => begun.second(isa, n, x, eps, [ahead]),
            }
        }
    }

    #[inline(always)]
    unsafe fn finish<const R: usize>(&self, isa: I, r: usize, moments: [Moments; R], ahead: Option<usize>) {
        let (n, streams, affine) = (self.n.n, self.streams, self.affine);
        for (k, moments) in moments.into_iter().enumerate() {
            let row = [(self.x(r + k), self.y(r + k), moments)];
            // SAFETY: (Call): the row has n elements, and so have gamma and beta; there is a place in the statistics.
            unsafe {
                self.statistics.set(r + k, moments.mean(), moments.rstd());
                match self.ask(ahead.map(|ahead| ahead + k)) {
                    None => row::normalise(isa, n, row, streams, affine, []),
                    Some(ahead) => row::normalise(isa, n, row, streams, affine, [ahead]),
                }
            }
        }
    }
}
