//! Queries, keys and values: four dimensions over a slice.

use crate::{Error, MatMut, MatRef, SendPtr, SharedHeads, layout};
use std::{fmt, marker::PhantomData};

/// Vectors of `D` values for every sequence of a batch, position and head, over a borrowed slice.
///
/// Sizes and strides always stand in the order batch, position, head, value: `[B, S, H, D]`, however the values lie
/// in memory. Strides may have any sign and may be zero.
///
/// ```
/// use gristmill_core::HeadsRef;
///
/// // Two positions of two heads, as a projection writes them and with the heads apart.
/// let data: [f32; 12] = std::array::from_fn(|i| i as f32);
/// let rows = HeadsRef::bshd(&data, [1, 2, 2, 3])?;
/// let apart = HeadsRef::bhsd(&data, [1, 2, 2, 3])?;
/// assert_eq!(rows.at(0, 1, 0, 2), 8.0);
/// assert_eq!(apart.at(0, 1, 0, 2), 5.0);
/// assert_eq!(rows.head(0, 1).at(0, 0), 3.0);
/// # Ok::<(), gristmill_core::Error>(())
/// ```
pub struct HeadsRef<'a, T> {
    start: *const T,
    sizes: [usize; 4],
    strides: [isize; 4],
    life: PhantomData<&'a T>,
}

/// As [`HeadsRef`], over an exclusively borrowed slice; no two elements share an address.
pub struct HeadsMut<'a, T> {
    start: *mut T,
    sizes: [usize; 4],
    strides: [isize; 4],
    life: PhantomData<&'a mut T>,
}

// SAFETY: a HeadsRef is a `&[T]` with strides, and nothing else.
unsafe impl<T: Sync> Send for HeadsRef<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for HeadsRef<'_, T> {}
// SAFETY: a HeadsMut is a `&mut [T]` with strides, and nothing else.
unsafe impl<T: Send> Send for HeadsMut<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for HeadsMut<'_, T> {}

impl<T> Clone for HeadsRef<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for HeadsRef<'_, T> {}

/// Strides in the order b, s, h, d of values that lie in the order b, h, s, d.
fn bhsd_strides([b, s, h, d]: [usize; 4]) -> [isize; 4] {
    let [b, h, s, d] = layout::contiguous([b, h, s, d]);
    [b, s, h, d]
}

impl<'a, T> HeadsRef<'a, T> {
    /// Values that lie in the order batch, position, head: the rows that a projection writes.
    ///
    /// # Errors
    /// [`Error::LengthTooShort`], [`Error::SizeOverflow`].
    pub fn bshd(data: &'a [T], sizes: [usize; 4]) -> Result<Self, Error> {
        layout::check_len(data.len(), sizes)?;
        Ok(Self { start: data.as_ptr(), sizes, strides: layout::contiguous(sizes), life: PhantomData })
    }

    /// Values that lie in the order batch, head, position: each head apart. `sizes` are `[B, S, H, D]` all the same.
    ///
    /// # Errors
    /// [`Error::LengthTooShort`], [`Error::SizeOverflow`].
    pub fn bhsd(data: &'a [T], sizes: [usize; 4]) -> Result<Self, Error> {
        layout::check_len(data.len(), sizes)?;
        Ok(Self { start: data.as_ptr(), sizes, strides: bhsd_strides(sizes), life: PhantomData })
    }

    /// Element (b, s, h, d) is `data[offset + b * strides[0] + s * strides[1] + h * strides[2] + d * strides[3]]`.
    ///
    /// # Errors
    /// [`Error::OutOfBounds`], [`Error::SizeOverflow`].
    pub fn strided(data: &'a [T], offset: usize, sizes: [usize; 4], strides: [isize; 4]) -> Result<Self, Error> {
        let strides = layout::check_bounds(data.len(), offset, sizes, strides)?;
        Ok(Self { start: data.as_ptr().wrapping_add(offset), sizes, strides, life: PhantomData })
    }

    /// Number of sequences, B.
    #[inline]
    pub fn batch(&self) -> usize {
        self.sizes[0]
    }

    /// Number of positions, S.
    #[inline]
    pub fn seq(&self) -> usize {
        self.sizes[1]
    }

    /// Number of heads, H.
    #[inline]
    pub fn heads(&self) -> usize {
        self.sizes[2]
    }

    /// Values per vector, D.
    #[inline]
    pub fn dim(&self) -> usize {
        self.sizes[3]
    }

    /// `[B, S, H, D]`.
    #[inline]
    pub fn sizes(&self) -> [usize; 4] {
        self.sizes
    }

    /// Elements from one batch, position, head, value to the next.
    #[inline]
    pub fn strides(&self) -> [isize; 4] {
        self.strides
    }

    /// Where element (0, 0, 0, 0) lies. Not to be read when the view is empty.
    #[inline]
    pub fn as_ptr(&self) -> *const T {
        self.start
    }

