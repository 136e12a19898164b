//! Operands of 16 bits: the bits of `naive`, which widens and rounds value by value.

use crate::common::{Case, Sizes, with_types};
use gristmill_testkit::mask::{OwnedCausal, OwnedMask};
use gristmill_testkit::{Fill, Heads, Layout};

fn causal() -> OwnedMask {
    OwnedMask { causal: Some(OwnedCausal::BottomRight), ..OwnedMask::default() }
}

#[test]
fn sizes_around_tiles() {
    for dim in [1, 16, 33, 64] {
        for queries in [1, 2, 12, 13, 61] {
            for keys in [0, 1, 15, 17, 64, 65] {
                let case = Case::normal(Sizes::single(queries, keys, dim), (queries * 100 + keys) as u64);
                with_types!(case.assert_exact_as::<Q, K, O>());
                let case = Case { mask: causal(), ..case };
                with_types!(case.assert_exact_as::<Q, K, O>());
            }
        }
    }
}

#[test]
fn rows_longer_than_the_blocks_of_values() {
    for (queries, keys, dim) in [(1, 1025, 33), (2, 513, 64), (60, 530, 24)] {
        let case = Case { mask: causal(), ..Case::normal(Sizes::single(queries, keys, dim), keys as u64) };
        with_types!(case.assert_exact_as::<Q, K, O>());
    }
}

#[test]
fn grouped_heads_and_layouts() {
    let orders = [[0, 1, 2, 3], [0, 2, 1, 3], [0, 2, 3, 1]];
    for queries in [1, 14] {
        let sizes = Sizes { batch: 2, kv_heads: 2, group: 3, queries, keys: 70, dim: 20, value_dim: 40 };
        for order in orders {
            let layout = Layout { order, padding: [0, 4, 1, 0], margin: 3, ..Layout::default() };
            let filled = |sizes, seed| Heads::filled(sizes, &layout, Fill::Normal, seed);
            let case = Case {
                q: filled(sizes.q(), 1),
                k: filled(sizes.k(), 2),
                v: filled(sizes.v(), 3),
                out: filled(sizes.out(), 4),
                mask: causal(),
                scale: None,
                softcap: Some(3.0),
            };
            with_types!(case.assert_exact_as::<Q, K, O>());
        }
    }
}

#[test]
fn special_values() {
    let sizes = Sizes { batch: 1, kv_heads: 1, group: 2, queries: 30, keys: 40, dim: 17, value_dim: 17 };
    for seed in 0..20 {
        let filled = |sizes, seed| Heads::filled(sizes, &Layout::default(), Fill::Special, seed);
        let case = Case {
            q: filled(sizes.q(), 4 * seed),
            k: filled(sizes.k(), 4 * seed + 1),
            v: filled(sizes.v(), 4 * seed + 2),
            out: filled(sizes.out(), 4 * seed + 3),
            mask: causal(),
            scale: None,
            softcap: None,
        };
        with_types!(case.assert_exact_as::<Q, K, O>());
    }
}
