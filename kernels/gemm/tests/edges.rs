//! Sizes that straddle every tile edge, one after the other, against `naive` in bits.

mod common;

use common::Product;
use gristmill_core::Activation;
use gristmill_testkit::{Fill, Layout, Matrix, shapes};

fn product([m, n, k]: shapes::Gemm, transposed_b: bool) -> Product {
    let order = if transposed_b { [1, 0] } else { [0, 1] };
    let seed = (m * 1_000_003 + n * 1_009 + k) as u64;
    let matrix = |rows, cols, layout: &Layout<2>, salt| Matrix::filled([rows, cols], layout, Fill::Normal, seed ^ salt);
    Product::plain(
        matrix(m, k, &Layout::default(), 1),
        matrix(k, n, &Layout { order, ..Layout::default() }, 2),
        matrix(m, n, &Layout { padding: [3, 0], ..Layout::default() }, 3),
    )
}

/// Every row count up to two of the tallest tiles, against columns around one, two and three panels.
#[test]
fn every_tile_edge() {
    for m in 0..=25 {
        for n in [1, 7, 8, 15, 16, 17, 31, 32, 33, 47, 48, 49, 65, 127, 129] {
            for k in [0, 1, 5, 16] {
                product([m, n, k], (m + n) % 2 == 0).check();
            }
        }
    }
}

/// Every column count up to a little more than the widest tile.
#[test]
fn every_column_edge() {
    for n in 1..=140 {
        for m in [1, 2, 3, 6, 13] {
            product([m, n, 9], n % 2 == 0).check();
        }
    }
}

/// Products that are worth several jobs: cut by rows, by columns and both, with parts of unequal size.
#[test]
fn products_that_threads_share() {
    for (m, n, k) in [
        (1, 1000, 1100),
        (2, 4099, 150),
        (13, 517, 650),
        (100, 33, 1500),
        (333, 16, 900),
        (1031, 5, 700),
        (200, 300, 131),
    ] {
        assert!((m + 8) * n * k >= 2 << 20, "too small to be shared");
        for transposed_b in [false, true] {
            let mut product = product([m, n, k], transposed_b);
            product.check();
            product.beta = -1.5;
            product.bias = Some(vec![0.75; n]);
            product.check();
        }
    }
}

/// Depths beyond one block, with accumulators that are put down and taken up again, and with an epilogue.
#[test]
fn deep_products() {
    for (m, n, k) in [(1, 33, 20_000), (13, 40, 40_000), (30, 17, 33_333), (50, 100, 5_000)] {
        let mut product = product([m, n, k], true);
        product.check();
        product.beta = 0.5;
        product.bias = Some(vec![0.25; n]);
        product.activation = Activation::Relu;
        product.check();
    }
}

/// The shapes that the benches measure, as far as `naive` is quick.
#[test]
fn shapes_of_the_list() {
    for shape in shapes::gemm_below(40 << 20) {
        product(shape, true).check();
        product(shape, false).check();
    }
}
