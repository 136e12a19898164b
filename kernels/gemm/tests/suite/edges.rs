//! Sizes that straddle every tile edge, one after the other, against `naive` in bits.

use crate::common::{Product, every_mix};
use gristmill_core::Activation;
use gristmill_simd::{Element, bf16, f16};
use gristmill_testkit::{Fill, Layout, Strided, shapes};

fn product<A: Element, B: Element, C: Element>([m, n, k]: shapes::Gemm, transposed_b: bool) -> Product<A, B, C> {
    fn matrix<T: Element>(sizes: [usize; 2], layout: Layout<2>, seed: usize) -> Strided<T, 2> {
        Strided::filled(sizes, &layout, Fill::Normal, seed as u64)
    }
    let order = if transposed_b { [1, 0] } else { [0, 1] };
    let seed = m * 1_000_003 + n * 1_009 + k;
    Product::plain(
        matrix([m, k], Layout::default(), seed ^ 1),
        matrix([k, n], Layout { order, ..Layout::default() }, seed ^ 2),
        matrix([m, n], Layout { padding: [3, 0], ..Layout::default() }, seed ^ 3),
    )
}

fn check<A: Element, B: Element, C: Element>(shape: shapes::Gemm, transposed_b: bool) {
    product::<A, B, C>(shape, transposed_b).check();
}

/// Every row count up to two of the tallest tiles, against columns around one, two and three panels.
#[test]
fn every_tile_edge() {
    for m in 0..=25 {
        for n in [1, 7, 8, 15, 16, 17, 31, 32, 33, 47, 48, 49, 65, 127, 129] {
            for k in [0, 1, 5, 16] {
                let (shape, transposed_b) = ([m, n, k], (m + n) % 2 == 0);
                check::<f32, f32, f32>(shape, transposed_b);
                if k != 16 && n < 66 {
                    check::<f32, f16, f32>(shape, transposed_b);
                    check::<f32, bf16, f32>(shape, transposed_b);
                    check::<f16, f16, f16>(shape, transposed_b);
                    check::<bf16, bf16, bf16>(shape, transposed_b);
                }
            }
        }
    }
}

/// Every column count up to a little more than the widest tile.
#[test]
fn every_column_edge() {
    for n in 1..=140 {
        for m in [1, 2, 3, 6, 13] {
            check::<f32, f32, f32>([m, n, 9], n % 2 == 0);
            check::<f16, f16, f16>([m, n, 9], n % 2 == 0);
            check::<bf16, bf16, bf16>([m, n, 9], n % 2 == 0);
        }
    }
}

/// Rows of A and columns of B that lie whole pages apart, at addresses alike and not.
#[test]
fn rows_and_columns_whole_pages_apart() {
    const K: usize = 1024;
    for m in [2, 5, 8, 12] {
        let mut product = product::<f32, f32, f32>([m, 37, K], true);
        let stored = product.a.clone();
        // Somewhere within a page the two begin alike.
        for shift in (0..K).step_by(64) {
            product.a.data.splice(0..0, std::iter::repeat_n(0.0, 64));
            product.a.offset = stored.offset + shift + 64;
            product.check();
        }
    }
}

/// Many groups of panels, which one call of a tile goes through, each with its own part of bias, residual and C.
#[test]
fn many_groups_of_panels() {
    fn check<A: Element, B: Element, C: Element>([m, n, k]: shapes::Gemm, activation: Activation) {
        let mut product = product::<A, B, C>([m, n, k], false);
        (product.alpha, product.beta, product.activation) = (1.5, -0.5, activation);
        product.bias = Some((0..n).map(|j| C::from_f32(j as f32 * 0.01 - 2.0)).collect());
        let layout = Layout { padding: [5, 0], ..Layout::default() };
        product.residual = Some(Strided::filled([m, n], &layout, Fill::Normal, 4));
        product.check();
        product.c = Strided::filled([m, n], &Layout { order: [1, 0], ..Layout::default() }, Fill::Normal, 5);
        product.check();
    }
    for m in [1, 2, 5, 7, 9, 12, 13] {
        for n in [193, 304, 400, 1000] {
            for activation in [Activation::Identity, Activation::Relu, Activation::Gelu] {
                check::<f32, f32, f32>([m, n, 3], activation);
                check::<f32, f16, f32>([m, n, 3], activation);
                check::<f32, bf16, f16>([m, n, 4], activation);
                check::<bf16, bf16, bf16>([m, n, 5], activation);
            }
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
            let mut product = product::<f32, f32, f32>([m, n, k], transposed_b);
            product.check();
            product.beta = -1.5;
            product.bias = Some(vec![0.75; n]);
            product.check();
            check::<f32, f16, f32>([m, n, k], transposed_b);
            check::<bf16, bf16, bf16>([m, n, k], transposed_b);
        }
    }
}

