//! The specification of attention: plain loops, no tricks. The tuned kernel returns exactly these bits.

use crate::{AttentionOptions, check};
use gristmill_core::{Error, HeadsMut, HeadsRef};
use gristmill_simd::naive::{dot_step, exp_coarse, exp_nonpositive, fma, tanh};
use gristmill_simd::{Dtype, Element, bf16};

/// Scaled-dot-product attention, one query row after the other.
///
/// `q` is `[B, S_q, H, D]`, `k` is `[B, S_k, H_kv, D]`, `v` is `[B, S_k, H_kv, D_v]` and `out` is
/// `[B, S_q, H, D_v]`; `H_kv` divides `H`, and query head `h` reads key/value head `h / (H / H_kv)`. `FUSED` says
/// whether a multiply-add rounds once ([`Level::fused`](gristmill_simd::Level::fused)). Each view may be of any storage
/// type: values are widened exactly when read and rounded once when written. Where queries, keys and values are all bf16,
/// both products are sums of pairs ([`dot_step`]), and weights are rounded to bf16. Of the options, the level and the
/// threads are not read.
///
/// # Errors
/// Those of [`attention`](crate::attention); `out` is then untouched.
pub fn attention<const FUSED: bool>(
    q: HeadsRef<impl Element>,
    k: HeadsRef<impl Element>,
    v: HeadsRef<impl Element>,
    mut out: HeadsMut<impl Element>,
    options: &AttentionOptions,
) -> Result<(), Error> {
    check::call(&q, &k, &v, &out, options)?;
    let mask = &options.mask;
    let scale = options.scale_for(q.dim());
    let group = q.heads() / k.heads().max(1);
    let pairs = is_bf16(&q) && is_bf16(&k) && is_bf16(&v);
    for b in 0..q.batch() {
        for h in 0..q.heads() {
            let kv = h / group;
            for i in 0..q.seq() {
                // The keys that this query sees. Only masks hide keys; a hidden key takes part in nothing.
                let visible: Vec<usize> =
                    (0..k.seq()).filter(|&j| mask.visible([b, h, i, j], q.seq(), k.seq())).collect();

                // scores[j] = scale * (q . k), one chain over d; then the soft cap and the bias, each rounded.
                let mut scores = vec![0.0; k.seq()];
                for &j in &visible {
                    let mut score = scale * dot::<FUSED>(pairs, &q, [b, i, h], &k, [b, j, kv]);
                    if let Some(cap) = options.softcap {
                        score = cap * tanh::<FUSED>(score / cap);
                    }
                    if let Some(bias) = &mask.bias {
                        score += bias.at(b, h, i, j);
                    }
                    scores[j] = score;
                }

                // The largest score; a NaN wins.
                let mut max = f32::NEG_INFINITY;
                for &j in &visible {
                    if scores[j] > max || scores[j].is_nan() {
                        max = scores[j];
                    }
                }
                if max == f32::NEG_INFINITY {
                    // No visible key, or none that counts.
                    (0..v.dim()).for_each(|d| out.set(b, i, h, d, Element::from_f32(0.0)));
                    continue;
                }

                // p[j] = exp(score - max), zeros for hidden keys.
                let mut p = vec![0.0; k.seq()];
                for &j in &visible {
                    p[j] = weight::<FUSED>(pairs, scores[j] - max);
                }
                let sum = sum(pairs, &p);

                // out[d] = (sum of p[j] * v[j][d]) / sum, in blocks of 512 key indices, one chain each.
                for d in 0..v.dim() {
                    let mut o = 0.0;
                    for block in 0..k.seq().div_ceil(512) {
                        let keys = 512 * block..k.seq().min(512 * (block + 1));
                        let mut acc = 0.0;
                        if pairs {
                            // The odd key of each pair first; zeros stand for what is hidden.
                            for j in keys.step_by(2) {
                                for j in [j + 1, j] {
                                    let factors = if visible.binary_search(&j).is_ok() {
                                        [p[j], v.at(b, j, kv, d).to_f32()]
                                    } else {
                                        [0.0; 2]
                                    };
                                    acc = dot_step(factors[0], factors[1], acc);
                                }
                            }
                        } else {
                            for &j in visible.iter().filter(|&j| keys.contains(j)) {
                                acc = fma::<FUSED>(p[j], v.at(b, j, kv, d).to_f32(), acc);
                            }
                        }
                        o += acc;
                    }
                    out.set(b, i, h, d, Element::from_f32(o / sum));
                }
            }
        }
    }
    Ok(())
}

