//! The crate `matrixmultiply`. Its number of threads comes from the environment: see
//! [`THREADS_VARIABLES`](super::THREADS_VARIABLES).

use super::Product;
use crate::contest::Contender;

pub(super) fn contender(product: Product<'_>) -> Contender<'_> {
    let (m, n, k) = (product.case.m, product.case.n, product.case.k);
    let (b_rows, b_cols) = product.b_strides();
    Contender::new("matrixmultiply", move |output| {
        assert_eq!((product.a.len(), product.b.len(), output.len()), (m * k, k * n, m * n));
        let (a, b, c) = (product.a.as_ptr(), product.b.as_ptr(), output.as_mut_ptr());
        // SAFETY: the strides are those of the three slices, whose lengths were checked above, and `output` is
        // exclusive; with a zero factor its old values are not read.
        unsafe { matrixmultiply::sgemm(m, k, n, 1.0, a, k as isize, 1, b, b_rows, b_cols, 0.0, c, n as isize, 1) }
    })
}
