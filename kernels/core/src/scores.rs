//! A view with one value per query and key, broadcast where all share it.

use crate::{Error, layout};
use std::{fmt, marker::PhantomData};

/// Values for every sequence, head, query and key, `[B, H, S_q, S_k]`; a dimension of size 1 broadcasts.
///
/// ```
/// use gristmill_core::ScoresRef;
///
/// let keep = [true, true, false];
/// let keep = ScoresRef::new(&keep, [1, 1, 1, 3])?;
/// assert!(!keep.at(4, 7, 5, 2));
/// # Ok::<(), gristmill_core::Error>(())
/// ```
pub struct ScoresRef<'a, T> {
    start: *const T,
    sizes: [usize; 4],
    strides: [isize; 4],
    life: PhantomData<&'a T>,
}

// SAFETY: a ScoresRef is a `&[T]` with strides, and nothing else.
unsafe impl<T: Sync> Send for ScoresRef<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for ScoresRef<'_, T> {}

impl<T> Clone for ScoresRef<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for ScoresRef<'_, T> {}

impl<'a, T> ScoresRef<'a, T> {
    /// Values that lie in the order of the sizes `[B or 1, H or 1, S_q or 1, S_k or 1]`.
    ///
    /// # Errors
    /// [`Error::LengthTooShort`], [`Error::SizeOverflow`].
    pub fn new(data: &'a [T], sizes: [usize; 4]) -> Result<Self, Error> {
        layout::check_len(data.len(), sizes)?;
        Ok(Self::broadcast(data.as_ptr(), sizes, layout::contiguous(sizes)))
    }

    /// Element (b, h, i, j) is `data[offset + b * strides[0] + h * strides[1] + i * strides[2] + j * strides[3]]`.
    ///
    /// # Errors
    /// [`Error::OutOfBounds`], [`Error::SizeOverflow`].
    pub fn strided(data: &'a [T], offset: usize, sizes: [usize; 4], strides: [isize; 4]) -> Result<Self, Error> {
        let strides = layout::check_bounds(data.len(), offset, sizes, strides)?;
        Ok(Self::broadcast(data.as_ptr().wrapping_add(offset), sizes, strides))
    }

    fn broadcast(start: *const T, sizes: [usize; 4], strides: [isize; 4]) -> Self {
        let strides = std::array::from_fn(|d| if sizes[d] == 1 { 0 } else { strides[d] });
        Self { start, sizes, strides, life: PhantomData }
    }

    /// The sizes that the view was made with.
    #[inline]
    pub fn sizes(&self) -> [usize; 4] {
        self.sizes
    }

    /// Elements from one sequence, head, query, key to the next; zero where the view broadcasts.
    #[inline]
    pub fn strides(&self) -> [isize; 4] {
        self.strides
    }

    /// Where element (0, 0, 0, 0) lies. Not to be read when the view is empty.
    #[inline]
    pub fn as_ptr(&self) -> *const T {
        self.start
    }

    /// The values of all keys for query `i` of head `h` in sequence `b`, when they lie side by side and none is
    /// broadcast over the keys.
    ///
    /// # Panics
    /// If the view neither has the query nor broadcasts to it.
    #[inline]
    #[track_caller]
    pub fn row(&self, b: usize, h: usize, i: usize) -> Option<&'a [T]> {
        let index = [b, h, i, 0];
        let inside = (0..3).all(|d| self.sizes[d] == 1 || index[d] < self.sizes[d]);
        assert!(inside, "query {:?} of sizes {:?}", [b, h, i], self.sizes);
        if self.sizes[3] == 0 {
            return Some(&[]);
        }
        // SAFETY: with a stride of 1 there are several keys, and every element of a checked view lies in the borrowed
        // slice; broadcast coordinates have stride 0.
        (self.strides[3] == 1).then(|| unsafe {
            let start = self.start.wrapping_offset(layout::offset(index, self.strides));
            std::slice::from_raw_parts(start, self.sizes[3])
        })
    }

    /// Checks that the view has, or broadcasts to, these sizes; `what` names it in the error.
    pub(crate) fn check_covers(&self, sizes: [usize; 4], what: [&'static str; 4]) -> Result<(), Error> {
        for d in 0..4 {
            if self.sizes[d] != sizes[d] && self.sizes[d] != 1 {
                return Err(Error::ShapeMismatch { what: what[d], expected: sizes[d], found: self.sizes[d] });
            }
        }
        Ok(())
    }
}

impl<T: Copy> ScoresRef<'_, T> {
    /// The value of query `i` and key `j` in head `h` of sequence `b`.
    ///
    /// # Panics
    /// If the view neither has it nor broadcasts to it.
    #[inline]
    #[track_caller]
    pub fn at(&self, b: usize, h: usize, i: usize, j: usize) -> T {
        let index = [b, h, i, j];
        let inside = (0..4).all(|d| self.sizes[d] == 1 || index[d] < self.sizes[d]);
        assert!(inside, "element {index:?} of sizes {:?}", self.sizes);
        // SAFETY: every element of a checked view lies in the borrowed slice; broadcast coordinates have stride 0.
        unsafe { *self.start.wrapping_offset(layout::offset(index, self.strides)) }
    }
}

impl<T> fmt::Debug for ScoresRef<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScoresRef").field("sizes", &self.sizes).field("strides", &self.strides).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dimensions_of_one_broadcast() -> Result<(), Error> {
        let data: Vec<i32> = (0..6).collect();
        let scores = ScoresRef::new(&data, [2, 1, 1, 3])?;
        assert_eq!(scores.at(1, 9, 9, 2), 5);
        assert_eq!((scores.row(1, 9, 9), scores.row(0, 0, 0)), (Some(&[3, 4, 5][..]), Some(&[0, 1, 2][..])));
        let transposed = ScoresRef::strided(&data, 0, [1, 1, 3, 2], [7, 7, 1, 3])?;
        assert_eq!((transposed.at(5, 5, 2, 1), transposed.row(5, 5, 2)), (5, None));
        assert_eq!(ScoresRef::new(&data, [2, 3, 1, 1])?.row(0, 1, 5), None);
        assert_eq!(ScoresRef::new(&data, [2, 1, 1, 4]).unwrap_err(), Error::LengthTooShort { needed: 8, len: 6 });
        Ok(())
    }

    #[test]
    #[should_panic(expected = "element [2, 0, 0, 0] of sizes [2, 1, 1, 3]")]
    fn a_missing_element_panics() {
        ScoresRef::new(&[0; 6], [2, 1, 1, 3]).unwrap().at(2, 0, 0, 0);
    }
}