/// The attention weights `softmax(scale * q k^T + bias)`, one query row after the other: those that [`attention`]
/// multiplies with the values (which are taken to be bf16 where queries and keys are), each divided by their sum. `out` is
/// `[B, S_q, H, S_k]`.
///
/// # Errors
/// Those of [`attention_weights`](crate::attention_weights); `out` is then untouched.
pub fn attention_weights<const FUSED: bool>(
    q: HeadsRef<impl Element>,
    k: HeadsRef<impl Element>,
    mut out: HeadsMut<impl Element>,
    options: &AttentionOptions,
) -> Result<(), Error> {
    check::weights(&q, &k, &out, options)?;
    let mask = &options.mask;
    let scale = options.scale_for(q.dim());
    let group = q.heads() / k.heads().max(1);
    let pairs = is_bf16(&q) && is_bf16(&k);
    for b in 0..q.batch() {
        for h in 0..q.heads() {
            for i in 0..q.seq() {
                // The scores, minus infinity for hidden keys.
                let mut scores = vec![f32::NEG_INFINITY; k.seq()];
                let mut max = f32::NEG_INFINITY;
                for (j, place) in scores.iter_mut().enumerate() {
                    if !mask.visible([b, h, i, j], q.seq(), k.seq()) {
                        continue;
                    }
                    let mut score = scale * dot::<FUSED>(pairs, &q, [b, i, h], &k, [b, j, h / group]);
                    if let Some(cap) = options.softcap {
                        score = cap * tanh::<FUSED>(score / cap);
                    }
                    if let Some(bias) = &mask.bias {
                        score += bias.at(b, h, i, j);
                    }
                    if score > max || score.is_nan() {
                        max = score;
                    }
                    *place = score;
                }

                let weigh = |(j, &score): (usize, &f32)| {
                    let counts = max != f32::NEG_INFINITY && mask.visible([b, h, i, j], q.seq(), k.seq());
                    if counts { weight::<FUSED>(pairs, score - max) } else { 0.0 }
                };
                let p: Vec<f32> = scores.iter().enumerate().map(weigh).collect();
                let sum = sum(pairs, &p);
                for (j, &p) in p.iter().enumerate() {
                    let counts = max != f32::NEG_INFINITY && mask.visible([b, h, i, j], q.seq(), k.seq());
                    out.set(b, i, h, j, Element::from_f32(if counts { p / sum } else { 0.0 }));
                }
            }
        }
    }
    Ok(())
}

/// A query times a key: one chain over their elements, or over pairs of them, the odd element of each first.
fn dot<const FUSED: bool>(
    pairs: bool,
    q: &HeadsRef<impl Element>,
    [b, i, h]: [usize; 3],
    k: &HeadsRef<impl Element>,
    [_, j, kv]: [usize; 3],
) -> f32 {
    let at = |d: usize| [q.at(b, i, h, d).to_f32(), k.at(b, j, kv, d).to_f32()];
    let mut dot = 0.0;
    for d in (0..q.dim()).step_by(if pairs { 2 } else { 1 }) {
        if pairs {
            // Zeros stand for an odd element that is missing.
            let [x, y] = if d + 1 < q.dim() { at(d + 1) } else { [0.0; 2] };
            dot = dot_step(x, y, dot);
            let [x, y] = at(d);
            dot = dot_step(x, y, dot);
        } else {
            let [x, y] = at(d);
            dot = fma::<FUSED>(x, y, dot);
        }
    }
    dot
}

/// `exp(x)` for the distance x of a score from the largest one; rounded to bf16 for products of pairs.
fn weight<const FUSED: bool>(pairs: bool, x: f32) -> f32 {
    if pairs { bf16::from_f32(exp_coarse::<FUSED>(x)).to_f32() } else { exp_nonpositive::<FUSED>(x) }
}

/// The sum of a row's weights, from 64 lanes: key j is added to lane `j % 64`; in pairs, to one of 32, that of `j / 2`, the
/// odd key of each first. The lanes are added by halving.
fn sum(pairs: bool, p: &[f32]) -> f32 {
    let mut lanes = [0.0; 64];
    for first in (0..p.len()).step_by(2) {
        for j in if pairs { [first + 1, first] } else { [first, first + 1] } {
            if j < p.len() {
                lanes[if pairs { j / 2 % 32 } else { j % 64 }] += p[j];
            }
        }
    }
    for half in [32, 16, 8, 4, 2, 1] {
        for l in 0..half {
            lanes[l] += lanes[l + half];
        }
    }
    lanes[0]
}

fn is_bf16<T: Element>(_: &HeadsRef<'_, T>) -> bool {
    T::DTYPE == Dtype::Bf16
}
