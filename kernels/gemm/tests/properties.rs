//! Everything an option can vary, in any combination, against `naive` in bits.

mod common;

use common::Product;
use gristmill_core::Activation;
use gristmill_testkit::strategy::{matrix, output_matrix, size, vector};
use proptest::{option, prelude::*, sample::select};

fn factor() -> impl Strategy<Value = f32> {
    prop_oneof![
        4 => select(vec![1.0, 0.0, -1.0, 0.5, -0.0]),
        2 => -3.0f32..3.0,
        1 => select(vec![f32::INFINITY, f32::NAN, f32::MIN_POSITIVE, 1e30]),
    ]
}

fn product(limit: usize) -> impl Strategy<Value = Product> {
    (size(limit), size(limit), size(limit)).prop_flat_map(|(m, n, k)| {
        (
            (matrix(m, k), matrix(k, n), output_matrix(m, n)),
            (factor(), factor()),
            option::of(vector(n)),
            select(&Activation::ALL[..]),
            option::of(matrix(m, n)),
        )
            .prop_map(|((a, b, c), (alpha, beta), bias, activation, residual)| Product {
                a,
                b,
                c,
                alpha,
                beta,
                bias,
                activation,
                residual,
            })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn small_products_equal_naive(product in product(40)) {
        product.check();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn larger_products_equal_naive(product in product(150)) {
        product.check();
    }
}
