//! The specification of attention: plain loops, no tricks. The tuned kernel returns exactly these bits.

use crate::{AttentionOptions, check};
use gristmill_core::{Error, HeadsMut, HeadsRef};
use gristmill_simd::Element;
use gristmill_simd::naive::{exp_nonpositive, fma, tanh};

/// Scaled-dot-product attention, one query row after the other.
///
/// `q` is `[B, S_q, H, D]`, `k` is `[B, S_k, H_kv, D]`, `v` is `[B, S_k, H_kv, D_v]` and `out` is
/// `[B, S_q, H, D_v]`; `H_kv` divides `H`, and query head `h` reads key/value head `h / (H / H_kv)`. `FUSED` says
/// whether a multiply-add rounds once ([`Level::fused`](gristmill_simd::Level::fused)). Each view may be of any storage
/// type: values are widened exactly when read and rounded once when written. Of the options, the level and the threads
/// are not read.
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
                    let mut dot = 0.0;
                    for d in 0..q.dim() {
                        dot = fma::<FUSED>(q.at(b, i, h, d).to_f32(), k.at(b, j, kv, d).to_f32(), dot);
                    }
                    let mut score = scale * dot;
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

                // p[j] = exp(score - max), and their sum: key j goes to lane j % 64, the lanes are added by halving.
                let mut p = vec![0.0; k.seq()];
                let mut lanes = [0.0; 64];
                for &j in &visible {
                    p[j] = exp_nonpositive::<FUSED>(scores[j] - max);
                    lanes[j % 64] += p[j];
                }
                for half in [32, 16, 8, 4, 2, 1] {
                    for l in 0..half {
                        lanes[l] += lanes[l + half];
                    }
                }
                let sum = lanes[0];

                // out[d] = (sum of p[j] * v[j][d]) / sum, in blocks of 512 key indices, one chain each.
                for d in 0..v.dim() {
                    let mut o = 0.0;
                    for block in 0..k.seq().div_ceil(512) {
                        let mut acc = 0.0;
                        for &j in visible.iter().filter(|&&j| j / 512 == block) {
                            acc = fma::<FUSED>(p[j], v.at(b, j, kv, d).to_f32(), acc);
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
/// multiplies with the values, each divided by their sum. `out` is `[B, S_q, H, S_k]`.
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
                    let mut dot = 0.0;
                    for d in 0..q.dim() {
                        dot = fma::<FUSED>(q.at(b, i, h, d).to_f32(), k.at(b, j, h / group, d).to_f32(), dot);
                    }
                    let mut score = scale * dot;
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

                // The denominator.
                let mut lanes = [0.0; 64];
                for (j, &score) in scores.iter().enumerate() {
                    if max != f32::NEG_INFINITY && mask.visible([b, h, i, j], q.seq(), k.seq()) {
                        lanes[j % 64] += exp_nonpositive::<FUSED>(score - max);
                    }
                }
                for half in [32, 16, 8, 4, 2, 1] {
                    for l in 0..half {
                        lanes[l] += lanes[l + half];
                    }
                }

                for (j, &score) in scores.iter().enumerate() {
                    let counts = max != f32::NEG_INFINITY && mask.visible([b, h, i, j], q.seq(), k.seq());
                    let weight = if counts { exp_nonpositive::<FUSED>(score - max) / lanes[0] } else { 0.0 };
                    out.set(b, i, h, j, Element::from_f32(weight));
                }
            }
        }
    }
    Ok(())
}
