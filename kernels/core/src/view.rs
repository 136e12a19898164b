//! Matrices over slices.

use crate::{Error, SendPtr, SharedMat, layout};
use std::{fmt, marker::PhantomData, ops::Range};

/// A matrix over a borrowed slice: element (i, j) lies `i * row_stride + j * col_stride` elements after (0, 0).
///
/// Strides may have any sign and may be zero. Every element lies in the slice; that was checked when the view was
/// built.
///
/// ```
/// use gristmill_core::MatRef;
///
/// let data = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
/// let a = MatRef::new(&data, 2, 3)?;
/// assert_eq!(a.at(1, 0), 4.0);
/// assert_eq!(a.transposed().at(2, 1), 6.0);
/// let reversed = MatRef::strided(&data, 5, [2, 3], [-3, -1])?;
/// assert_eq!(reversed.at(0, 0), 6.0);
/// # Ok::<(), gristmill_core::Error>(())
/// ```
pub struct MatRef<'a, T> {
    start: *const T,
    shape: [usize; 2],
    strides: [isize; 2],
    life: PhantomData<&'a T>,
}

/// A matrix over an exclusively borrowed slice. As [`MatRef`], and no two elements share an address.
pub struct MatMut<'a, T> {
    pub(crate) start: *mut T,
    pub(crate) shape: [usize; 2],
    pub(crate) strides: [isize; 2],
    pub(crate) life: PhantomData<&'a mut T>,
}

// SAFETY: a MatRef is a `&[T]` with strides, and nothing else.
unsafe impl<T: Sync> Send for MatRef<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for MatRef<'_, T> {}
// SAFETY: a MatMut is a `&mut [T]` with strides, and nothing else.
unsafe impl<T: Send> Send for MatMut<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for MatMut<'_, T> {}

impl<T> Clone for MatRef<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for MatRef<'_, T> {}

impl<'a, T> MatRef<'a, T> {
    /// A row-major matrix over the first `rows * cols` elements.
    ///
    /// # Errors
    /// [`Error::LengthTooShort`], [`Error::SizeOverflow`].
    pub fn new(data: &'a [T], rows: usize, cols: usize) -> Result<Self, Error> {
        let shape = [rows, cols];
        layout::check_len(data.len(), shape)?;
        Ok(Self { start: data.as_ptr(), shape, strides: layout::contiguous(shape), life: PhantomData })
    }

    /// The matrix of `shape` (rows, columns) whose element (i, j) is `data[offset + i * strides[0] + j * strides[1]]`.
    ///
    /// A stride by which no element is reached may have any value; the view may keep a smaller one.
    ///
    /// # Errors
    /// [`Error::OutOfBounds`] when an element lies outside `data`, [`Error::SizeOverflow`].
    pub fn strided(data: &'a [T], offset: usize, shape: [usize; 2], strides: [isize; 2]) -> Result<Self, Error> {
        let strides = layout::check_bounds(data.len(), offset, shape, strides)?;
        Ok(Self { start: data.as_ptr().wrapping_add(offset), shape, strides, life: PhantomData })
    }

