//! Plain scalar loops: what a reader would write first. The compiler may do with them what it can.

use super::{AttentionOperands, RowOperands};
use crate::{
    buffer::Stored,
    cases::{MaskKind, RowOp},
};

/// An operation on rows, in f32 whatever the matrices hold.
pub fn rows<T: Stored>(operands: RowOperands<'_, T>, output: &mut [T]) {
    let RowOperands { case, x, gamma, beta, bias, eps, .. } = operands;
    let cols = case.cols;
    match case.op {
        RowOp::LayerNorm => norm(x, gamma, Some(beta), eps, output),
        RowOp::RmsNorm => norm(x, gamma, None, eps, output),
        RowOp::AddLayerNorm => add_norm(operands, Some(beta), output),
        RowOp::AddRmsNorm => add_norm(operands, None, output),
        RowOp::Softmax => softmax(x, cols, output),
        RowOp::LogSoftmax => log_softmax(x, cols, output),
        RowOp::BiasRelu => biased(x, bias, output, |x| x.max(0.0)),
        RowOp::BiasGelu => biased(x, bias, output, gelu),
        RowOp::BiasGeluTanh => biased(x, bias, output, gelu_tanh),
        RowOp::BiasSilu => biased(x, bias, output, |x| x / (1.0 + (-x).exp())),
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

/// A layernorm in three passes: mean, variance, result. Without a beta an RMS norm, which has no mean.
fn norm<X: Stored, T: Stored>(x: &[X], gamma: &[T], beta: Option<&[T]>, eps: f32, y: &mut [T]) {
    let cols = gamma.len();
    for (x, y) in x.chunks_exact(cols).zip(y.chunks_exact_mut(cols)) {
        let values = || x.iter().map(|x| x.to_f32());
        let mean = if beta.is_some() { values().sum::<f32>() / cols as f32 } else { 0.0 };
        let variance = values().map(|x| (x - mean) * (x - mean)).sum::<f32>() / cols as f32;
        let scale = 1.0 / (variance + eps).sqrt();
        for i in 0..cols {
            let scaled = (x[i].to_f32() - mean) * scale * gamma[i].to_f32();
            y[i] = T::from_f32(beta.map_or(scaled, |beta| scaled + beta[i].to_f32()));
        }
    }
}

/// [`norm`] of `x + residual`, row by row.
fn add_norm<T: Stored>(operands: RowOperands<'_, T>, beta: Option<&[T]>, y: &mut [T]) {
    let RowOperands { case, x, residual, gamma, eps, .. } = operands;
    let mut sum = vec![0.0; case.cols];
    let rows = x.chunks_exact(case.cols).zip(residual.chunks_exact(case.cols)).zip(y.chunks_exact_mut(case.cols));
    for ((x, residual), y) in rows {
        let added = x.iter().zip(residual).map(|(x, residual)| x.to_f32() + residual.to_f32());
        sum.iter_mut().zip(added).for_each(|(sum, added)| *sum = added);
        norm(&sum, gamma, beta, eps, y);
    }
}

/// The largest value, and the sum of the exponentials of the distances to it, which go to `weights`.
fn exponentials<T: Stored>(x: &[T], weights: &mut [f32]) -> (f32, f32) {
    let max = x.iter().map(|x| x.to_f32()).fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for (x, weight) in x.iter().zip(weights) {
        *weight = (x.to_f32() - max).exp();
        sum += *weight;
    }
    (max, sum)
}

/// Softmax of each row of `cols`.
fn softmax<T: Stored>(x: &[T], cols: usize, y: &mut [T]) {
    let mut weights = vec![0.0; cols];
    for (x, y) in x.chunks_exact(cols).zip(y.chunks_exact_mut(cols)) {
        let (_, sum) = exponentials(x, &mut weights);
        y.iter_mut().zip(&weights).for_each(|(y, weight)| *y = T::from_f32(weight / sum));
    }
}

/// The logarithm of softmax of each row of `cols`.
fn log_softmax<T: Stored>(x: &[T], cols: usize, y: &mut [T]) {
    let mut weights = vec![0.0; cols];
    for (x, y) in x.chunks_exact(cols).zip(y.chunks_exact_mut(cols)) {
        let (max, sum) = exponentials(x, &mut weights);
        let logarithm = sum.ln();
        y.iter_mut().zip(x).for_each(|(y, x)| *y = T::from_f32(x.to_f32() - max - logarithm));
    }
}

/// `f(x + bias)`.
fn biased<T: Stored>(x: &[T], bias: &[f32], y: &mut [T], f: impl Fn(f32) -> f32) {
    for (x, y) in x.chunks_exact(bias.len()).zip(y.chunks_exact_mut(bias.len())) {
        for i in 0..bias.len() {
            y[i] = T::from_f32(f(x[i].to_f32() + bias[i]));
        }
    }
}

/// GELU, with erf by the formula 7.1.26 of Abramowitz and Stegun (error below 2e-7).
fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))
}

/// GELU by the hyperbolic tangent.
fn gelu_tanh(x: f32) -> f32 {
    0.5 * x * (1.0 + (0.797_884_6 * (x + 0.044_715 * x * x * x)).tanh())
}

fn erf(x: f32) -> f32 {
    let t = 1.0 / (1.0 + 0.327_591_1 * x.abs());
    let series = t * (0.254_829_6 + t * (-0.284_496_74 + t * (1.421_413_7 + t * (-1.453_152 + t * 1.061_405_4))));
    (1.0 - series * (-x * x).exp()).copysign(x)
}

/// One head of attention: `q: [queries, dim]`, `k` and `v: [keys, dim]`; query i sees the first `visible(i)` keys.
fn attend(q: &[f32], k: &[f32], v: &[f32], dim: usize, output: &mut [f32], visible: impl Fn(usize) -> usize) {
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
