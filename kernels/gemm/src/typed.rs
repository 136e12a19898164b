//! Operands whose storage type is known at run time: the loops around the tiles are compiled once, not once for every
//! mix of types.

use gristmill_core::{MatMut, MatRef};
use gristmill_simd::{Dtype, Element, bf16};
use std::{marker::PhantomData, ops::Range};

/// Evaluates an expression in which `$T` is the storage type that `$dtype` names.
macro_rules! typed {
    ($dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            gristmill_simd::Dtype::F32 => {
                type $T = f32;
                $body
            }
            gristmill_simd::Dtype::F16 => {
                type $T = gristmill_simd::f16;
                $body
            }
            gristmill_simd::Dtype::Bf16 => {
                type $T = gristmill_simd::bf16;
                $body
            }
        }
    };
}
pub(crate) use typed;

/// A pointer to values of some storage type.
#[derive(Clone, Copy, Debug)]
pub struct TypedPtr {
    address: *const u8,
    dtype: Dtype,
}

impl TypedPtr {
    /// The pointer `p`.
    #[inline(always)]
    pub fn new<T: Element>(p: *const T) -> Self {
        Self { address: p.cast(), dtype: T::DTYPE }
    }

    /// The address alone.
    #[inline(always)]
    pub(crate) fn address(self) -> *const u8 {
        self.address
    }

    /// What it points to.
    #[inline(always)]
    pub fn dtype(self) -> Dtype {
        self.dtype
    }

    /// The pointer as that of its type.
    #[inline(always)]
    pub fn cast<T: Element>(self) -> *const T {
        debug_assert_eq!(self.dtype, T::DTYPE);
        self.address.cast()
    }

    /// The pointer to the bits of a 16-bit type.
    #[inline(always)]
    pub(crate) fn cast_bits(self) -> *const u16 {
        debug_assert_eq!(self.dtype.size(), 2);
        self.address.cast()
    }

    /// The pointer `n` values further on.
    #[inline(always)]
    pub fn offset(self, n: isize) -> Self {
        Self { address: self.address.wrapping_offset(n.wrapping_mul(self.dtype.size() as isize)), ..self }
    }
}

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