/// The same of every mix of types, with a residual, C by columns and by rows, A and the residual backwards.
#[test]
fn products_of_every_kind_that_threads_share() {
    fn check<A: Element, B: Element, C: Element>([m, n, k]: shapes::Gemm, order: [usize; 2]) {
        assert!((m + 8) * n * k >= 1 << 20, "too small to be shared");
        let layout = Layout { order, padding: [2, 2], ..Layout::default() };
        let backwards = Layout { reversed: [true, true], ..layout.clone() };
        let filled = Product::plain(
            Strided::filled([m, k], &backwards, Fill::Normal, 1),
            Strided::filled([k, n], &layout, Fill::Normal, 2),
            Strided::filled([m, n], &layout, Fill::Normal, 3),
        );
        let residual = Some(Strided::filled([m, n], &backwards, Fill::Normal, 4));
        let bias = Some(Fill::Normal.vec(5, n));
        let activation = Activation::Relu;
        Product::<A, B, C> { alpha: 0.75, beta: -0.5, bias, activation, residual, ..filled }.check();
    }
    for order in [[0, 1], [1, 0]] {
        every_mix!(check([300, 40, 87], order));
        every_mix!(check([20, 400, 95], order));
    }
}

/// Row 0 has nothing but a subnormal, which the dot product of pairs reads as zero and a multiply-add would not: levels
/// without the instruction take its steps one by one, in blocks of the depth and of rows.
#[test]
fn pairs_with_a_subnormal() {
    for ([m, n, k], transposed_b) in [([1, 33, 9_000], true), ([13, 17, 9_000], false), ([200, 33, 1_000], true)] {
        let mut product = product::<bf16, bf16, bf16>([m, n, k], transposed_b);
        product.a.data[..k].fill(bf16::ZERO);
        product.a.data[k / 2] = bf16::from_bits(1);
        product.check();
    }
}

/// Depths beyond one block, with accumulators that are put down and taken up again, and with an epilogue.
#[test]
fn deep_products() {
    for (m, n, k) in [(1, 33, 20_000), (13, 40, 40_000), (30, 17, 33_333), (50, 100, 5_000)] {
        let mut product = product::<f32, f32, f32>([m, n, k], true);
        product.check();
        product.beta = 0.5;
        product.bias = Some(vec![0.25; n]);
        product.activation = Activation::Relu;
        product.check();
        check::<f32, f16, f32>([m, n, k], true);
        check::<f16, f16, f16>([m, n, k], false);
        check::<bf16, bf16, bf16>([m, n, k], true);
    }
}

/// Every mix of storage types: with few rows, where every tile widens its panels, and with many, where one does for all.
#[test]
fn every_mix() {
    for transposed_b in [false, true] {
        for shape in [[1, 40, 37], [9, 33, 50], [30, 70, 33], [101, 50, 19]] {
            every_mix!(check(shape, transposed_b));
        }
    }
}

/// Strides by which no element is reached: of dimensions of one element, and of operands without any.
#[test]
fn strides_that_lead_nowhere_have_any_value() {
    fn check<A: Element, B: Element, C: Element>([m, n, k]: shapes::Gemm, stride: isize) {
        for transposed_b in [false, true] {
            let mut product = product::<A, B, C>([m, n, k], transposed_b);
            product.residual = Some(product.c.clone());
            let residual = product.residual.as_mut().unwrap();
            let operands = [(&mut product.a.strides, [m, k]), (&mut product.b.strides, [k, n])];
            let results = [(&mut product.c.strides, [m, n]), (&mut residual.strides, [m, n])];
            for (strides, sizes) in operands.into_iter().chain(results) {
                for (d, own) in strides.iter_mut().enumerate() {
                    *own = if sizes[d] == 1 || sizes.contains(&0) { stride } else { *own };
                }
            }
            product.check();
        }
    }
    for shape in [[1, 40, 9], [1, 300, 70], [5, 1, 9], [70, 1, 40], [13, 40, 1], [13, 40, 0], [1, 1, 1], [1, 1, 40]] {
        for stride in [isize::MAX, isize::MIN, 0, -1] {
            check::<f32, f32, f32>(shape, stride);
            check::<f16, f32, f16>(shape, stride);
            check::<bf16, bf16, f32>(shape, stride);
        }
    }
}

