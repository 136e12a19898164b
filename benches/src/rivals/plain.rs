//! Plain scalar loops: what a reader would write first. The compiler may do with them what it can.

use super::{AttentionOperands, RowOperands};
use crate::cases::{MaskKind, RowOp};

/// An operation on rows.
pub fn rows(operands: RowOperands<'_>, output: &mut [f32]) {
    let RowOperands { case, x, residual, gamma, beta, eps } = operands;
    match case.op {
        RowOp::LayerNorm => layer_norm(x, gamma, beta, eps, output),
        RowOp::AddLayerNorm => add_layer_norm(x, residual, gamma, beta, eps, output),
        RowOp::Softmax => softmax(x, case.cols, output),
        RowOp::BiasRelu => bias_relu(x, beta, output),
        RowOp::BiasGelu => bias_gelu(x, beta, output),
    }
}

/// Attention, head by head.
pub fn attention(operands: AttentionOperands<'_>, output: &mut [f32]) {
    let AttentionOperands { case, q, k, v, key_lengths, .. } = operands;
    let (queries, keys, dim) = (case.queries, case.keys, case.dim);
    let (q, k, v) = (q.chunks(queries * dim), k.chunks(keys * dim), v.chunks(keys * dim));
    let blocks = q.zip(k.zip(v)).zip(output.chunks_mut(queries * dim)).enumerate();
    for (block, ((q, (k, v)), output)) in blocks {
        let length = key_lengths[block / case.heads];
        attend(q, k, v, dim, output, |i| match case.mask {
            MaskKind::Causal => (i + 1 + keys).saturating_sub(queries),
            MaskKind::None | MaskKind::Keypad => length,
        });
    }
}

/// Layernorm in three passes: mean, variance, result.
pub fn layer_norm(x: &[f32], gamma: &[f32], beta: &[f32], eps: f32, y: &mut [f32]) {
    let cols = gamma.len();
    for (x, y) in x.chunks_exact(cols).zip(y.chunks_exact_mut(cols)) {
        let mean = x.iter().sum::<f32>() / cols as f32;
        let variance = x.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / cols as f32;
        let scale = 1.0 / (variance + eps).sqrt();
        for i in 0..cols {
            y[i] = (x[i] - mean) * scale * gamma[i] + beta[i];
        }
    }
}

/// `x + residual` into `y`, then [`layer_norm`] row by row where it lies.
pub fn add_layer_norm(x: &[f32], residual: &[f32], gamma: &[f32], beta: &[f32], eps: f32, y: &mut [f32]) {
    let cols = gamma.len();
    let mut sum = vec![0.0; cols];
    let rows = x.chunks_exact(cols).zip(residual.chunks_exact(cols)).zip(y.chunks_exact_mut(cols));
    for ((x, residual), y) in rows {
        sum.iter_mut().zip(x.iter().zip(residual)).for_each(|(sum, (x, residual))| *sum = x + residual);
        layer_norm(&sum, gamma, beta, eps, y);
    }
}

/// Softmax of each row of `cols`.
pub fn softmax(x: &[f32], cols: usize, y: &mut [f32]) {
    for (x, y) in x.chunks_exact(cols).zip(y.chunks_exact_mut(cols)) {
        let max = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let mut sum = 0.0;
        for (x, y) in x.iter().zip(&mut *y) {
            *y = (x - max).exp();
            sum += *y;
        }
        y.iter_mut().for_each(|y| *y /= sum);
    }
}

/// `max(x + bias, 0)`.
pub fn bias_relu(x: &[f32], bias: &[f32], y: &mut [f32]) {
    for (x, y) in x.chunks_exact(bias.len()).zip(y.chunks_exact_mut(bias.len())) {
        for i in 0..bias.len() {
            y[i] = (x[i] + bias[i]).max(0.0);
        }
    }
}

/// GELU of `x + bias`, with erf by the formula 7.1.26 of Abramowitz and Stegun (error below 2e-7).
pub fn bias_gelu(x: &[f32], bias: &[f32], y: &mut [f32]) {
    for (x, y) in x.chunks_exact(bias.len()).zip(y.chunks_exact_mut(bias.len())) {
        for i in 0..bias.len() {
            let x = x[i] + bias[i];
            y[i] = 0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2));
        }
    }
}

fn erf(x: f32) -> f32 {
    let t = 1.0 / (1.0 + 0.327_591_1 * x.abs());
    let series = t * (0.254_829_6 + t * (-0.284_496_74 + t * (1.421_413_7 + t * (-1.453_152 + t * 1.061_405_4))));
    (1.0 - series * (-x * x).exp()).copysign(x)
}

/// One head of attention: `q: [queries, dim]`, `k` and `v: [keys, dim]`; query i sees the first `visible(i)` keys.
pub fn attend(q: &[f32], k: &[f32], v: &[f32], dim: usize, output: &mut [f32], visible: impl Fn(usize) -> usize) {
    let mut scores = vec![0.0_f32; k.len() / dim];
    let scale = 1.0 / (dim as f32).sqrt();
    for (i, (q, output)) in q.chunks_exact(dim).zip(output.chunks_exact_mut(dim)).enumerate() {
        let seen = visible(i);
        output.fill(0.0);
        let mut max = f32::NEG_INFINITY;
        for (score, k) in scores[..seen].iter_mut().zip(k.chunks_exact(dim)) {
            *score = q.iter().zip(k).map(|(q, k)| q * k).sum::<f32>() * scale;
            max = max.max(*score);
        }
        let mut sum = 0.0;
        for (score, v) in scores[..seen].iter().zip(v.chunks_exact(dim)) {
            let weight = (score - max).exp();
            sum += weight;
            output.iter_mut().zip(v).for_each(|(output, v)| *output += weight * v);
        }
        output.iter_mut().for_each(|output| *output /= sum);
    }
}
