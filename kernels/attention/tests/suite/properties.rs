//! The tuned kernel equals `naive` in bits, whatever the sizes, layouts, values, masks and options.

use crate::common::{Case, Sizes, with_types};
use gristmill_testkit::shapes::{HEAD_DIMS, KEY_EDGES};
use gristmill_testkit::strategy::{heads, mask, output_heads, size};
use proptest::{option, prelude::*, sample::select};

fn sizes() -> impl Strategy<Value = Sizes> {
    let dim = || prop_oneof![select(&HEAD_DIMS[..]), 0..40usize];
    // Long rows are rare and come with few queries: `naive` is slow.
    let lengths = prop_oneof![
        12 => (size(33), size(65)),
        1 => (0..4usize, select(&KEY_EDGES[..])),
        1 => (0..4usize, 500..1100usize),
    ];
    (0..3usize, 1..3usize, 1..4usize, lengths, dim(), dim(), any::<bool>()).prop_map(
        |(batch, kv_heads, group, (queries, keys), dim, value_dim, same)| Sizes {
            batch,
            kv_heads,
            group,
            queries,
            keys,
            dim,
            value_dim: if same { dim } else { value_dim },
        },
    )
}

fn case() -> impl Strategy<Value = Case> {
    sizes().prop_flat_map(|sizes| {
        let scale = option::of(prop_oneof![Just(0.125f32), Just(1.0), Just(0.0), -2.0..2.0f32]);
        let softcap = option::weighted(0.2, 0.5..50.0f32);
        let heads = (heads(sizes.q()), heads(sizes.k()), heads(sizes.v()), output_heads(sizes.out()));
        (heads, mask(sizes.scores()), scale, softcap).prop_map(|((q, k, v, out), mask, scale, softcap)| Case {
            q,
            k,
            v,
            out,
            mask,
            scale,
            softcap,
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn equals_naive(case in case()) {
        case.assert_exact();
    }
}

proptest! {
    // Each case costs as much as ten of f32: five mixes of types, from views and from a cache.
    #![proptest_config(ProptestConfig { cases: 200, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn equals_naive_in_16_bits(case in case()) {
        with_types!(case.assert_exact_as::<Q, K, O>());
    }
}