    /// One head of one sequence as a matrix `[S, D]`.
    ///
    /// # Panics
    /// If the view does not have it, like indexing a slice.
    #[inline]
    #[track_caller]
    pub fn head(&self, b: usize, h: usize) -> MatRef<'a, T> {
        check_index(self.sizes, [b, 0, h, 0], [true, false, true, false]);
        let start = self.start.wrapping_offset(layout::offset([b, 0, h, 0], self.strides));
        MatRef::checked(start, [self.sizes[1], self.sizes[3]], [self.strides[1], self.strides[3]])
    }
}

impl<T: Copy> HeadsRef<'_, T> {
    /// Element (b, s, h, d).
    ///
    /// # Panics
    /// If the view does not have it, like indexing a slice.
    #[inline]
    #[track_caller]
    pub fn at(&self, b: usize, s: usize, h: usize, d: usize) -> T {
        check_index(self.sizes, [b, s, h, d], [true; 4]);
        // SAFETY: every element of a checked view lies in the borrowed slice.
        unsafe { *self.start.wrapping_offset(layout::offset([b, s, h, d], self.strides)) }
    }
}

impl<'a, T> HeadsMut<'a, T> {
    /// As [`HeadsRef::bshd`].
    ///
    /// # Errors
    /// [`Error::LengthTooShort`], [`Error::SizeOverflow`].
    pub fn bshd(data: &'a mut [T], sizes: [usize; 4]) -> Result<Self, Error> {
        layout::check_len(data.len(), sizes)?;
        Ok(Self { start: data.as_mut_ptr(), sizes, strides: layout::contiguous(sizes), life: PhantomData })
    }

    /// As [`HeadsRef::bhsd`].
    ///
    /// # Errors
    /// [`Error::LengthTooShort`], [`Error::SizeOverflow`].
    pub fn bhsd(data: &'a mut [T], sizes: [usize; 4]) -> Result<Self, Error> {
        layout::check_len(data.len(), sizes)?;
        Ok(Self { start: data.as_mut_ptr(), sizes, strides: bhsd_strides(sizes), life: PhantomData })
    }

    /// As [`HeadsRef::strided`]; sorted by size, each stride must be positive and step over everything that the
    /// smaller ones reach. A dimension of one element may have any stride.
    ///
    /// # Errors
    /// [`Error::OverlappingOutput`], [`Error::OutOfBounds`], [`Error::SizeOverflow`].
    pub fn strided(data: &'a mut [T], offset: usize, sizes: [usize; 4], strides: [isize; 4]) -> Result<Self, Error> {
        let strides = layout::check_bounds(data.len(), offset, sizes, strides)?;
        layout::check_distinct(sizes, strides)?;
        Ok(Self { start: data.as_mut_ptr().wrapping_add(offset), sizes, strides, life: PhantomData })
    }

    /// Number of sequences, B.
    #[inline]
    pub fn batch(&self) -> usize {
        self.sizes[0]
    }

    /// Number of positions, S.
    #[inline]
    pub fn seq(&self) -> usize {
        self.sizes[1]
    }

    /// Number of heads, H.
    #[inline]
    pub fn heads(&self) -> usize {
        self.sizes[2]
    }

    /// Values per vector, D.
    #[inline]
    pub fn dim(&self) -> usize {
        self.sizes[3]
    }

    /// `[B, S, H, D]`.
    #[inline]
    pub fn sizes(&self) -> [usize; 4] {
        self.sizes
    }

    /// Elements from one batch, position, head, value to the next.
    #[inline]
    pub fn strides(&self) -> [isize; 4] {
        self.strides
    }

    /// Where element (0, 0, 0, 0) lies. Not to be accessed when the view is empty.
    #[inline]
    pub fn as_mut_ptr(&mut self) -> *mut T {
        self.start
    }

    /// The same view for a shorter time.
    #[inline]
    pub fn reborrow(&mut self) -> HeadsMut<'_, T> {
        HeadsMut { start: self.start, sizes: self.sizes, strides: self.strides, life: PhantomData }
    }

    /// The same view for reading.
    #[inline]
    pub fn as_ref(&self) -> HeadsRef<'_, T> {
        HeadsRef { start: self.start, sizes: self.sizes, strides: self.strides, life: PhantomData }
    }

    /// One head of one sequence as a matrix `[S, D]`.
    ///
    /// # Panics
    /// If the view does not have it, like indexing a slice.
    #[inline]
    #[track_caller]
    pub fn head_mut(&mut self, b: usize, h: usize) -> MatMut<'_, T> {
        check_index(self.sizes, [b, 0, h, 0], [true, false, true, false]);
        let start = self.start.wrapping_offset(layout::offset([b, 0, h, 0], self.strides));
        let (shape, strides) = ([self.sizes[1], self.sizes[3]], [self.strides[1], self.strides[3]]);
        MatMut { start, shape, strides, life: PhantomData }
    }

    /// The view in a form that threads can take blocks from.
    #[inline]
    pub fn share(&mut self) -> SharedHeads<'_, T> {
        SharedHeads { start: SendPtr::new(self.start), sizes: self.sizes, strides: self.strides, life: PhantomData }
    }
}

