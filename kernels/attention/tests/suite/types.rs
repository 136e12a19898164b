//! Operands of 16 bits: the bits of `naive`, which widens and rounds value by value.

use crate::common::{Case, Sizes, with_types};
use gristmill_simd::bf16;
use gristmill_testkit::mask::{OwnedCausal, OwnedMask};
use gristmill_testkit::{Fill, Heads, Layout, Rng, Strided};

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

/// bf16 times bf16, with every way to compute it.
fn assert_pairs(case: &Case) {
    case.assert_exact_as::<bf16, bf16, f32>();
}

#[test]
fn pairs_that_underflow() {
    // Products of queries and keys, and of weights and values, around 2^-126 and far from it, subnormal or not.
    for (seed, [q, k, v]) in
        [[-63, -63, -70], [-50, -60, -52], [-126, 0, -124], [0, -130, -130], [-56, -56, -51]].into_iter().enumerate()
    {
        for queries in [1, 2, 30] {
            let sizes = Sizes { batch: 1, kv_heads: 2, group: 1, queries, keys: 71, dim: 21, value_dim: 16 };
            let mut case = Case { scale: Some(1.0), ..Case::normal(sizes, seed as u64) };
            for (heads, exponent) in [(&mut case.q, q), (&mut case.k, k), (&mut case.v, v)] {
                heads.data.iter_mut().for_each(|x| *x = (f64::from(*x) * 2f64.powi(exponent)) as f32);
            }
            // Weights from one to zero.
            let mut rng = Rng::new(seed as u64);
            let bias = Strided::new(sizes.scores(), &Layout::default(), 0.0, || rng.normal() * 30.0);
            assert_pairs(&case);
            assert_pairs(&Case { mask: OwnedMask { bias: Some(bias), ..OwnedMask::default() }, ..case });
        }
    }
}

#[test]
fn hidden_partners_of_pairs() {
    // Every second key is hidden, the odd ones or the even ones, and holds what must not be seen.
    for (parity, queries) in [(0, 1), (1, 1), (0, 30), (1, 30)] {
        for value in [f32::NAN, f32::INFINITY, 1e38] {
            let sizes = Sizes { batch: 1, kv_heads: 2, group: 1, queries, keys: 525, dim: 16, value_dim: 32 };
            let mut case = Case::normal(sizes, 3);
            let mut at = 0..;
            let keep = Strided::new([1, 1, 1, 525], &Layout::default(), false, || {
                at.next().is_some_and(|j: usize| j % 2 != parity)
            });
            for j in (parity..525).step_by(2) {
                for heads in [&mut case.k, &mut case.v] {
                    let row = heads.sizes[2] * heads.sizes[3];
                    heads.data[j * row..][..row].fill(value);
                }
            }
            case.mask.keep = Some(keep);
            assert_pairs(&case);
        }
    }
}

#[test]
fn partners_behind_the_last_key() {
    // What follows the last key that a block of queries sees, or that there is.
    for queries in [1, 5, 61] {
        for length in [1, 17, 64, 65] {
            let sizes = Sizes { batch: 1, kv_heads: 1, group: 2, queries, keys: 66, dim: 18, value_dim: 24 };
            let mut case = Case::normal(sizes, 4);
            case.v.data[length * 24..].fill(f32::NAN);
            let lengths = OwnedMask { key_lengths: Some(vec![length]), ..OwnedMask::default() };
            assert_pairs(&Case { mask: lengths, ..case.clone() });
            let offset = length as isize - queries as isize;
            let causal = OwnedMask { causal: Some(OwnedCausal::Offset(offset)), ..OwnedMask::default() };
            assert_pairs(&Case { mask: causal, ..case });
        }
    }
}

#[test]
fn scales_of_pairs() {
    for scale in [0.0, -1.5, f32::INFINITY, f32::NAN, 1e38, 1e-38] {
        let case = Case { scale: Some(scale), ..Case::normal(Sizes::single(13, 70, 16), 5) };
        assert_pairs(&case);
        assert_pairs(&Case { softcap: Some(3.0), mask: causal(), ..case });
    }
}