    /// A view whose elements have been checked to lie in memory borrowed for `'a`.
    pub(crate) fn checked(start: *const T, shape: [usize; 2], strides: [isize; 2]) -> Self {
        Self { start, shape, strides, life: PhantomData }
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

    /// Elements from one row to the next.
    #[inline]
    pub fn row_stride(&self) -> isize {
        self.strides[0]
    }

    /// Elements from one column to the next.
    #[inline]
    pub fn col_stride(&self) -> isize {
        self.strides[1]
    }

    /// Where element (0, 0) lies. Not to be read when the matrix is empty.
    #[inline]
    pub fn as_ptr(&self) -> *const T {
        self.start
    }

    /// Where element (i, j) lies, or would lie if the matrix had it.
    #[inline]
    pub fn ptr_at(&self, i: usize, j: usize) -> *const T {
        self.start.wrapping_offset(layout::offset([i, j], self.strides))
    }

    /// The matrix with rows and columns exchanged.
    #[inline]
    pub fn transposed(self) -> Self {
        let ([rows, cols], [row_stride, col_stride]) = (self.shape, self.strides);
        Self { shape: [cols, rows], strides: [col_stride, row_stride], ..self }
    }

    /// The block of these rows and columns.
    ///
    /// # Errors
    /// [`Error::RangeOutOfBounds`].
    pub fn submatrix(self, rows: Range<usize>, cols: Range<usize>) -> Result<Self, Error> {
        layout::check_range(&rows, self.rows())?;
        layout::check_range(&cols, self.cols())?;
        Ok(Self { start: self.ptr_at(rows.start, cols.start), shape: [rows.len(), cols.len()], ..self })
    }

    /// Row `i` as a slice, when the matrix has the row and its elements lie side by side.
    #[inline]
    pub fn row(&self, i: usize) -> Option<&'a [T]> {
        let contiguous = self.strides[1] == 1 || self.shape[1] == 1;
        if i >= self.rows() || !contiguous || self.cols() == 0 {
            return (i < self.rows() && self.cols() == 0).then_some(&[]);
        }
        // SAFETY: the `cols` elements from (i, 0) on lie in the slice borrowed for 'a.
        Some(unsafe { std::slice::from_raw_parts(self.ptr_at(i, 0), self.cols()) })
    }
}

impl<T: Copy> MatRef<'_, T> {
    /// Element (i, j), if the matrix has it.
    #[inline]
    pub fn get(&self, i: usize, j: usize) -> Option<T> {
        // SAFETY: every element of a checked view lies in the borrowed slice.
        (i < self.rows() && j < self.cols()).then(|| unsafe { *self.ptr_at(i, j) })
    }

    /// Element (i, j).
    ///
    /// # Panics
    /// If the matrix does not have it, like indexing a slice.
    #[inline]
    #[track_caller]
    pub fn at(&self, i: usize, j: usize) -> T {
        let [rows, cols] = self.shape;
        self.get(i, j).unwrap_or_else(|| outside(i, j, rows, cols))
    }
}

impl<'a, T> MatMut<'a, T> {
    /// A row-major matrix over the first `rows * cols` elements.
    ///
    /// # Errors
    /// [`Error::LengthTooShort`], [`Error::SizeOverflow`].
    pub fn new(data: &'a mut [T], rows: usize, cols: usize) -> Result<Self, Error> {
        let shape = [rows, cols];
        layout::check_len(data.len(), shape)?;
        Ok(Self { start: data.as_mut_ptr(), shape, strides: layout::contiguous(shape), life: PhantomData })
    }

    /// The matrix of `shape` (rows, columns) whose element (i, j) is `data[offset + i * strides[0] + j * strides[1]]`.
    ///
    /// A dimension of one element may have any stride. Otherwise strides must be positive, and the larger one must
    /// step over everything that the smaller one reaches.
    ///
    /// # Errors
    /// [`Error::OverlappingOutput`], [`Error::OutOfBounds`], [`Error::SizeOverflow`].
    pub fn strided(data: &'a mut [T], offset: usize, shape: [usize; 2], strides: [isize; 2]) -> Result<Self, Error> {
        let strides = layout::check_bounds(data.len(), offset, shape, strides)?;
        layout::check_distinct(shape, strides)?;
        Ok(Self { start: data.as_mut_ptr().wrapping_add(offset), shape, strides, life: PhantomData })
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

    /// Elements from one row to the next.
    #[inline]
    pub fn row_stride(&self) -> isize {
        self.strides[0]
    }

    /// Elements from one column to the next.
    #[inline]
    pub fn col_stride(&self) -> isize {
        self.strides[1]
    }

    /// Where element (0, 0) lies. Not to be accessed when the matrix is empty.
    #[inline]
    pub fn as_mut_ptr(&mut self) -> *mut T {
        self.start
    }

    /// Where element (i, j) lies, or would lie if the matrix had it.
    #[inline]
    pub fn ptr_at(&mut self, i: usize, j: usize) -> *mut T {
        self.start.wrapping_offset(layout::offset([i, j], self.strides))
    }

    /// The same matrix for a shorter time.
    #[inline]
    pub fn reborrow(&mut self) -> MatMut<'_, T> {
        MatMut { start: self.start, shape: self.shape, strides: self.strides, life: PhantomData }
    }

