//! Batches: matrices of one shape at a fixed distance from each other.

use crate::{Error, MatMut, MatRef, layout};
use std::{fmt, marker::PhantomData};

/// `count` matrices of one shape over a borrowed slice: element (b, i, j) lies
/// `b * strides[0] + i * strides[1] + j * strides[2]` elements after (0, 0, 0).
///
/// Strides may have any sign and may be zero: with a batch stride of zero all matrices are the same one. Every
/// element lies in the slice; that was checked when the view was built.
///
/// ```
/// use gristmill_core::{BatchRef, MatRef};
///
/// let data = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
/// let batch = BatchRef::new(&data, [3, 1, 2])?;
/// assert_eq!(batch.get(2).map(|m| m.at(0, 1)), Some(6.0));
/// let same = BatchRef::broadcast(MatRef::new(&data, 2, 3)?, 100);
/// assert_eq!(same.get(99).map(|m| m.at(1, 0)), Some(4.0));
/// # Ok::<(), gristmill_core::Error>(())
/// ```
pub struct BatchRef<'a, T> {
    start: *const T,
    sizes: [usize; 3],
    strides: [isize; 3],
    life: PhantomData<&'a T>,
}

/// `count` matrices of one shape over an exclusively borrowed slice. As [`BatchRef`], and no two elements share an
/// address.
pub struct BatchMut<'a, T> {
    start: *mut T,
    sizes: [usize; 3],
    strides: [isize; 3],
    life: PhantomData<&'a mut T>,
}

// SAFETY: a BatchRef is a `&[T]` with strides, and nothing else.
unsafe impl<T: Sync> Send for BatchRef<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for BatchRef<'_, T> {}
// SAFETY: a BatchMut is a `&mut [T]` with strides, and nothing else.
unsafe impl<T: Send> Send for BatchMut<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for BatchMut<'_, T> {}

impl<T> Clone for BatchRef<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for BatchRef<'_, T> {}

impl<'a, T> BatchRef<'a, T> {
    /// Row-major matrices, one after the other, `[count, rows, cols]`.
    ///
    /// # Errors
    /// [`Error::LengthTooShort`], [`Error::SizeOverflow`].
    pub fn new(data: &'a [T], sizes: [usize; 3]) -> Result<Self, Error> {
        layout::check_len(data.len(), sizes)?;
        Ok(Self { start: data.as_ptr(), sizes, strides: layout::contiguous(sizes), life: PhantomData })
    }

    /// Element (b, i, j) is `data[offset + b * strides[0] + i * strides[1] + j * strides[2]]`.
    ///
    /// # Errors
    /// [`Error::OutOfBounds`], [`Error::SizeOverflow`].
    pub fn strided(data: &'a [T], offset: usize, sizes: [usize; 3], strides: [isize; 3]) -> Result<Self, Error> {
        let strides = layout::check_bounds(data.len(), offset, sizes, strides)?;
        Ok(Self { start: data.as_ptr().wrapping_add(offset), sizes, strides, life: PhantomData })
    }

    /// The same matrix `count` times.
    pub fn broadcast(matrix: MatRef<'a, T>, count: usize) -> Self {
        let (sizes, strides) = ([count, matrix.rows(), matrix.cols()], [0, matrix.row_stride(), matrix.col_stride()]);
        Self { start: matrix.as_ptr(), sizes, strides, life: PhantomData }
    }

    /// Number of matrices.
    #[inline]
    pub fn count(&self) -> usize {
        self.sizes[0]
    }

    /// Rows of each matrix.
    #[inline]
    pub fn rows(&self) -> usize {
        self.sizes[1]
    }

    /// Columns of each matrix.
    #[inline]
    pub fn cols(&self) -> usize {
        self.sizes[2]
    }

    /// Elements from one matrix, row, column to the next.
    #[inline]
    pub fn strides(&self) -> [isize; 3] {
        self.strides
    }

    /// Matrix `b`, if there is one.
    #[inline]
    pub fn get(&self, b: usize) -> Option<MatRef<'a, T>> {
        let ([count, rows, cols], [batch, row, col]) = (self.sizes, self.strides);
        let start = self.start.wrapping_offset(layout::offset([b], [batch]));
        (b < count).then(|| MatRef::checked(start, [rows, cols], [row, col]))
    }

    /// Every matrix with rows and columns exchanged.
    #[inline]
    pub fn transposed(self) -> Self {
        let ([count, rows, cols], [batch, row, col]) = (self.sizes, self.strides);
        Self { sizes: [count, cols, rows], strides: [batch, col, row], ..self }
    }
}

