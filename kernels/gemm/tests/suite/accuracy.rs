//! The specification itself against f64: element by element within `gamma_k * (|A| |B|)`.

use crate::common::Product;
use gristmill_core::Threads;
use gristmill_testkit::{Fill, Layout, Matrix, sweep};

#[test]
fn the_chain_is_within_gamma_k() {
    for (m, n, k, fill) in [
        (5, 40, 512, Fill::Normal),
        (5, 40, 4096, Fill::Normal),
        (17, 33, 300, Fill::Normal),
        (9, 20, 100, Fill::Integers),
    ] {
        let matrix = |rows, cols, seed| Matrix::filled([rows, cols], &Layout::default(), fill, seed);
        let product = Product::plain(matrix(m, k, 1), matrix(k, n, 2), matrix(m, n, 3));
        let (a, b) = (product.a.mat(), product.b.mat());
        sweep::levels(|level| {
            let c = product.tuned(b, level, Threads::Serial);
            // Without a fused multiply-add each step rounds twice.
            let u = 0.5 * f64::from(f32::EPSILON);
            let roundings = k as f64 * if level.fused() { 1.0 } else { 2.0 };
            let gamma = roundings * u / (1.0 - roundings * u);
            let mut worst = 0.0f64;
            for i in 0..m {
                for j in 0..n {
                    let terms = (0..k).map(|p| f64::from(a.at(i, p)) * f64::from(b.at(p, j)));
                    let (sum, magnitude) = terms.fold((0.0, 0.0), |(s, t), x| (s + x, t + x.abs()));
                    let error = (f64::from(c.mat().at(i, j)) - sum).abs();
                    // What f64 itself may be off, and a subnormal step.
                    let bound = gamma * magnitude + 1e-12 * magnitude + 1e-44 * k as f64;
                    assert!(error <= bound, "{level} ({i}, {j}): error {error:e}, bound {bound:e}");
                    worst = worst.max(error / bound);
                }
            }
            println!("{level} {m} x {n} x {k} {fill:?}: {:.3} of the bound", worst);
        });
    }
}
