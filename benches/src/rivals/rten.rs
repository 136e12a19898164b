//! The crate `rten-gemm`, behind the feature `rten`. It can pack a weight beforehand and write rows.

use super::Product;
use crate::contest::Contender;
use rten_gemm::{GemmExecutor, GemmInputA, GemmInputB, GemmOptions};
use rten_tensor::NdTensorView;

thread_local! {
    /// It stays on its thread, and contenders may be moved.
    static EXECUTOR: GemmExecutor<f32> = GemmExecutor::default();
}

pub(super) fn contender(product: Product<'_>) -> Contender<'_> {
    Contender::new("rten", move |output| multiply(product, GemmInputB::Unpacked(right(product)), output))
}

/// With a right-hand side that is packed beforehand.
pub(super) fn packed_contender(product: Product<'_>) -> Option<Contender<'_>> {
    let pack = || EXECUTOR.with(|executor| executor.prepack_b(right(product)));
    let packed = product.case.layout.packed().then(pack)?;
    Some(Contender::new("rten-packed", move |output| multiply(product, GemmInputB::Packed(&packed), output)))
}

fn multiply(product: Product<'_>, b: GemmInputB<'_, f32>, output: &mut [f32]) {
    let a = GemmInputA::Unpacked(NdTensorView::from_data([product.case.m, product.case.k], product.a));
    let done = EXECUTOR.with(|executor| executor.gemm(output, a, b, GemmOptions::default()));
    done.expect("the operands fit together");
}

/// `[k, n]`, through its strides.
fn right(product: Product<'_>) -> NdTensorView<'_, f32, 2> {
    let (n, k) = (product.case.n, product.case.k);
    if product.case.layout.transposed() {
        NdTensorView::from_data([n, k], product.b).transposed()
    } else {
        NdTensorView::from_data([k, n], product.b)
    }
}
