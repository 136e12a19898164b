//! A block of rows, one after the other, each while it is in the nearest cache.

use crate::call::Norm;
use crate::narrow;
use crate::operand::{Contiguous, Maybe, Nowhere, Sink, Source, Strided, Sum};
use crate::row::{self, Affine, Length, Moments};
use gristmill_core::SendPtr;
use gristmill_simd::{Element, Isa, Kernel, Simd};
use std::{mem::MaybeUninit, ops::Range};

/// A matrix without its borrow: where it starts and its strides.
#[derive(Clone, Copy)]
pub(crate) struct Raw<P> {
    pub(crate) start: P,
    pub(crate) row_stride: isize,
    pub(crate) col_stride: isize,
}

impl<P: Copy> Raw<P> {
    fn contiguous(self) -> Contiguous<P> {
        Contiguous { start: self.start, row_stride: self.row_stride }
    }

    fn strided(self) -> Strided<P> {
        Strided { start: self.start, row_stride: self.row_stride, col_stride: self.col_stride }
    }
}

impl<T> Raw<*mut T> {
    /// The same memory, to be read.
    pub(crate) fn as_input(self) -> Raw<*const T> {
        Raw { start: self.start.cast_const(), row_stride: self.row_stride, col_stride: self.col_stride }
    }
}

/// The arguments of a call.
///
/// Whoever runs it promises **(Call)**: every matrix has `n >= 1` columns and the rows that are run, and so have the
/// statistics that are wanted; any two are the same memory, element for element, or do not overlap, and the outputs
/// are exclusively the caller's; gamma and beta, where present, have `n` elements.
#[derive(Clone, Copy)]
pub(crate) struct Call<X, A, Y, P> {
    pub(crate) x: Raw<*const X>,
    /// [`Alone`] or [`Added`].
    pub(crate) added: A,
    pub(crate) y: Raw<*mut Y>,
    pub(crate) statistics: Statistics,
    pub(crate) arithmetic: Arithmetic<P>,
}

/// Nothing is added to `x`.
#[derive(Clone, Copy)]
pub(crate) struct Alone;

/// What is added to `x`, and where the sum goes if it is wanted.
#[derive(Clone, Copy)]
pub(crate) struct Added<X, R> {
    pub(crate) residual: Raw<*const R>,
    pub(crate) sum: Option<Raw<*mut X>>,
}

/// Where the statistics of the rows go, when they are wanted.
#[derive(Clone, Copy)]
pub(crate) struct Statistics {
    pub(crate) mean: Option<SendPtr<f32>>,
    pub(crate) rstd: Option<SendPtr<f32>>,
}

/// What is the same for all rows.
#[derive(Clone, Copy)]
pub(crate) struct Arithmetic<P> {
    pub(crate) norm: Norm,
    pub(crate) n: Length,
    pub(crate) affine: Affine<P>,
    pub(crate) eps: f32,
}

// SAFETY: (Call) is about exclusive outputs and shared inputs of plain numbers, whichever thread runs it.
unsafe impl<X, A, Y, P> Send for Call<X, A, Y, P> {}
// SAFETY: as above; running only reads the call itself.
unsafe impl<X, A, Y, P> Sync for Call<X, A, Y, P> {}

/// The forms of a call. Each has kernels of its own: the plain ones stay small.
pub(crate) trait Form<X: Element>: Copy {
    /// Runs some of the rows.
    ///
    /// # Safety
    /// (Call), and nobody else works on these rows.
    unsafe fn run<Y: Element, P: Element>(call: &Call<X, Self, Y, P>, simd: Simd, rows: Range<usize>);
}

impl<X: Element> Form<X> for Alone {
    unsafe fn run<Y: Element, P: Element>(call: &Call<X, Self, Y, P>, simd: Simd, rows: Range<usize>) {
        let &Call { x, y, .. } = call;
        if call.are_contiguous([x.col_stride, y.col_stride]) {
            simd.run(call.block(rows, x.contiguous(), y.contiguous(), Nowhere));
        } else {
            simd.run(call.block(rows, x.strided(), y.strided(), Nowhere));
        }
    }
}

impl<X: Element, R: Element> Form<X> for Added<X, R> {
    unsafe fn run<Y: Element, P: Element>(call: &Call<X, Self, Y, P>, simd: Simd, rows: Range<usize>) {
        let &Call { x, added: Added { residual, sum }, y, .. } = call;
        let sum_stride = sum.map_or(1, |sum| sum.col_stride);
        let contiguous = call.are_contiguous([x.col_stride, residual.col_stride, y.col_stride, sum_stride]);
        match sum {
            _ if !contiguous => {
                let x = Sum(x.strided(), residual.strided());
                simd.run(call.block(rows, x, y.strided(), Maybe(sum.map(Raw::strided))));
            }
            None => {
                let x = Sum(x.contiguous(), residual.contiguous());
                simd.run(call.block(rows, x, y.contiguous(), Nowhere));
            }
            Some(sum) => {
                let x = Sum(x.contiguous(), residual.contiguous());
                simd.run(call.block(rows, x, y.contiguous(), sum.contiguous()));
            }
        }
    }
}

impl<X, A, Y, P: Copy> Call<X, A, Y, P> {
    /// Whether the elements of every row lie side by side, given the strides of the columns.
    fn are_contiguous<const N: usize>(&self, strides: [isize; N]) -> bool {
        self.arithmetic.n.n == 1 || strides.into_iter().all(|stride| stride == 1)
    }

