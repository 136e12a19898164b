//! The left operand as tiles read it.

use crate::pack::{convert, widen};
use crate::typed::{Operand, typed};
use gristmill_simd::{Dtype, Isa};

/// Rows of A in f32: the value of row `r` at step `p` lies at `start + r * row + p * step`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Left {
    pub(crate) start: *const f32,
    pub(crate) row: isize,
    pub(crate) step: isize,
}

/// How many values [`left`] needs for these rows.
pub(crate) fn widened_len(a: &Operand<'_>, rows: usize) -> usize {
    if a.dtype() == Dtype::F32 { 0 } else { rows * a.cols() }
}

/// Rows of A: where they are, or, of a 16-bit type, widened into `widened`, once for all their uses.
///
/// # Panics
/// If `widened` is shorter than [`widened_len`].
pub(crate) fn left<I: Isa>(isa: I, a: Operand<'_>, widened: &mut [f32]) -> Left {
    let ([rows, k], [row, step]) = (a.shape, a.strides);
    if a.dtype() == Dtype::F32 {
        return Left { start: a.ptr_at(0, 0).cast(), row, step };
    }
    let widened = &mut widened[..rows * k];
    if widened.is_empty() {
        return Left { start: widened.as_ptr(), row: 0, step: 0 };
    }
    // Rows, or columns, that lie side by side in memory keep their order.
    if step == 1 || row != 1 {
        for (i, to) in widened.chunks_exact_mut(k).enumerate() {
            if step == 1 {
                // SAFETY: the k values of row i lie in A, side by side.
                unsafe { widen(isa, a.ptr_at(i, 0), to) };
            } else {
                typed!(a.dtype(), T => for (p, to) in to.iter_mut().enumerate() {
                    // SAFETY: (i, p) is an element of A.
                    *to = convert(unsafe { *a.ptr_at(i, p).cast::<T>() });
                });
            }
        }
        Left { start: widened.as_ptr(), row: k as isize, step: 1 }
    } else {
        for (p, to) in widened.chunks_exact_mut(rows).enumerate() {
            // SAFETY: the values of column p lie in A, side by side.
            unsafe { widen(isa, a.ptr_at(0, p), to) };
        }
        Left { start: widened.as_ptr(), row: 1, step: rows as isize }
    }
}
