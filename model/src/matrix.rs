//! Reusable row-major buffers.

use crate::Result;
use aligned_vec::{AVec, ConstAlign};
use gristmill::simd::Element;
use gristmill::{Error, MatMut, MatRef};
use std::ops::Range;

/// A row-major matrix that keeps its memory when it changes its shape.
#[derive(Clone, Debug)]
pub(crate) struct Matrix<T = f32> {
    /// At least `rows * cols` values, aligned to a cache line.
    values: AVec<T, ConstAlign<64>>,
    rows: usize,
    cols: usize,
}

impl<T> Default for Matrix<T> {
    fn default() -> Self {
        Self { values: AVec::new(64), rows: 0, cols: 0 }
    }
}

impl<T: Element> Matrix<T> {
    /// Takes a shape. The values keep their row-major order; what new ones are is unspecified.
    pub(crate) fn reshape(&mut self, rows: usize, cols: usize) -> Result {
        let elements = rows.saturating_mul(cols);
        if elements > self.values.len() {
            let (more, bytes) = (elements - self.values.len(), elements.saturating_mul(size_of::<T>()));
            self.values.try_reserve(more).map_err(|_| Error::OutOfMemory { bytes })?;
            self.values.resize(elements, T::default());
        }
        (self.rows, self.cols) = (rows, cols);
        Ok(())
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn cols(&self) -> usize {
        self.cols
    }

    pub(crate) fn values(&self) -> &[T] {
        &self.values[..self.rows * self.cols]
    }

    pub(crate) fn values_mut(&mut self) -> &mut [T] {
        &mut self.values[..self.rows * self.cols]
    }

    pub(crate) fn row(&self, row: usize) -> &[T] {
        &self.values()[row * self.cols..][..self.cols]
    }

    pub(crate) fn rows_mut(&mut self, rows: Range<usize>) -> &mut [T] {
        let cols = self.cols;
        &mut self.values_mut()[rows.start * cols..rows.end * cols]
    }

    pub(crate) fn row_mut(&mut self, row: usize) -> &mut [T] {
        self.rows_mut(row..row + 1)
    }

    pub(crate) fn view(&self) -> MatRef<'_, T> {
        self.rows_view(0..self.rows)
    }

    pub(crate) fn view_mut(&mut self) -> MatMut<'_, T> {
        let (rows, cols) = (self.rows, self.cols);
        MatMut::new(self.values_mut(), rows, cols).expect("the slice has the shape's length")
    }

    pub(crate) fn rows_view(&self, rows: Range<usize>) -> MatRef<'_, T> {
        let values = &self.values()[rows.start * self.cols..rows.end * self.cols];
        MatRef::new(values, rows.len(), self.cols).expect("the slice has the shape's length")
    }
}
