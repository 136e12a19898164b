//! Matrices, batches and heads as C describes them, checked and turned into views.

use crate::status::Failure;
use gristmill::{BatchMut, BatchRef, HeadsMut, HeadsRef, MatMut, MatRef, simd::Element};
use std::{ffi::c_void, slice};

/// `gristmill_type`.
pub type Type = u32;

/// IEEE 754 binary32.
pub const F32: Type = 0;
/// IEEE 754 binary16.
pub const F16: Type = 1;
/// bfloat16.
pub const BF16: Type = 2;

/// `gristmill_matrix`: element (i, j) is `data[i * row_stride + j]`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Matrix {
    /// The first element; may be null where there is none.
    pub data: *mut c_void,
    /// [`F32`], [`F16`] or [`BF16`].
    pub element: Type,
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub cols: usize,
    /// Elements from a row to the next, at least `cols`.
    pub row_stride: usize,
}

/// `gristmill_batch`: element (b, i, j) is `data[b * batch_stride + i * row_stride + j]`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Batch {
    /// The first element; may be null where there is none.
    pub data: *mut c_void,
    /// [`F32`], [`F16`] or [`BF16`].
    pub element: Type,
    /// Matrices.
    pub count: usize,
    /// Rows of each.
    pub rows: usize,
    /// Columns of each.
    pub cols: usize,
    /// Elements from a matrix to the next; 0 where all are the same one.
    pub batch_stride: usize,
    /// Elements from a row to the next, at least `cols`.
    pub row_stride: usize,
}

/// `gristmill_heads`: element (b, s, h, d) is `data[b * batch_stride + s * seq_stride + h * head_stride + d]`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Heads {
    /// The first element; may be null where there is none.
    pub data: *mut c_void,
    /// [`F32`], [`F16`] or [`BF16`].
    pub element: Type,
    /// Sequences.
    pub batch: usize,
    /// Tokens of each.
    pub seq: usize,
    /// Heads of each token.
    pub heads: usize,
    /// Values of each head.
    pub dim: usize,
    /// Elements from a sequence to the next.
    pub batch_stride: usize,
    /// Elements from a token to the next.
    pub seq_stride: usize,
    /// Elements from a head to the next.
    pub head_stride: usize,
}

/// The addresses from an operand's first byte to the one after its last.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    start: usize,
    end: usize,
}

