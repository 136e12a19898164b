//! Attention: three operations one after the other, as models write it, and the fused function for CPUs.

use super::{read, tensor};
use crate::{cases::MaskKind, contest::Contender, rivals::AttentionOperands};
use candle_core::{D, Result, Tensor};
use candle_nn::{
    attention::{AttnMask, flash_attn, flash_attn_varlen_cpu},
    ops::softmax_last_dim,
};

/// Operations above which nobody waits for the fused function, which does some ten of them per nanosecond.
const FUSED_BUDGET: u64 = 1 << 34;

pub(in crate::rivals) fn contenders(operands: AttentionOperands<'_>) -> Vec<Contender<'_>> {
    let made = "tensors of the operands";
    let three = Three::new(operands).expect(made);
    let mut contenders = vec![Contender::owning("candle", move || three.call(), read::<f32>)];
    // Over several sequences, the fused function aligns causal masks for equal numbers of queries and keys only.
    let case = operands.case;
    let aligned = case.mask != MaskKind::Causal || case.batch == 1 || case.queries == case.keys;
    if aligned && case.cost().flops <= FUSED_BUDGET {
        let sizes = (case.batch, case.queries, case.heads, case.dim);
        if case.mask == MaskKind::Keypad {
            let packed = Packed::new(operands).expect(made);
            contenders.push(Contender::owning(
                "candle-flash",
                move || packed.call(),
                move |result, output: &mut [f32]| {
                    let heads_first = result.as_ref().ok().and_then(|result| result.reshape(sizes).ok());
                    read(&heads_first.expect("a row per query").transpose(1, 2), output);
                },
            ));
        } else {
            let fused = Fused::new(operands).expect(made);
            contenders.push(Contender::owning("candle-flash", move || fused.call(), read::<f32>));
        }
    }
    contenders
}

/// 1 over the root of the head's size.
fn scale(operands: AttentionOperands<'_>) -> f32 {
    1.0 / (operands.case.dim as f32).sqrt()
}

/// Queries, keys and values, each `[B, H, S, D]`.
fn heads(operands: AttentionOperands<'_>) -> Result<[Tensor; 3]> {
    let AttentionOperands { case, q, k, v, .. } = operands;
    let heads = |values, seq| tensor(values, (case.batch, case.heads, seq, case.dim));
    Ok([heads(q, case.queries)?, heads(k, case.keys)?, heads(v, case.keys)?])
}

/// Products and softmax over `[B, H, S, D]`.
struct Three {
    q: Tensor,
    k: Tensor,
    v: Tensor,
    scale: f64,
    /// Zeros, and minus infinity for what is hidden.
    mask: Option<Tensor>,
}

impl Three {
    fn new(operands: AttentionOperands<'_>) -> Result<Three> {
        let [q, k, v] = heads(operands)?;
        let (case, lengths) = (operands.case, operands.key_lengths);
        let (queries, keys) = (case.queries, case.keys);
        let hidden = |hidden: bool| if hidden { f32::NEG_INFINITY } else { 0.0 };
        let mask = match case.mask {
            MaskKind::None => None,
            MaskKind::Causal => {
                let pairs = (0..queries).flat_map(|i| (0..keys).map(move |j| hidden(j + queries > i + keys)));
                Some(tensor(&pairs.collect::<Vec<_>>(), (queries, keys))?)
            }
            MaskKind::Keypad => {
                let pairs = lengths.iter().flat_map(|&length| (0..keys).map(move |j| hidden(j >= length)));
                Some(tensor(&pairs.collect::<Vec<_>>(), (case.batch, 1, 1, keys))?)
            }
        };
        Ok(Three { q, k, v, scale: scale(operands).into(), mask })
    }

    fn call(&self) -> Result<Tensor> {
        let scores = (&self.q * self.scale)?.matmul(&self.k.t()?)?;
        let scores = match &self.mask {
            Some(mask) => scores.broadcast_add(mask)?,
            None => scores,
        };
        softmax_last_dim(&scores)?.matmul(&self.v)
    }
}

/// The fused function over `[B, S, H, D]`.
struct Fused {
    q: Tensor,
    k: Tensor,
    v: Tensor,
    scale: f32,
    mask: AttnMask,
}

impl Fused {
    fn new(operands: AttentionOperands<'_>) -> Result<Fused> {
        let [q, k, v] = heads(operands)?;
        let tokens_first = |heads: Tensor| heads.transpose(1, 2)?.contiguous();
        let case = operands.case;
        let mask = match case.mask {
            MaskKind::Causal => AttnMask::causal_with_offset(case.keys.saturating_sub(case.queries)),
            MaskKind::None | MaskKind::Keypad => AttnMask::None,
        };
        let [q, k, v] = [tokens_first(q)?, tokens_first(k)?, tokens_first(v)?];
        Ok(Fused { q, k, v, scale: scale(operands), mask })
    }

    /// Returns `[B, H, S, D]`.
    fn call(&self) -> Result<Tensor> {
        flash_attn::<f32>(&self.q, &self.k, &self.v, self.scale, self.mask.clone(), None, None)
    }
}

/// The fused function over sequences of their true lengths, one after the other.
struct Packed {
    q: Tensor,
    k: Tensor,
    v: Tensor,
    queries: Tensor,
    keys: Tensor,
    longest: [usize; 2],
    scale: f32,
}

impl Packed {
    fn new(operands: AttentionOperands<'_>) -> Result<Packed> {
        let [q, k, v] = heads(operands)?;
        let (case, lengths) = (operands.case, operands.key_lengths);
        let packed = |heads: Tensor, length: &dyn Fn(usize) -> usize| {
            let tokens_first = heads.transpose(1, 2)?;
            let sequences: Vec<Tensor> =
                (0..case.batch).map(|b| tokens_first.get(b)?.narrow(0, 0, length(b))).collect::<Result<_>>()?;
            Tensor::cat(&sequences, D::Minus(3))?.contiguous()
        };
        let ids = |lengths: Vec<u32>| Tensor::new(lengths, q.device());
        Ok(Packed {
            queries: ids(vec![case.queries as u32; case.batch])?,
            keys: ids(lengths.iter().map(|&length| length as u32).collect())?,
            q: packed(q.clone(), &|_| case.queries)?,
            k: packed(k, &|b| lengths[b])?,
            v: packed(v, &|b| lengths[b])?,
            longest: [case.queries, lengths.iter().copied().max().unwrap_or(0)],
            scale: scale(operands),
        })
    }

    /// Returns `[B S, H, D]`.
    fn call(&self) -> Result<Tensor> {
        let Packed { q, k, v, queries, keys, longest, scale } = self;
        flash_attn_varlen_cpu(q, k, v, None, queries, keys, longest[0], longest[1], *scale, false, None, None)
    }
}
