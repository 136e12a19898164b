//! A block of rows, one after the other, each while it is in the nearest cache.

use crate::operand::{Contiguous, Nowhere, Sink, Source, Strided, Sum};
use crate::row::{self, Affine, Length};
use gristmill_simd::{Isa, Kernel, Simd};
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

impl Raw<*mut f32> {
    /// The same memory, to be read.
    pub(crate) fn as_input(self) -> Raw<*const f32> {
        Raw { start: self.start.cast_const(), row_stride: self.row_stride, col_stride: self.col_stride }
    }
}

/// The arguments of a call.
///
/// Whoever runs it promises **(Call)**: every matrix has `n >= 1` columns and the rows that are run; any two are the
/// same memory, element for element, or do not overlap, and the outputs are exclusively the caller's; gamma and
/// beta, where present, have `n` elements.
#[derive(Clone, Copy)]
pub(crate) struct Call {
    pub(crate) x: Raw<*const f32>,
    pub(crate) residual: Option<Raw<*const f32>>,
    pub(crate) y: Raw<*mut f32>,
    pub(crate) sum: Option<Raw<*mut f32>>,
    pub(crate) arithmetic: Arithmetic,
}

/// What is the same for all rows.
#[derive(Clone, Copy)]
pub(crate) struct Arithmetic {
    pub(crate) n: Length,
    pub(crate) affine: Affine,
    pub(crate) eps: f32,
}

// SAFETY: (Call) is about exclusive outputs and shared inputs of plain numbers, whichever thread runs it.
unsafe impl Send for Call {}
// SAFETY: as above; running only reads the call itself.
unsafe impl Sync for Call {}

impl Call {
    /// Runs some of the rows.
    ///
    /// # Safety
    /// (Call), and nobody else works on these rows.
    pub(crate) unsafe fn run(&self, simd: Simd, rows: Range<usize>) {
        let &Call { x, residual, y, sum, arithmetic: ref shared } = self;
        // A kernel of its own for each kind of call: the plain ones stay small.
        match (self.is_contiguous(), residual, sum) {
            (true, None, _) => simd.run(shared.block(rows, x.contiguous(), y.contiguous(), Nowhere)),
            (true, Some(r), None) => {
                simd.run(shared.block(rows, Sum(x.contiguous(), r.contiguous()), y.contiguous(), Nowhere));
            }
            (true, Some(r), Some(sum)) => {
                simd.run(shared.block(rows, Sum(x.contiguous(), r.contiguous()), y.contiguous(), sum.contiguous()));
            }
            (false, None, _) => simd.run(shared.block(rows, x.strided(), y.strided(), Nowhere)),
            (false, Some(r), None) => simd.run(shared.block(rows, Sum(x.strided(), r.strided()), y.strided(), Nowhere)),
            (false, Some(r), Some(sum)) => {
                simd.run(shared.block(rows, Sum(x.strided(), r.strided()), y.strided(), sum.strided()));
            }
        }
    }

    fn is_contiguous(&self) -> bool {
        let inputs = [Some(self.x), self.residual].into_iter().flatten().all(|a| a.col_stride == 1);
        let outputs = [Some(self.y), self.sum].into_iter().flatten().all(|a| a.col_stride == 1);
        self.arithmetic.n.n == 1 || (inputs && outputs)
    }
}

impl Arithmetic {
    fn block<X, Y, Z>(&self, rows: Range<usize>, x: X, y: Y, sum: Z) -> Block<'_, X, Y, Z> {
        Block { x, y, sum, arithmetic: self, rows }
    }
}

/// Some rows of a [`Call`], for which (Call) holds.
struct Block<'a, X, Y, Z> {
    x: X,
    y: Y,
    sum: Z,
    arithmetic: &'a Arithmetic,
    rows: Range<usize>,
}

impl<X: Source, Y: Sink, Z: Sink> Kernel for Block<'_, X, Y, Z> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
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
fn pipeline<I: Isa, X: Source, Y: Sink, Z: Sink>(isa: I, block: Block<'_, X, Y, Z>, work: impl Work<X>) {
    let Block { x, y, sum, arithmetic: &Arithmetic { n, affine, eps }, rows } = block;
    if rows.is_empty() {
        return;
    }
    // A few rows ahead is far enough; a long row needs no help.
    let distance = AHEAD.div_ceil(n.n);
    // SAFETY: (Call) gives every row n elements of each operand. The first pass fills the kept row before the
    // others read it, and its place is not reused before the row is done. Loading the next row before this one is
    // stored is harmless: they do not overlap.
    unsafe {
        let mut m = row::mean(isa, n, x.row(rows.start), work.keep(rows.start));
        for r in rows.clone() {
            let again = work.again(x.row(r), r);
            let moments = row::moments(isa, n, again, m, eps);
            if r + 1 < rows.end {
                m = row::mean(isa, n, x.row(r + 1), work.keep(r + 1));
            }
            let ahead = (n.n <= KEPT && r + distance < rows.end).then(|| x.row(r + distance));
            row::normalise(isa, n.n, (again, y.row(r), sum.row(r)), moments, affine, ahead);
        }
    }
}

/// Elements between what is being finished and what is being fetched.
const AHEAD: usize = 2048;
