//! Attention.

use super::{Bytes, against, assert_same, naive, threads};
use crate::Heads;
use gristmill_attention::{self as attention, AttentionOptions};
use gristmill_core::Workspace;

/// Up to 2 sequences, 4 query heads, 20 queries and 70 keys (now and then, for one head, 530), heads of 40 values.
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
    let mut workspace = Workspace::new();
    against(
        |level| {
            let (mut out, [q, k, v]) = (before.clone(), [&q, &k, &v].map(Heads::heads));
            let result = naive!(level, attention::naive::attention(q, k, v, out.heads_mut(), &options));
            (result, out)
        },
        |level, want| {
            let options = AttentionOptions { level: Some(level), ..options };
            let (mut out, [q, k, v]) = (before.clone(), [&q, &k, &v].map(Heads::heads));
            let result = attention::attention(q, k, v, out.heads_mut(), &options, &mut workspace);
            assert_same(&(result, out), want, &before, format!("attention {level} {q:?} {k:?} {v:?} {options:?}"));
        },
    );
}
