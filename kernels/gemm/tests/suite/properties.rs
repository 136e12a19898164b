//! Everything an option can vary, in any combination and mix of storage types, against `naive` in bits.

use crate::common::{Product, every_mix};
use gristmill_core::Activation;
use gristmill_simd::{Element, bf16, f16};
use gristmill_testkit::strategy::{fill, input_layout, output_layout, size};
use gristmill_testkit::{Fill, Layout, Strided};
use proptest::{option, prelude::*, sample::select};

/// A matrix without its type.
type Recipe = (Layout<2>, Fill, u64);

/// A product without its types.
#[derive(Clone, Debug)]
struct Recipes {
    sizes: [usize; 3],
    a: Recipe,
    b: Recipe,
    c: Recipe,
    factors: (f32, f32),
    bias: Option<(Fill, u64)>,
    activation: Activation,
    residual: Option<Recipe>,
}

fn make<T: Element>(sizes: [usize; 2], (layout, fill, seed): &Recipe) -> Strided<T, 2> {
    Strided::filled(sizes, layout, *fill, *seed)
}

fn check<A: Element, B: Element, C: Element>(recipes: &Recipes) {
    let ([m, n, k], (alpha, beta)) = (recipes.sizes, recipes.factors);
    let product = Product::<A, B, C> {
        a: make([m, k], &recipes.a),
        b: make([k, n], &recipes.b),
        c: make([m, n], &recipes.c),
        alpha,
        beta,
        bias: recipes.bias.map(|(fill, seed)| fill.vec(seed, n)),
        activation: recipes.activation,
        residual: recipes.residual.as_ref().map(|recipe| make([m, n], recipe)),
    };
    product.check();
}

fn factor() -> impl Strategy<Value = f32> {
    prop_oneof![
        4 => select(vec![1.0, 0.0, -1.0, 0.5, -0.0]),
        2 => -3.0f32..3.0,
        1 => select(vec![f32::INFINITY, f32::NAN, f32::MIN_POSITIVE, 1e30]),
    ]
}

fn any_fill() -> impl Strategy<Value = Fill> {
    prop_oneof![6 => fill(), 1 => Just(Fill::Bits)]
}

fn recipes(limit: usize) -> impl Strategy<Value = Recipes> {
    let input = || (input_layout(), any_fill(), any::<u64>());
    let output = (output_layout(), any_fill(), any::<u64>());
    (
        [size(limit), size(limit), size(limit)],
        (input(), input(), output),
        (factor(), factor()),
        option::of((any_fill(), any::<u64>())),
        select(&Activation::ALL[..]),
        option::of(input()),
    )
        .prop_map(|(sizes, (a, b, c), factors, bias, activation, residual)| Recipes {
            sizes,
            a,
            b,
            c,
            factors,
            bias,
            activation,
            residual,
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn small_products_equal_naive(recipes in recipes(40)) {
        check::<f32, f32, f32>(&recipes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn small_products_of_every_mix_equal_naive(recipes in recipes(40)) {
        every_mix!(check(&recipes));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn larger_products_equal_naive(recipes in recipes(150)) {
        check::<f32, f32, f32>(&recipes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, ..ProptestConfig::default() })]

    #[test]
    fn larger_products_of_every_mix_equal_naive(recipes in recipes(150)) {
        every_mix!(check(&recipes));
    }
}
