//! The attention weights themselves.

use crate::common::{Case, Sizes, with_types};
use gristmill_attention::{attention_weights, naive};
use gristmill_core::{Error, HeadsMut, HeadsRef, Threads, Workspace};
use gristmill_simd::Element;
use gristmill_testkit::mask::{OwnedCausal, OwnedMask};
use gristmill_testkit::{Fill, Heads, Layout, Strided, assert_bits_eq, naive, sweep};

/// Asserts the bits of `naive` at every level, with one thread and with three.
#[track_caller]
fn assert_exact<Q: Element, K: Element, O: Element>(case: &Case, layout: &Layout<4>) {
    let ([batch, queries, heads, _], [_, keys, ..]) = (case.q.sizes, case.k.sizes);
    let (q, k) = (case.q.to::<Q>(), case.k.to::<K>());
    let before = Heads::filled([batch, queries, heads, keys], layout, Fill::Normal, 77).to::<O>();
    sweep::levels_and_threads(|level, threads| {
        let options = case.options(level, threads);
        let (mut got, mut want) = (before.clone(), before.clone());
        naive!(level, naive::attention_weights(q.heads(), k.heads(), want.heads_mut(), &options)).unwrap();
        let (q, k, to) = (q.heads(), k.heads(), got.heads_mut());
        attention_weights(q, k, to, &options, &mut Workspace::new()).unwrap();
        got.assert_gaps("out");
        assert_bits_eq(&got.values(), &want.values(), format_args!("{level}, {}: {case:?}", O::NAME));
    });
}

fn masks(sizes: Sizes) -> Vec<OwnedMask> {
    let scores = sizes.scores();
    let mut rng = gristmill_testkit::Rng::new(5);
    let keep = Strided::new(scores, &Layout::default(), false, || !rng.one_in(4));
    let mut rng = gristmill_testkit::Rng::new(6);
    let bias = Strided::new(scores, &Layout::default(), 0.0, || match rng.below(8) {
        0 => f32::NEG_INFINITY,
        _ => rng.normal(),
    });
    let lengths = (0..sizes.batch).map(|b| sizes.keys.saturating_sub(3 * b + 1)).collect();
    vec![
        OwnedMask::default(),
        OwnedMask { causal: Some(OwnedCausal::BottomRight), ..OwnedMask::default() },
        OwnedMask { key_lengths: Some(lengths), ..OwnedMask::default() },
        OwnedMask { keep: Some(keep), causal: Some(OwnedCausal::Offset(2)), ..OwnedMask::default() },
        OwnedMask { bias: Some(bias), ..OwnedMask::default() },
    ]
}

#[test]
fn equal_naive_under_every_mask() {
    for (queries, keys) in [(0, 3), (3, 0), (1, 1), (1, 70), (5, 16), (13, 17), (26, 65), (3, 530)] {
        let sizes = Sizes { batch: 2, kv_heads: 1, group: 2, ..Sizes::single(queries, keys, 24) };
        for mask in masks(sizes) {
            let case = Case { mask, ..Case::normal(sizes, keys as u64) };
            assert_exact::<f32, f32, f32>(&case, &Layout::default());
            let case = Case { softcap: Some(2.0), scale: Some(-0.7), ..case };
            assert_exact::<f32, f32, f32>(
                &case,
                &Layout { order: [0, 2, 1, 3], padding: [0, 0, 1, 3], margin: 2, ..Layout::default() },
            );
            with_types!(assert_exact::<Q, K, O>(&case, &Layout { order: [0, 2, 3, 1], ..Layout::default() }));
        }
    }
}

#[test]
fn special_values_reach_the_visible_keys_of_their_rows_alone() {
    let sizes = Sizes { batch: 1, kv_heads: 1, group: 1, ..Sizes::single(20, 40, 8) };
    for mask in masks(sizes) {
        for value in [f32::NAN, f32::INFINITY, 1e38] {
            let mut case = Case { mask: mask.clone(), ..Case::normal(sizes, 3) };
            case.k.heads_mut().set(0, 23, 0, 5, value);
            assert_exact::<f32, f32, f32>(&case, &Layout::default());
        }
    }
}

#[test]
fn the_weights_of_a_query_sum_to_one() {
    let case = Case::normal(Sizes::single(9, 100, 16), 8);
    let mut out = vec![0.0; 9 * 100];
    let options = case.options(gristmill_simd::Level::Portable, Threads::Serial);
    let view = HeadsMut::bhsd(&mut out, [1, 9, 1, 100]).unwrap();
    attention_weights(case.q.heads(), case.k.heads(), view, &options, &mut Workspace::new()).unwrap();
    for row in out.chunks(100) {
        let sum: f64 = row.iter().map(|&p| f64::from(p)).sum();
        assert!((sum - 1.0).abs() < 1e-5, "{sum}");
    }
}

#[test]
fn outputs_of_another_size_are_refused() {
    let (data, mut out) = ([0.0; 8], [7.0; 4]);
    let heads = HeadsRef::bshd(&data, [1, 2, 1, 4]).unwrap();
    let view = HeadsMut::bshd(&mut out, [1, 2, 1, 1]).unwrap();
    let result = attention_weights(heads, heads, view, &Default::default(), &mut Workspace::new());
    assert_eq!(result, Err(Error::ShapeMismatch { what: "weights of out", expected: 2, found: 1 }));
    assert_eq!(out, [7.0; 4]);
}
