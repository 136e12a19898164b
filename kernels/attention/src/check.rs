//! Whether the arguments of a call fit together.

use crate::AttentionOptions;
use crate::KvCache;
use gristmill_core::{Error, HeadsMut, HeadsRef};
use gristmill_simd::Element;

/// Checks views and options against each other.
pub(crate) fn call<Q, K, V, O>(
    q: &HeadsRef<Q>,
    k: &HeadsRef<K>,
    v: &HeadsRef<V>,
    out: &HeadsMut<O>,
    options: &AttentionOptions,
) -> Result<(), Error> {
    equal("batch of k", q.batch(), k.batch())?;
    equal("batch of v", q.batch(), v.batch())?;
    equal("batch of out", q.batch(), out.batch())?;
    equal("positions of v", k.seq(), v.seq())?;
    equal("positions of out", q.seq(), out.seq())?;
    equal("heads of v", k.heads(), v.heads())?;
    equal("heads of out", q.heads(), out.heads())?;
    equal("head size of k", q.dim(), k.dim())?;
    equal("head size of out", v.dim(), out.dim())?;
    heads_and_options(q, k.heads(), k.seq(), options)
}

/// Checks views and options of the weights alone; `out` has a position's weights where others have its values.
pub(crate) fn weights<Q, K, O>(
    q: &HeadsRef<Q>,
    k: &HeadsRef<K>,
    out: &HeadsMut<O>,
    options: &AttentionOptions,
) -> Result<(), Error> {
    equal("batch of k", q.batch(), k.batch())?;
    equal("batch of out", q.batch(), out.batch())?;
    equal("positions of out", q.seq(), out.seq())?;
    equal("heads of out", q.heads(), out.heads())?;
    equal("head size of k", q.dim(), k.dim())?;
    equal("weights of out", k.seq(), out.dim())?;
    heads_and_options(q, k.heads(), k.seq(), options)
}

/// Checks views, options and a cache against each other.
pub(crate) fn cached<Q, K: Element, O>(
    q: &HeadsRef<Q>,
    cache: &KvCache<K>,
    out: &HeadsMut<O>,
    options: &AttentionOptions,
) -> Result<(), Error> {
    equal("sequences of the cache", q.batch(), cache.sequences())?;
    equal("batch of out", q.batch(), out.batch())?;
    equal("positions of out", q.seq(), out.seq())?;
    equal("heads of out", q.heads(), out.heads())?;
    equal("head size of the cache", q.dim(), cache.dim())?;
    equal("head size of out", cache.value_dim(), out.dim())?;
    heads_and_options(q, cache.kv_heads(), cache.longest(), options)?;
    for (batch, &length) in options.mask.key_lengths.unwrap_or(&[]).iter().enumerate() {
        if length > cache.len(batch) {
            return Err(Error::KeyLength { batch, length, keys: cache.len(batch) });
        }
    }
    Ok(())
}

pub(crate) fn equal(what: &'static str, expected: usize, found: usize) -> Result<(), Error> {
    if expected == found { Ok(()) } else { Err(Error::ShapeMismatch { what, expected, found }) }
}

fn heads_and_options<Q>(
    q: &HeadsRef<Q>,
    kv_heads: usize,
    keys: usize,
    options: &AttentionOptions,
) -> Result<(), Error> {
    let divides = match kv_heads {
        0 => q.heads() == 0,
        heads => q.heads().is_multiple_of(heads),
    };
    if !divides {
        return Err(Error::HeadGroups { query: q.heads(), key_value: kv_heads });
    }
    if let Some(cap) = options.softcap
        && !(cap > 0.0 && cap.is_finite())
    {
        return Err(Error::InvalidOption { what: "softcap must be finite and positive", value: cap });
    }
    options.mask.validate(q.batch(), q.heads(), q.seq(), keys)
}
