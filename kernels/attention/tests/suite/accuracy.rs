//! The error of the arithmetic itself, against a reference in f64.

use crate::common::{Case, Sizes};
use gristmill_core::Threads;
use gristmill_testkit::compare::assert_within;
use gristmill_testkit::mask::{OwnedCausal, OwnedMask};
use gristmill_testkit::sweep;

/// Attention in f64, and for each row the largest `sum |q| |k|` of its keys.
fn reference(case: &Case) -> (Vec<f64>, Vec<f64>) {
    let (q, k, v, mask) = (case.q.heads(), case.k.heads(), case.v.heads(), case.mask.mask());
    let scale = case.scale.map_or(1.0 / (q.dim() as f64).sqrt(), f64::from);
    let group = q.heads() / k.heads();
    let (mut outputs, mut sizes) = (Vec::new(), Vec::new());
    for b in 0..q.batch() {
        for i in 0..q.seq() {
            for h in 0..q.heads() {
                let keys: Vec<usize> = (0..k.seq()).filter(|&j| mask.visible([b, h, i, j], q.seq(), k.seq())).collect();
                let products = |j| (0..q.dim()).map(move |d| (q.at(b, i, h, d), k.at(b, j, h / group, d)));
                let dot = |j| products(j).map(|(q, k)| f64::from(q) * f64::from(k)).sum::<f64>();
                let scores: Vec<f64> = keys.iter().map(|&j| scale * dot(j)).collect();
                let max = scores.iter().fold(f64::NEG_INFINITY, |max, &s| max.max(s));
                let weights: Vec<f64> = scores.iter().map(|s| (s - max).exp()).collect();
                let sum: f64 = weights.iter().sum();
                for d in 0..v.dim() {
                    let values = keys.iter().zip(&weights).map(|(&j, p)| p * f64::from(v.at(b, j, h / group, d)));
                    outputs.push(if keys.is_empty() { 0.0 } else { values.sum::<f64>() / sum });
                }
                let size = |&j: &usize| products(j).map(|(q, k)| f64::from((q * k).abs())).sum::<f64>();
                sizes.push(keys.iter().map(size).fold(0.0, f64::max));
            }
        }
    }
    (outputs, sizes)
}

/// The bound of one element: rounding of the scores, of the exponentials and sums, and of the values.
fn assert_accurate(case: &Case) {
    let (want, sizes) = reference(case);
    let (dim, keys, width) = (case.q.sizes[3] as f64, case.k.sizes[1] as f64, case.v.sizes[3]);
    let scale = case.scale.map_or(1.0 / dim.sqrt(), f64::from);
    let largest = case.v.values().into_iter().fold(0.0, |max: f64, v| max.max(f64::from(v.abs())));
    let unit = 2f64.powi(-24);
    sweep::levels(|level| {
        let got = case.run(level, Threads::Serial);
        let bound = |n: usize| 4.0 * unit * (dim * scale * sizes[n / width] + keys + 8.0) * largest;
        assert_within(&got, &want, bound, format_args!("{level}: {case:?}"));
    });
}

#[test]
fn normal_values_are_within_the_bound() {
    let causal = OwnedMask { causal: Some(OwnedCausal::BottomRight), ..OwnedMask::default() };
    let grouped = Sizes { batch: 2, kv_heads: 2, group: 3, queries: 9, keys: 21, dim: 16, value_dim: 24 };
    for sizes in [grouped, Sizes::single(20, 130, 64), Sizes::single(3, 1500, 128)] {
        let case = Case::normal(sizes, 1);
        assert_accurate(&case);
        assert_accurate(&Case { mask: causal.clone(), scale: Some(2.0), ..case });
    }
}

#[test]
fn a_long_row_of_equal_weights_keeps_its_precision() {
    // One chain over all keys would lose three digits here; blocks of 512 keys do not.
    let mut case = Case::normal(Sizes::single(1, 100_000, 1), 2);
    case.q.data.fill(0.0);
    case.v.data.iter_mut().for_each(|v| *v = v.abs());
    let (want, _) = reference(&case);
    sweep::levels(|level| {
        let got = case.run(level, Threads::Serial);
        assert_within(&got, &want, |_| 2e-5 * want[0], level);
    });
}
