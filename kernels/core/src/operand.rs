//! A matrix whose storage type is known at run time.

use crate::{MatMut, MatRef};
use gristmill_simd::{Bf16Magnitudes, Dtype, Element, Isa, TypedPtr};
use std::{marker::PhantomData, ops::Range};

/// A matrix of some storage type: the view of a kernel that is compiled once and not for every mix of types.
///
/// It forgets whether it was a matrix that may be written: reading and writing through [`ptr_at`](Operand::ptr_at) is
/// `unsafe`, and whoever does it says why it may.
#[derive(Clone, Copy, Debug)]
pub struct Operand<'a> {
    start: TypedPtr,
    shape: [usize; 2],
    strides: [isize; 2],
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
    /// The storage type.
    #[inline]
    pub fn dtype(&self) -> Dtype {
        self.start.dtype()
    }

    /// Rows and columns.
    #[inline]
    pub fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// Elements from a row to the next, and from a column to the next.
    #[inline]
    pub fn strides(&self) -> [isize; 2] {
        self.strides
    }

    /// Number of rows.
    #[inline]
    pub fn rows(&self) -> usize {
        self.shape[0]
    }

    /// Number of columns.
    #[inline]
    pub fn cols(&self) -> usize {
        self.shape[1]
    }

    /// Where element (i, j) lies, or would lie if the matrix had it.
    #[inline]
    pub fn ptr_at(&self, i: usize, j: usize) -> TypedPtr {
        let [row, col] = self.strides;
        self.start.offset((i as isize).wrapping_mul(row).wrapping_add((j as isize).wrapping_mul(col)))
    }

    /// The same shape and strides, `n` elements further on.
    ///
    /// # Safety
    /// Such a matrix must lie there, for as long as this one, and be the caller's as this one is.
    #[inline]
    pub unsafe fn shifted(self, n: isize) -> Self {
        Self { start: self.start.offset(n), ..self }
    }

    /// The transpose, without moving anything.
    #[inline]
    pub fn transposed(self) -> Self {
        let ([rows, cols], [row, col]) = (self.shape, self.strides);
        Self { shape: [cols, rows], strides: [col, row], ..self }
    }

    /// The block of these rows and columns.
    ///
    /// # Panics
    /// If the matrix does not have them.
    #[inline]
    pub fn block(self, rows: Range<usize>, cols: Range<usize>) -> Self {
        assert!(rows.end <= self.rows() && cols.end <= self.cols(), "{rows:?}, {cols:?} of {:?}", self.shape);
        Self { start: self.ptr_at(rows.start, cols.start), shape: [rows.len(), cols.len()], ..self }
    }

    /// Whether every row begins at a cache line; columns that lie apart share lines with nobody.
    pub fn lines_apart(&self) -> bool {
        const LINE: usize = 64;
        let [row, col] = self.strides.map(|stride| stride.unsigned_abs() * self.dtype().size());
        col != self.dtype().size()
            || (self.ptr_at(0, 0).address().addr().is_multiple_of(LINE) && row.is_multiple_of(LINE))
    }

    /// The magnitudes of a bf16 matrix.
    ///
    /// # Panics
    /// If it is of another type.
    pub fn bf16_magnitudes<I: Isa>(&self, isa: I) -> Bf16Magnitudes {
        assert_eq!(self.dtype(), Dtype::Bf16, "storage type");
        let m = if self.strides[0] == 1 { self.transposed() } else { *self };
        let ([rows, cols], [row, col]) = (m.shape, m.strides);
        // Values that lie side by side are looked at together.
        let (rows, together) = match (row, col) {
            (_, 1) if row == cols as isize => (1, rows * cols),
            (_, 1) => (rows, cols),
            _ => (rows, 1),
        };
        let starts =
            (0..rows).flat_map(|i| (0..cols).step_by(if col == 1 { cols.max(1) } else { 1 }).map(move |j| (i, j)));
        starts.fold(Bf16Magnitudes::NONE, |all, (i, j)| {
            // SAFETY: from (i, j) on so many values lie side by side.
            all.and(Bf16Magnitudes::of(isa, unsafe { std::slice::from_raw_parts(m.ptr_at(i, j).cast(), together) }))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "0..3, 1..2 of [2, 4]")]
    fn a_block_outside_the_matrix_is_refused() {
        let values = [0.0f32; 8];
        let matrix = Operand::from(MatRef::new(&values, 2, 4).unwrap());
        assert_eq!(matrix.block(1..2, 1..4).shape(), [1, 3]);
        matrix.block(0..3, 1..2);
    }
}