/// The shapes that the benches measure, as far as `naive` is quick.
#[test]
fn shapes_of_the_list() {
    for shape in shapes::gemm_below(40 << 20) {
        check::<f32, f32, f32>(shape, true);
        check::<f32, f32, f32>(shape, false);
    }
}

/// Rows that do not all stay in cache: several row blocks use the same panels, packed by the caller or by the call.
#[test]
fn more_rows_than_stay_in_cache() {
    let [m, n, k] = [1100, 101, 330];
    for transposed_b in [false, true] {
        let mut product = product::<f32, f32, f32>([m, n, k], transposed_b);
        product.bias = Some(vec![0.5; n]);
        product.check();
        check::<f32, f16, f32>([m, n, k], transposed_b);
        check::<f32, bf16, f32>([m, n, k], transposed_b);
    }
}

/// Few rows over columns that are contiguous, with and without room between them: whole panels are read in place, the last
/// one is packed.
#[test]
fn few_rows_over_contiguous_columns() {
    fn check<A: Element, B: Element, C: Element>([m, n, k]: shapes::Gemm) {
        for padding in [0, 1, 2] {
            let layout = Layout { order: [1, 0], padding: [padding, 0], ..Layout::default() };
            let mut product = Product::<A, B, C>::plain(
                Strided::filled([m, k], &Layout::default(), Fill::Normal, m as u64),
                Strided::filled([k, n], &layout, Fill::Normal, n as u64),
                Strided::filled([m, n], &Layout::default(), Fill::Normal, k as u64),
            );
            product.check();
            product.activation = Activation::Gelu;
            product.beta = 2.0;
            product.check();
        }
    }
    for m in 1..=13 {
        for n in [1, 15, 16, 17, 48, 50] {
            for k in [1, 3, 4, 7, 16, 65, 130] {
                check::<f32, f32, f32>([m, n, k]);
            }
            for k in [2, 7, 8, 22, 130] {
                check::<f32, f16, f32>([m, n, k]);
                check::<f32, bf16, f32>([m, n, k]);
                check::<f16, f16, f16>([m, n, k]);
                check::<bf16, bf16, bf16>([m, n, k]);
            }
        }
    }
    // Two panels at a time, half a column apart; not so, or not quite, where columns are whole pages.
    for n in [16, 32, 80] {
        for k in [96, 1000, 1024, 4096] {
            check::<f32, f32, f32>([1, n, k]);
            check::<f16, f16, f16>([1, n, k]);
            check::<bf16, bf16, bf16>([1, n, k]);
        }
    }
}

/// Rows that fill panels over long columns that are contiguous: the product is turned, and its tiles are turned back, with
/// every step of an epilogue before and after.
#[test]
fn rows_that_fill_panels_over_contiguous_columns() {
    fn check<A: Element, C: Element>(shape: shapes::Gemm) {
        let [m, n, _] = shape;
        let mut product = product::<A, f32, C>(shape, true);
        product.check();
        product.alpha = 0.75;
        product.beta = 0.5;
        product.bias = Some(Fill::Normal.vec(1, n));
        product.activation = Activation::Relu;
        product.check();
        product.activation = Activation::GeluTanh;
        let residual = Layout { order: [m % 2, 1 - m % 2], ..Layout::default() };
        product.residual = Some(Strided::filled([m, n], &residual, Fill::Normal, 2));
        product.check();
    }
    for m in [12, 13, 14, 16, 28, 31, 32, 45, 48] {
        for n in [95, 96, 101] {
            for k in [128, 131] {
                check::<f32, f32>([m, n, k]);
            }
        }
    }
    check::<f16, f16>([16, 101, 131]);
    check::<f32, bf16>([32, 101, 131]);
    // A weight beyond the second cache, and several jobs.
    check::<f32, f32>([16, 4111, 260]);
}