    /// The same matrix for reading.
    #[inline]
    pub fn as_ref(&self) -> MatRef<'_, T> {
        MatRef::checked(self.start, self.shape, self.strides)
    }

    /// The matrix with rows and columns exchanged.
    #[inline]
    pub fn transposed(self) -> Self {
        let ([rows, cols], [row_stride, col_stride]) = (self.shape, self.strides);
        Self { shape: [cols, rows], strides: [col_stride, row_stride], ..self }
    }

    /// The block of these rows and columns.
    ///
    /// # Errors
    /// [`Error::RangeOutOfBounds`].
    pub fn submatrix(mut self, rows: Range<usize>, cols: Range<usize>) -> Result<Self, Error> {
        layout::check_range(&rows, self.rows())?;
        layout::check_range(&cols, self.cols())?;
        Ok(Self { start: self.ptr_at(rows.start, cols.start), shape: [rows.len(), cols.len()], ..self })
    }

    /// Row `i` as a slice, when the matrix has the row and its elements lie side by side.
    #[inline]
    pub fn row_mut(&mut self, i: usize) -> Option<&mut [T]> {
        let contiguous = self.strides[1] == 1 || self.shape[1] == 1;
        if i >= self.rows() || !contiguous || self.cols() == 0 {
            return (i < self.rows() && self.cols() == 0).then_some(&mut []);
        }
        // SAFETY: the `cols` elements from (i, 0) on lie in the slice borrowed exclusively by this view.
        Some(unsafe { std::slice::from_raw_parts_mut(self.ptr_at(i, 0), self.cols()) })
    }

    /// The matrix in a form that threads can take blocks from.
    #[inline]
    pub fn share(&mut self) -> SharedMat<'_, T> {
        SharedMat { start: SendPtr::new(self.start), shape: self.shape, strides: self.strides, life: PhantomData }
    }
}

impl<T: Copy> MatMut<'_, T> {
    /// Element (i, j), if the matrix has it.
    #[inline]
    pub fn get(&self, i: usize, j: usize) -> Option<T> {
        self.as_ref().get(i, j)
    }

    /// Element (i, j).
    ///
    /// # Panics
    /// If the matrix does not have it, like indexing a slice.
    #[inline]
    #[track_caller]
    pub fn at(&self, i: usize, j: usize) -> T {
        self.as_ref().at(i, j)
    }

    /// Writes element (i, j).
    ///
    /// # Panics
    /// If the matrix does not have it, like indexing a slice.
    #[inline]
    #[track_caller]
    pub fn set(&mut self, i: usize, j: usize, value: T) {
        let [rows, cols] = self.shape;
        if i >= rows || j >= cols {
            outside(i, j, rows, cols)
        }
        // SAFETY: (i, j) is an element, and this view borrows it exclusively.
        unsafe { *self.ptr_at(i, j) = value }
    }
}

impl<T> fmt::Debug for MatRef<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MatRef").field("shape", &self.shape).field("strides", &self.strides).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for MatMut<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MatMut").field("shape", &self.shape).field("strides", &self.strides).finish_non_exhaustive()
    }
}

