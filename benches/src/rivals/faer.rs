//! The crate `faer`.

use super::Product;
use crate::contest::Contender;
use faer::{Accum, MatMut, MatRef, Par, linalg::matmul::matmul};

pub(super) fn contender(product: Product<'_>) -> Contender<'_> {
    let (m, n, k) = (product.case.m, product.case.n, product.case.k);
    let par = if product.threads > 1 { Par::rayon(product.threads) } else { Par::Seq };
    Contender::new("faer", move |output| {
        let a = MatRef::from_row_major_slice(product.a, m, k);
        let b = if product.case.layout.transposed() {
            MatRef::from_row_major_slice(product.b, n, k).transpose()
        } else {
            MatRef::from_row_major_slice(product.b, k, n)
        };
        matmul(MatMut::from_row_major_slice_mut(output, m, n), Accum::Replace, a, b, 1.0, par);
    })
}
