//! The crate `gemmkit`.

use super::Product;
use crate::{buffer::Stored, contest::Contender};
use gemmkit::{GemmScalar, MatMut, MatRef, Parallelism, Workspace};

pub(super) fn contender<T: Stored + GemmScalar>(product: Product<'_, T>) -> Contender<'_> {
    let (m, n, k) = (product.case.m, product.case.n, product.case.k);
    let mut workspace = Workspace::new();
    Contender::of("gemmkit", move |output: &mut [T]| {
        let a = MatRef::from_row_major(product.a, m, k);
        let c = MatMut::from_row_major(output, m, n);
        gemmkit::gemm_with(
            &mut workspace,
            T::from_f32(1.0),
            a,
            right(product),
            T::from_f32(0.0),
            c,
            parallelism(product),
        );
    })
}

/// A right-hand side prepacked by gemmkit writes column-major outputs only; a single row is both.
pub(super) fn packed_contender<T: Stored + GemmScalar>(product: Product<'_, T>) -> Option<Contender<'_>> {
    let (m, n, k) = (product.case.m, product.case.n, product.case.k);
    if !product.case.layout.packed() || m != 1 {
        return None;
    }
    let packed = gemmkit::prepack_rhs(right(product));
    let mut workspace = Workspace::new();
    Some(Contender::of("gemmkit-packed", move |output: &mut [T]| {
        let a = MatRef::from_row_major(product.a, 1, k);
        let c = MatMut::from_col_major(output, 1, n);
        gemmkit::gemm_packed_b_with(
            &mut workspace,
            T::from_f32(1.0),
            a,
            &packed,
            T::from_f32(0.0),
            c,
            parallelism(product),
        );
    }))
}

fn right<T>(product: Product<'_, T>) -> MatRef<'_, T> {
    let (rows, cols) = product.b_strides();
    MatRef::new(product.b, product.case.k, product.case.n, rows, cols)
}

fn parallelism<T>(product: Product<'_, T>) -> Parallelism {
    if product.threads > 1 { Parallelism::Rayon(product.threads) } else { Parallelism::Serial }
}
