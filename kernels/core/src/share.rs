//! Outputs that several threads write at once.

use crate::{MatMut, layout};
use std::{marker::PhantomData, ops::Range};

/// A raw pointer that may travel between threads. What it points at is the user's business, in `unsafe` blocks.
pub struct SendPtr<T>(*mut T);

impl<T> SendPtr<T> {
    /// Wraps a pointer.
    #[inline]
    pub fn new(p: *mut T) -> Self {
        Self(p)
    }

    /// The pointer.
    #[inline]
    pub fn get(self) -> *mut T {
        self.0
    }
}

impl<T> Clone for SendPtr<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for SendPtr<T> {}

// SAFETY: the pointer gives no access by itself; dereferencing it is unsafe, and then T: Send allows writing from
// another thread.
unsafe impl<T: Send> Send for SendPtr<T> {}
// SAFETY: as above; a shared SendPtr can only be copied.
unsafe impl<T: Send> Sync for SendPtr<T> {}

/// An exclusively borrowed matrix of which threads take blocks that do not overlap; see [`MatMut::share`].
pub struct SharedMat<'a, T> {
    pub(crate) start: SendPtr<T>,
    pub(crate) shape: [usize; 2],
    pub(crate) strides: [isize; 2],
    pub(crate) life: PhantomData<&'a mut T>,
}

impl<'a, T> SharedMat<'a, T> {
    /// The block of these rows and columns, which must lie in the matrix.
    ///
    /// # Safety
    /// `rows.start <= rows.end <= rows()` and alike for the columns, and no element of the block may belong to
    /// another block that is still in use.
    #[inline]
    pub unsafe fn block(&self, rows: Range<usize>, cols: Range<usize>) -> MatMut<'a, T> {
        debug_assert!(rows.start <= rows.end && rows.end <= self.shape[0], "{rows:?} of {}", self.shape[0]);
        debug_assert!(cols.start <= cols.end && cols.end <= self.shape[1], "{cols:?} of {}", self.shape[1]);
        let start = self.start.get().wrapping_offset(layout::offset([rows.start, cols.start], self.strides));
        MatMut { start, shape: [rows.len(), cols.len()], strides: self.strides, life: PhantomData }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.shape[0]
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.shape[1]
    }
}

/// Exclusively borrowed heads of which threads take rows that do not overlap; see
/// [`HeadsMut::share`](crate::HeadsMut::share).
pub struct SharedHeads<'a, T> {
    pub(crate) start: SendPtr<T>,
    pub(crate) sizes: [usize; 4],
    pub(crate) strides: [isize; 4],
    pub(crate) life: PhantomData<&'a mut T>,
}

impl<'a, T> SharedHeads<'a, T> {
    /// Elements from one batch, position, head, value to the next.
    #[inline]
    pub fn strides(&self) -> [isize; 4] {
        self.strides
    }

    /// Where a vector begins.
    #[inline]
    pub fn vector(&self, b: usize, s: usize, h: usize) -> *const T {
        self.start.get().wrapping_offset(layout::offset([b, s, h, 0], self.strides))
    }

    /// Some positions of one head as a matrix `[positions.len(), D]`.
    ///
    /// # Safety
    /// `b`, `h` and the positions must lie in the view, and no element of the block may belong to another block
    /// that is still in use.
    #[inline]
    pub unsafe fn block(&self, b: usize, h: usize, positions: Range<usize>) -> MatMut<'a, T> {
        let [batch, seq, heads, dim] = self.sizes;
        debug_assert!(b < batch && h < heads, "({b}, {h}) of ({batch}, {heads})");
        debug_assert!(positions.start <= positions.end && positions.end <= seq, "{positions:?} of {seq}");
        let start = self.start.get().wrapping_offset(layout::offset([b, positions.start, h, 0], self.strides));
        let strides = [self.strides[1], self.strides[3]];
        MatMut { start, shape: [positions.len(), dim], strides, life: PhantomData }
    }
}
