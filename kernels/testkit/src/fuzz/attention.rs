//! Attention.

use super::{Bytes, against, assert_same, naive, threads};
use crate::Heads;
use gristmill_attention::{self as attention, AttentionOptions};
use gristmill_core::Workspace;
use gristmill_simd::{Element, bf16, f16};

/// Up to 2 sequences, 4 query heads, 20 queries and 70 keys (now and then, for one head, 530), heads of 40 values, in a
/// mix of storage types. Beside the outputs, the weights.
pub fn attention(data: &[u8]) {
    let bytes = &Bytes::new(data);
    let long = bytes.one_in(16);
    let [batch, groups, share] = if long { [1; 3] } else { [0; 3].map(|_| 1 + bytes.below(2)) };
    let batch = if bytes.one_in(32) { 0 } else { batch };
    let heads = groups * share;
    let queries = bytes.size(if long { 6 } else { 20 });
    let keys = if long { 505 + bytes.below(26) } else { bytes.size(70) };
    let [dim, value_dim] = [bytes.size(40), bytes.size(40)];
    let q = bytes.input([batch, queries, heads, bytes.slip(dim)]);
    let k = bytes.input([batch, keys, bytes.slip(groups), dim]);
    let v = bytes.input([bytes.slip(batch), bytes.slip(keys), groups, value_dim]);
    let before: Heads = bytes.output([batch, bytes.slip(queries), heads, bytes.slip(value_dim)]);
    let mask = bytes.mask([batch, heads, queries, keys]);
    let options = AttentionOptions {
        scale: bytes.flag().then(|| bytes.f32()),
        softcap: bytes.one_in(4).then(|| bytes.f32()),
        mask: mask.mask(),
        threads: threads(bytes),
        level: None,
    };
    let weights: Heads = bytes.output([batch, queries, heads, bytes.slip(keys)]);
    let operands = Operands { q, k, v, before, weights };
    match bytes.below(8) {
        0..4 => operands.check::<f32, f32, f32>(&options),
        4 => operands.check::<f16, f16, f16>(&options),
        5 => operands.check::<bf16, bf16, bf16>(&options),
        6 => operands.check::<f32, f16, f32>(&options),
        _ => operands.check::<f16, bf16, f32>(&options),
    }
}

/// The views of a call, before they are rounded to storage types.
struct Operands {
    q: Heads,
    k: Heads,
    v: Heads,
    before: Heads,
    weights: Heads,
}

impl Operands {
    fn check<Q: Element, K: Element, O: Element>(&self, options: &AttentionOptions) {
        let (q, k, v, before) = (self.q.to::<Q>(), self.k.to::<K>(), self.v.to::<K>(), self.before.to::<O>());
        let types = [Q::NAME, K::NAME, O::NAME];
        let mut workspace = Workspace::new();
        against(
            |level| {
                let mut out = before.clone();
                let views = (q.heads(), k.heads(), v.heads());
                let result =
                    naive!(level, attention::naive::attention(views.0, views.1, views.2, out.heads_mut(), options));
                (result, out)
            },
            |level, want| {
                let options = AttentionOptions { level: Some(level), ..*options };
                let (mut out, views) = (before.clone(), (q.heads(), k.heads(), v.heads()));
                let result = attention::attention(views.0, views.1, views.2, out.heads_mut(), &options, &mut workspace);
                assert_same(
                    &(result, out),
                    want,
                    &before,
                    format!("attention {level} {types:?} {views:?} {options:?}"),
                );
            },
        );
        let before = self.weights.to::<O>();
        against(
            |level| {
                let mut out = before.clone();
                let result =
                    naive!(level, attention::naive::attention_weights(q.heads(), k.heads(), out.heads_mut(), options));
                (result, out)
            },
            |level, want| {
                let options = AttentionOptions { level: Some(level), ..*options };
                let (mut out, views) = (before.clone(), (q.heads(), k.heads()));
                let result = attention::attention_weights(views.0, views.1, out.heads_mut(), &options, &mut workspace);
                assert_same(&(result, out), want, &before, format!("weights {level} {types:?} {views:?} {options:?}"));
            },
        );
    }
}