/// An operand and where it lies; nowhere if there is none.
pub(crate) type Named = (&'static str, Option<Span>);

impl Span {
    /// That of `len` elements.
    pub(crate) fn new<T>(first: *const T, len: usize) -> Span {
        let start = first as usize;
        Span { start, end: start.saturating_add(len * size_of::<T>()) }
    }

    pub(crate) fn of<T>(values: &[T]) -> Span {
        Span::new(values.as_ptr(), values.len())
    }

    /// Checks that an output shares no memory with other operands. Empty operands share nothing.
    pub(crate) fn apart(self, name: &str, others: &[Named]) -> Result<(), Failure> {
        let overlaps = |other: Span| self.start.max(other.start) < self.end.min(other.end);
        match others.iter().find(|(_, other)| other.is_some_and(overlaps)) {
            Some((other, _)) => Err(Failure::invalid(format!("{name} overlaps {other}"))),
            None => Ok(()),
        }
    }
}

/// Elements from the first to the last of sizes and strides; none where a size is zero.
pub(crate) fn extent<const N: usize>(name: &str, sizes: [usize; N], strides: [usize; N]) -> Result<usize, Failure> {
    if sizes.contains(&0) {
        return Ok(0);
    }
    let mut steps = sizes.iter().zip(strides).map(|(size, stride)| (size - 1).checked_mul(stride));
    let last = steps.try_fold(0_usize, |sum, step| sum.checked_add(step?));
    let count = last.and_then(|last| last.checked_add(1)).filter(|&count| count <= isize::MAX as usize / 4);
    count.ok_or_else(|| too_large(name))
}

fn too_large(name: &str) -> Failure {
    Failure::invalid(format!("{name} is larger than the address space"))
}

/// What makes a slice of `len` elements at `data` impossible.
fn check<T>(name: &str, data: *const c_void, len: usize) -> Result<(), Failure> {
    if len > 0 && data.is_null() {
        return Err(Failure::null(name));
    }
    if len > isize::MAX as usize / size_of::<T>() {
        return Err(too_large(name));
    }
    if len > 0 && !data.cast::<T>().is_aligned() {
        return Err(Failure::invalid(format!("{name} is not aligned to its elements")));
    }
    Ok(())
}

/// `len` elements.
///
/// # Safety
/// They, gaps of strides included, are readable and initialised for `'a`, and nobody writes them meanwhile.
pub(crate) unsafe fn read<'a, T>(name: &str, data: *const c_void, len: usize) -> Result<&'a [T], Failure> {
    check::<T>(name, data, len)?;
    // SAFETY: not null and aligned by the check; the caller's promise.
    Ok(if len == 0 { &[] } else { unsafe { slice::from_raw_parts(data.cast(), len) } })
}

/// `len` elements, if there is a pointer to them.
///
/// # Safety
/// As [`read`].
pub(crate) unsafe fn read_optional<'a, T>(name: &str, data: *const T, len: usize) -> Result<Option<&'a [T]>, Failure> {
    // SAFETY: the caller's promise.
    if data.is_null() { Ok(None) } else { unsafe { read(name, data.cast(), len) }.map(Some) }
}

/// `len` elements to be written.
///
/// # Safety
/// They, gaps of strides included, are writable and initialised for `'a`, and nobody else uses them meanwhile: no call
/// at the same time has an output in the gaps.
pub(crate) unsafe fn write<'a, T>(name: &str, data: *mut c_void, len: usize) -> Result<&'a mut [T], Failure> {
    check::<T>(name, data, len)?;
    // SAFETY: not null and aligned by the check; the caller's promise.
    Ok(if len == 0 { &mut [] } else { unsafe { slice::from_raw_parts_mut(data.cast(), len) } })
}

/// Where a description's elements lie, and views of them. It has `len`, `sizes` and `strides`.
macro_rules! views {
    ($Described:ident, $Ref:ident, $Mut:ident) => {
        impl $Described {
            /// Where they lie, for elements of type `T`.
            pub(crate) fn span<T>(&self, name: &str) -> Result<Span, Failure> {
                Ok(Span::new::<T>(self.data.cast(), self.len(name)?))
            }

            /// # Safety
            /// As [`read`].
            pub(crate) unsafe fn view<'a, T: Element>(&self, name: &str) -> Result<$Ref<'a, T>, Failure> {
                // SAFETY: the caller's promise.
                let data = unsafe { read(name, self.data, self.len(name)?)? };
                Ok($Ref::strided(data, 0, self.sizes(), self.strides().map(|stride| stride as isize))?)
            }

            /// # Safety
            /// As [`write`].
            pub(crate) unsafe fn view_mut<'a, T: Element>(&self, name: &str) -> Result<$Mut<'a, T>, Failure> {
                // SAFETY: the caller's promise.
                let data = unsafe { write(name, self.data, self.len(name)?)? };
                Ok($Mut::strided(data, 0, self.sizes(), self.strides().map(|stride| stride as isize))?)
            }
        }
    };
}

views!(Matrix, MatRef, MatMut);
views!(Batch, BatchRef, BatchMut);
views!(Heads, HeadsRef, HeadsMut);

/// A row that reaches into the next one.
fn check_rows(name: &str, rows: usize, cols: usize, row_stride: usize) -> Result<(), Failure> {
    if rows > 1 && row_stride < cols {
        return Err(Failure::invalid(format!("{name} has {cols} columns, but a row stride of {row_stride}")));
    }
    Ok(())
}

impl Matrix {
    fn sizes(&self) -> [usize; 2] {
        [self.rows, self.cols]
    }

    fn strides(&self) -> [usize; 2] {
        [self.row_stride, 1]
    }

    /// Elements from the first to the last.
    fn len(&self, name: &str) -> Result<usize, Failure> {
        check_rows(name, self.rows, self.cols, self.row_stride)?;
        extent(name, self.sizes(), self.strides())
    }

    /// Whether both describe the same elements, so that an operation is in place.
    pub(crate) fn same_as(&self, other: &Matrix) -> bool {
        (self.data, self.sizes()) == (other.data, other.sizes())
            && (self.row_stride == other.row_stride || self.rows <= 1)
    }
}

impl Batch {
    fn sizes(&self) -> [usize; 3] {
        [self.count, self.rows, self.cols]
    }

    fn strides(&self) -> [usize; 3] {
        [self.batch_stride, self.row_stride, 1]
    }

    /// Elements from the first to the last.
    fn len(&self, name: &str) -> Result<usize, Failure> {
        check_rows(name, self.rows, self.cols, self.row_stride)?;
        extent(name, self.sizes(), self.strides())
    }
}

impl Heads {
    fn sizes(&self) -> [usize; 4] {
        [self.batch, self.seq, self.heads, self.dim]
    }

    fn strides(&self) -> [usize; 4] {
        [self.batch_stride, self.seq_stride, self.head_stride, 1]
    }

    /// Elements from the first to the last.
    fn len(&self, name: &str) -> Result<usize, Failure> {
        extent(name, self.sizes(), self.strides())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ptr::null_mut;

    fn matrix(data: *mut c_void, rows: usize, cols: usize, row_stride: usize) -> Matrix {
        Matrix { data, element: F32, rows, cols, row_stride }
    }

    #[test]
    fn what_cannot_be_a_matrix_is_refused() {
        let mut values = [1.0_f32; 8];
        let data = values.as_mut_ptr().cast::<c_void>();
        let bad = [
            matrix(null_mut(), 1, 1, 1),
            matrix(data, 2, 3, 2),
            matrix(data, usize::MAX, 2, 2),
            matrix(data, 2, usize::MAX / 4, usize::MAX / 4),
            matrix(data.wrapping_byte_add(1), 1, 1, 1),
        ];
        for bad in bad {
            // SAFETY: nothing is made of these.
            assert!(unsafe { bad.view::<f32>("x") }.is_err(), "{bad:?}");
        }
        // SAFETY: eight values are there, and nothing is read from nowhere.
        unsafe {
            assert_eq!(matrix(data, 2, 3, 5).view::<f32>("x").unwrap().row_stride(), 5);
            assert_eq!(matrix(null_mut(), 0, 3, 0).view::<f32>("x").unwrap().cols(), 3);
        }
    }

    #[test]
    fn overlaps_are_found() {
        let values = [0.0_f32; 8];
        let [low, high] = [Span::of(&values[..4]), Span::of(&values[4..])];
        assert!(low.apart("y", &[("x", Some(high)), ("z", None)]).is_ok());
        assert!(low.apart("y", &[("x", Some(Span::of(&values[3..])))]).is_err());
        assert!(low.apart("y", &[("x", Some(Span::of(&values[2..2])))]).is_ok());
    }
}