impl<'a, T> BatchMut<'a, T> {
    /// Row-major matrices, one after the other, `[count, rows, cols]`.
    ///
    /// # Errors
    /// [`Error::LengthTooShort`], [`Error::SizeOverflow`].
    pub fn new(data: &'a mut [T], sizes: [usize; 3]) -> Result<Self, Error> {
        layout::check_len(data.len(), sizes)?;
        Ok(Self { start: data.as_mut_ptr(), sizes, strides: layout::contiguous(sizes), life: PhantomData })
    }

    /// Element (b, i, j) is `data[offset + b * strides[0] + i * strides[1] + j * strides[2]]`.
    ///
    /// A dimension of one element may have any stride. Otherwise strides must be positive, and each must step over
    /// everything that the smaller ones reach.
    ///
    /// # Errors
    /// [`Error::OverlappingOutput`], [`Error::OutOfBounds`], [`Error::SizeOverflow`].
    pub fn strided(data: &'a mut [T], offset: usize, sizes: [usize; 3], strides: [isize; 3]) -> Result<Self, Error> {
        let strides = layout::check_bounds(data.len(), offset, sizes, strides)?;
        layout::check_distinct(sizes, strides)?;
        Ok(Self { start: data.as_mut_ptr().wrapping_add(offset), sizes, strides, life: PhantomData })
    }

    /// Number of matrices.
    #[inline]
    pub fn count(&self) -> usize {
        self.sizes[0]
    }

    /// Rows of each matrix.
    #[inline]
    pub fn rows(&self) -> usize {
        self.sizes[1]
    }

    /// Columns of each matrix.
    #[inline]
    pub fn cols(&self) -> usize {
        self.sizes[2]
    }

    /// Elements from one matrix, row, column to the next.
    #[inline]
    pub fn strides(&self) -> [isize; 3] {
        self.strides
    }

    /// Matrix `b`, if there is one.
    #[inline]
    pub fn get(&mut self, b: usize) -> Option<MatMut<'_, T>> {
        let ([count, rows, cols], [batch, row, col]) = (self.sizes, self.strides);
        let start = self.start.wrapping_offset(layout::offset([b], [batch]));
        (b < count).then_some(MatMut { start, shape: [rows, cols], strides: [row, col], life: PhantomData })
    }
}

impl<T> fmt::Debug for BatchRef<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut s = f.debug_struct("BatchRef");
        s.field("sizes", &self.sizes).field("strides", &self.strides).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for BatchMut<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut s = f.debug_struct("BatchMut");
        s.field("sizes", &self.sizes).field("strides", &self.strides).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matrices_lie_where_the_strides_say() -> Result<(), Error> {
        let data: Vec<i32> = (0..60).collect();
        let batch = BatchRef::strided(&data, 59, [3, 2, 4], [-20, -4, -1])?;
        let second = batch.get(1).unwrap();
        assert_eq!([second.at(0, 0), second.at(1, 3)], [39, 32]);
        assert_eq!(batch.transposed().get(1).unwrap().at(3, 1), 32);
        assert!(batch.get(3).is_none());
        assert_eq!(BatchRef::strided(&data, 0, [3, 2, 4], [20, 4, 5]).map(|_| ()), Ok(()));
        let outside = Error::OutOfBounds { first: 0, last: 60, len: 60 };
        assert_eq!(BatchRef::strided(&data, 0, [3, 2, 4], [20, 2, 6]).map(|_| ()), Err(outside));
        Ok(())
    }

    #[test]
    fn outputs_do_not_overlap() -> Result<(), Error> {
        let mut data = [0; 24];
        let mut batch = BatchMut::new(&mut data, [2, 3, 4])?;
        batch.get(1).unwrap().set(2, 3, 7);
        assert!(batch.get(2).is_none());
        assert_eq!(data[23], 7);
        let same = BatchMut::strided(&mut data, 0, [2, 3, 4], [0, 4, 1]).map(|_| ());
        assert_eq!(same, Err(Error::OverlappingOutput { stride: 0, least: 1 }));
        assert!(BatchMut::strided(&mut data, 0, [2, 3, 2], [2, 4, 1]).is_ok());
        assert!(BatchMut::strided(&mut data, 0, [2, 3, 4], [2, 4, 1]).is_err());
        Ok(())
    }
}