    fn block<B, C, Z>(&self, rows: Range<usize>, x: B, y: C, sum: Z) -> Block<B, C, Z, P> {
        Block { x, y, sum, statistics: self.statistics, arithmetic: self.arithmetic, rows }
    }
}

/// Some rows of a [`Call`], for which (Call) holds.
pub(crate) struct Block<X, Y, Z, P> {
    pub(crate) x: X,
    pub(crate) y: Y,
    pub(crate) sum: Z,
    pub(crate) statistics: Statistics,
    pub(crate) arithmetic: Arithmetic<P>,
    pub(crate) rows: Range<usize>,
}

impl<X: Source, Y: Sink, Z: Sink, P: Element> Kernel for Block<X, Y, Z, P> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(mut self, isa: I) {
        if self.arithmetic.n.n <= narrow::WIDEST {
            narrow::blocks(isa, &mut self);
        }
        if X::COSTLY && self.arithmetic.n.n <= KEPT {
            let mut scratch = Scratch::new();
            pipeline(isa, self, scratch.rows());
        } else {
            pipeline(isa, self, Reread);
        }
    }
}

/// Elements of a row that is kept in scratch memory between the passes; longer rows are loaded again each time.
const KEPT: usize = 2048;

/// Two rows of scratch: the one being finished and the next one.
#[repr(align(64))]
struct Scratch([MaybeUninit<f32>; 2 * KEPT]);

impl Scratch {
    #[inline(always)]
    fn new() -> Self {
        Self([const { MaybeUninit::uninit() }; 2 * KEPT])
    }

    #[inline(always)]
    fn rows(&mut self) -> Kept {
        Kept(self.0.as_mut_ptr().cast())
    }
}

/// Where the second and third pass find the row that the first one has loaded.
trait Work<X: Source>: Copy {
    type Again: Source;
    /// Where the first pass puts row `r`.
    fn keep(self, r: usize) -> impl Sink;
    /// Where the later passes find row `r`, given where it came from.
    fn again(self, x: X, r: usize) -> Self::Again;
}

/// Rows that are cheap to load: from where they came.
#[derive(Clone, Copy)]
struct Reread;

impl<X: Source> Work<X> for Reread {
    type Again = X;
    #[inline(always)]
    fn keep(self, _: usize) -> impl Sink {
        Nowhere
    }
    #[inline(always)]
    fn again(self, x: X, _: usize) -> X {
        x
    }
}

/// Rows that are not: from a [`Scratch`], where even rows and odd rows have a place each.
#[derive(Clone, Copy)]
struct Kept(*mut f32);

impl Kept {
    #[inline(always)]
    fn place(self, r: usize) -> *mut f32 {
        self.0.wrapping_add(r % 2 * KEPT)
    }
}

impl<X: Source> Work<X> for Kept {
    type Again = Contiguous<*const f32>;
    #[inline(always)]
    fn keep(self, r: usize) -> impl Sink {
        Contiguous { start: self.place(r), row_stride: 0 }
    }
    #[inline(always)]
    fn again(self, _: X, r: usize) -> Contiguous<*const f32> {
        Contiguous { start: self.place(r).cast_const(), row_stride: 0 }
    }
}

/// The first pass of a row runs between the second and the third of the row before it: each fills the time in which
/// the other's sum is being reduced to a number.
#[inline(always)]
fn pipeline<I: Isa, X: Source, Y: Sink, Z: Sink, P: Element>(isa: I, block: Block<X, Y, Z, P>, work: impl Work<X>) {
    let Block { x, y, sum, statistics, arithmetic: Arithmetic { norm, n, affine, eps }, rows } = block;
    // Some rows ahead of the first pass, which is one ahead of the last.
    let distance = 1 + AHEAD.div_ceil(n.n);
    let mut m = 0.0;
    for next in rows.start..rows.end + 1 {
        // The row to finish, and the row to begin; at the ends there is only one of them.
        let (this, first, last) = (next.wrapping_sub(1), next == rows.start, next == rows.end);
        // SAFETY: (Call) gives every row n elements of each operand, and a place in the statistics. The first pass
        // fills the kept row before the others read it, and its place is not reused before the row is done. Loading
        // the next row before this one is stored is harmless: they do not overlap.
        unsafe {
            let again = work.again(x.row(this), this);
            let mut moments = Moments::default();
            if !first {
                moments = match norm {
                    Norm::Layer => row::moments(isa, n, again, m, eps),
                    Norm::Rms => row::mean_square(isa, n, x.row(this), work.keep(this), eps),
                };
                statistics.set(this, moments.mean(), moments.rstd());
            }
            if norm == Norm::Layer && !last {
                m = row::mean(isa, n, x.row(next), work.keep(next));
            }
            if !first {
                let ahead = (n.n <= FETCHED && this + distance < rows.end).then(|| x.row(this + distance));
                row::normalise(isa, n.n, (again, y.row(this), sum.row(this)), moments, affine, ahead);
            }
        }
    }
}

impl Statistics {
    /// # Safety
    /// (Call): there is a row `r`.
    #[inline(always)]
    pub(crate) unsafe fn set(self, r: usize, mean: f32, rstd: f32) {
        for (values, value) in [(self.mean, mean), (self.rstd, rstd)] {
            if let Some(values) = values {
                // SAFETY: the caller's promise.
                unsafe { values.get().add(r).write(value) };
            }
        }
    }
}

/// Elements between what is in the first pass and what is being fetched.
const AHEAD: usize = 2048;

/// Longest row that is fetched while an earlier one is finished: several have room in the second cache.
const FETCHED: usize = 16 << 10;