#[cold]
#[track_caller]
fn outside(i: usize, j: usize, rows: usize, cols: usize) -> ! {
    panic!("element ({i}, {j}) of a {rows} x {cols} matrix")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strides_of_every_kind() -> Result<(), Error> {
        let data: Vec<i32> = (0..12).collect();
        assert_eq!(MatRef::new(&data, 3, 4)?.at(2, 1), 9);
        assert_eq!(MatRef::strided(&data, 11, [3, 4], [-4, -1])?.at(2, 1), 2);
        assert_eq!(MatRef::strided(&data, 7, [1 << 40, 4], [0, 1])?.at(1 << 39, 3), 10);
        assert_eq!(MatRef::new(&data, 3, 4)?.transposed().row(0), None);
        assert_eq!(MatRef::new(&data, 3, 4)?.row(1), Some(&[4, 5, 6, 7][..]));
        assert_eq!(MatRef::new(&data, 3, 4)?.row(3), None);
        assert_eq!(MatRef::new(&data, 3, 0)?.row(2), Some(&[][..]));
        assert_eq!(MatRef::new(&data, 3, 4)?.get(3, 0), None);
        Ok(())
    }

    #[test]
    fn blocks_and_transposes_compose() -> Result<(), Error> {
        let mut data: Vec<i32> = (0..12).collect();
        let block = MatRef::new(&data, 3, 4)?.submatrix(1..3, 2..4)?;
        assert_eq!([block.at(0, 0), block.at(1, 1)], [6, 11]);
        assert_eq!(block.transposed().at(0, 1), 10);
        let mut c = MatMut::new(&mut data, 3, 4)?;
        c.reborrow().transposed().submatrix(3..4, 0..3)?.set(0, 2, -1);
        assert_eq!(c.at(2, 3), -1);
        assert_eq!(c.row_mut(2), Some(&mut [8, 9, 10, -1][..]));
        let beyond = c.submatrix(0..4, 0..1).unwrap_err();
        assert_eq!(beyond, Error::RangeOutOfBounds { start: 0, end: 4, len: 3 });
        Ok(())
    }

    #[test]
    fn mistakes_are_refused() {
        let mut data = [0.0f32; 6];
        assert_eq!(MatRef::new(&data, 2, 4).unwrap_err(), Error::LengthTooShort { needed: 8, len: 6 });
        let error = MatRef::strided(&data, 1, [2, 3], [3, 1]).unwrap_err();
        assert_eq!(error, Error::OutOfBounds { first: 1, last: 6, len: 6 });
        let error = MatMut::strided(&mut data, 0, [3, 3], [1, 1]).unwrap_err();
        assert_eq!(error, Error::OverlappingOutput { stride: 1, least: 3 });
        let error = MatMut::strided(&mut data, 5, [1, 6], [1, -1]).unwrap_err();
        assert_eq!(error, Error::OverlappingOutput { stride: -1, least: 1 });
        assert!(MatRef::new(&data, usize::MAX, usize::MAX).is_err());
    }

    #[test]
    fn empty_views_lie_anywhere() -> Result<(), Error> {
        let data: [f32; 0] = [];
        let a = MatRef::strided(&data, 9, [usize::MAX, 0], [isize::MAX, isize::MIN])?;
        let block = a.submatrix(5..usize::MAX, 0..0)?.transposed();
        assert_eq!((block.rows(), block.get(0, 0)), (0, None));
        Ok(())
    }

    #[test]
    #[should_panic(expected = "element (2, 0) of a 2 x 3 matrix")]
    fn at_panics_like_an_index() {
        MatRef::new(&[0; 6], 2, 3).unwrap().at(2, 0);
    }

    #[test]
    fn threads_write_blocks() -> Result<(), Error> {
        let mut data = [0; 12];
        let mut c = MatMut::new(&mut data, 3, 4)?;
        let shared = c.share();
        std::thread::scope(|scope| {
            for half in 0..2 {
                let shared = &shared;
                // SAFETY: the two halves of the columns do not overlap.
                scope.spawn(move || unsafe { shared.block(0..3, 2 * half..2 * half + 2) }.set(1, 1, half + 7));
            }
        });
        assert_eq!([c.at(1, 1), c.at(1, 3)], [7, 8]);
        Ok(())
    }
}
