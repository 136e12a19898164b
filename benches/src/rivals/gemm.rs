//! The crate `gemm`, for f32 and f16.

use super::Product;
use crate::{buffer::Stored, contest::Contender};
use gemm_rival::Parallelism;

pub(super) fn contender<T: Stored>(product: Product<'_, T>) -> Contender<'_> {
    let (m, n, k) = (product.case.m, product.case.n, product.case.k);
    let (b_rows, b_cols) = product.b_strides();
    let parallelism = if product.threads > 1 { Parallelism::Rayon(product.threads) } else { Parallelism::None };
    let (zero, one) = (T::from_f32(0.0), T::from_f32(1.0));
    Contender::of("gemm", move |output: &mut [T]| {
        assert_eq!((product.a.len(), product.b.len(), output.len()), (m * k, k * n, m * n));
        let (a, b, c) = (product.a.as_ptr(), product.b.as_ptr(), output.as_mut_ptr());
        // SAFETY: the strides are those of the three slices, whose lengths were checked above, and `output` is
        // exclusive. Strides are given columns first; `false` and the zero factor leave the old output unread.
        unsafe {
            gemm_rival::gemm(
                m,
                n,
                k,
                c,
                1,
                n as isize,
                false,
                a,
                1,
                k as isize,
                b,
                b_cols,
                b_rows,
                zero,
                one,
                false,
                false,
                false,
                parallelism,
            );
        }
    })
}