impl<T: Copy> HeadsMut<'_, T> {
    /// Element (b, s, h, d).
    ///
    /// # Panics
    /// If the view does not have it, like indexing a slice.
    #[inline]
    #[track_caller]
    pub fn at(&self, b: usize, s: usize, h: usize, d: usize) -> T {
        self.as_ref().at(b, s, h, d)
    }

    /// Writes element (b, s, h, d).
    ///
    /// # Panics
    /// If the view does not have it, like indexing a slice.
    #[inline]
    #[track_caller]
    pub fn set(&mut self, b: usize, s: usize, h: usize, d: usize, value: T) {
        self.head_mut(b, h).set(s, d, value);
    }
}

impl<T> fmt::Debug for HeadsRef<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeadsRef").field("sizes", &self.sizes).field("strides", &self.strides).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for HeadsMut<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeadsMut").field("sizes", &self.sizes).field("strides", &self.strides).finish_non_exhaustive()
    }
}

/// Panics unless the checked coordinates lie in the view.
#[inline]
#[track_caller]
fn check_index(sizes: [usize; 4], index: [usize; 4], checked: [bool; 4]) {
    let inside = (0..4).all(|d| !checked[d] || index[d] < sizes[d]);
    assert!(inside, "element {index:?} of sizes {sizes:?}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_orders_name_the_same_elements() -> Result<(), Error> {
        let sizes = [2, 3, 4, 5];
        let data: Vec<usize> = (0..120).collect();
        let (rows, apart) = (HeadsRef::bshd(&data, sizes)?, HeadsRef::bhsd(&data, sizes)?);
        assert_eq!(rows.at(1, 2, 3, 4), 119);
        assert_eq!(rows.at(1, 0, 2, 3), 60 + 2 * 5 + 3);
        assert_eq!(apart.at(1, 0, 2, 3), 60 + 2 * 15 + 3);
        assert_eq!(apart.head(1, 2).at(1, 3), apart.at(1, 1, 2, 3));
        assert_eq!(HeadsRef::strided(&data, 0, sizes, rows.strides())?.at(1, 1, 1, 1), rows.at(1, 1, 1, 1));
        Ok(())
    }

    #[test]
    fn interleaved_projections_need_no_copy() -> Result<(), Error> {
        // Rows of q, k, v side by side: [B * S, 3 * H * D] with H = 2, D = 2.
        let data: Vec<usize> = (0..36).collect();
        let k = HeadsRef::strided(&data, 4, [1, 3, 2, 2], [36, 12, 2, 1])?;
        assert_eq!(k.at(0, 2, 1, 1), 24 + 4 + 3);
        Ok(())
    }

    #[test]
    fn outputs_are_written_where_they_are_read() -> Result<(), Error> {
        let mut data = [0; 24];
        let mut out = HeadsMut::bhsd(&mut data, [2, 3, 2, 2])?;
        out.set(1, 2, 0, 1, 7);
        out.head_mut(0, 1).set(0, 0, 8);
        // SAFETY: the only block in use.
        unsafe { out.share().block(0, 0, 1..3) }.set(1, 1, 9);
        assert_eq!([out.at(1, 2, 0, 1), out.at(0, 0, 1, 0), out.at(0, 2, 0, 1)], [7, 8, 9]);
        assert_eq!([data[12 + 5], data[6], data[5]], [7, 8, 9]);
        Ok(())
    }

    #[test]
    fn mistakes_are_refused() {
        let mut data = [0.0f32; 24];
        assert_eq!(HeadsRef::bshd(&data, [2, 3, 2, 3]).unwrap_err(), Error::LengthTooShort { needed: 36, len: 24 });
        assert!(HeadsRef::strided(&data, 0, [2, 3, 2, 2], [0, 0, 0, 0]).is_ok());
        let error = HeadsMut::strided(&mut data, 0, [2, 3, 2, 2], [12, 0, 2, 1]).unwrap_err();
        assert_eq!(error, Error::OverlappingOutput { stride: 0, least: 1 });
        let error = HeadsMut::strided(&mut data, 0, [2, 3, 2, 2], [12, 2, 6, 1]).map(|_| ());
        assert_eq!(error, Ok(()));
    }

    #[test]
    #[should_panic(expected = "element [2, 0, 0, 0] of sizes [2, 3, 2, 2]")]
    fn a_missing_head_panics() {
        HeadsRef::bshd(&[0; 24], [2, 3, 2, 2]).unwrap().head(2, 0);
    }
}
