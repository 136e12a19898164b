//! Operands whose storage type is known at run time: the loops around the tiles are compiled once, not once for every
//! mix of types.

use gristmill_core::{MatMut, MatRef};
pub use gristmill_simd::TypedPtr;
pub(crate) use gristmill_simd::typed;
use gristmill_simd::{Dtype, Element, bf16};
use std::{marker::PhantomData, ops::Range};

/// The values as bf16, if they are.
pub(crate) fn as_bf16<B: Element>(values: &mut [B]) -> Option<&mut [bf16]> {
    // SAFETY: B is bf16.
    (B::DTYPE == Dtype::Bf16).then(|| unsafe { &mut *(values as *mut [B] as *mut [bf16]) })
}

/// A matrix of some storage type: a view without its type.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operand<'a> {
    start: TypedPtr,
    pub(crate) shape: [usize; 2],
    pub(crate) strides: [isize; 2],
    life: PhantomData<&'a ()>,
}

// SAFETY: an operand is a view of slices whose elements may be shared and sent.
unsafe impl Sync for Operand<'_> {}

impl<'a, T: Element> From<MatRef<'a, T>> for Operand<'a> {
    fn from(m: MatRef<'a, T>) -> Self {
        let (shape, strides) = ([m.rows(), m.cols()], [m.row_stride(), m.col_stride()]);
        Self { start: TypedPtr::new(m.as_ptr()), shape, strides, life: PhantomData }
    }
}

impl<'a, T: Element> From<MatMut<'a, T>> for Operand<'a> {
    fn from(mut m: MatMut<'a, T>) -> Self {
        let (shape, strides) = ([m.rows(), m.cols()], [m.row_stride(), m.col_stride()]);
        Self { start: TypedPtr::new(m.as_mut_ptr()), shape, strides, life: PhantomData }
    }
}

impl Operand<'_> {
    #[inline]
    pub(crate) fn dtype(&self) -> Dtype {
        self.start.dtype()
    }

    #[inline]
    pub(crate) fn rows(&self) -> usize {
        self.shape[0]
    }

    #[inline]
    pub(crate) fn cols(&self) -> usize {
        self.shape[1]
    }

    /// Where element (i, j) lies, or would lie if the matrix had it.
    #[inline]
    pub(crate) fn ptr_at(&self, i: usize, j: usize) -> TypedPtr {
        let [row, col] = self.strides;
        self.start.offset((i as isize).wrapping_mul(row).wrapping_add((j as isize).wrapping_mul(col)))
    }

    /// Whether every row begins at a cache line; columns that lie apart share lines with nobody.
    pub(crate) fn lines_apart(&self) -> bool {
        const LINE: usize = 64;
        let [row, col] = self.strides.map(|stride| stride.unsigned_abs() * self.dtype().size());
        col != self.dtype().size() || (self.start.address().addr().is_multiple_of(LINE) && row.is_multiple_of(LINE))
    }

    /// The same shape and strides, `n` elements further on.
    #[inline]
    pub(crate) fn shifted(self, n: isize) -> Self {
        Self { start: self.start.offset(n), ..self }
    }

    #[inline]
    pub(crate) fn transposed(self) -> Self {
        let ([rows, cols], [row, col]) = (self.shape, self.strides);
        Self { shape: [cols, rows], strides: [col, row], ..self }
    }

    /// The block of these rows and columns, which must lie in the matrix.
    #[inline]
    pub(crate) fn block(self, rows: Range<usize>, cols: Range<usize>) -> Self {
        debug_assert!(rows.end <= self.rows() && cols.end <= self.cols(), "{rows:?}, {cols:?} of {:?}", self.shape);
        Self { start: self.ptr_at(rows.start, cols.start), shape: [rows.len(), cols.len()], ..self }
    }
}
