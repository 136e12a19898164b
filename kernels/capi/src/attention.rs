//! Attention, over keys and values in place or in a cache.

use crate::{
    cache::{KvCache, Pages},
    dispatch::{get, same_type, stored, threads, typed},
    handles::{Workspace, with_scratch},
    mask::{Parts, Scores},
    status::{Failure, Status, guard},
    view::{Heads, Named},
};
use gristmill::{AttentionOptions, HeadsMut, HeadsRef, attention, attention_cached, simd::Element};
use std::ptr::null;

/// `gristmill_attention_options`; null stands for none of them.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Factor of the scores; 0 for 1 over the root of a head's size.
    pub scale: f32,
    /// Soft cap of the scores; 0 for none.
    pub softcap: f32,
    /// `gristmill_causal`: 0 not causal, 1 from the bottom right, 2 one offset, 3 one per sequence.
    pub causal: u32,
    /// The offsets of causal masks that have them.
    pub causal_offsets: *const isize,
    /// Keys of each sequence, `batch` of them; null for all.
    pub key_lengths: *const usize,
    /// Bytes, 0 for keys that are hidden; null for none.
    pub keep: *const Scores,
    /// Values of f32, added to the scores; null for none.
    pub bias: *const Scores,
    /// Not 0: the calling thread alone.
    pub serial: i32,
}

const PLAIN: Options = Options {
    scale: 0.0,
    softcap: 0.0,
    causal: 0,
    causal_offsets: null(),
    key_lengths: null(),
    keep: null(),
    bias: null(),
    serial: 0,
};

/// `out = softmax(scale * q k^T + bias) v` for every sequence and head.
///
/// # Safety
/// Pointers are null or point to values; what they describe is readable, the output writable; nobody uses the output or
/// the workspace meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gristmill_attention(
    q: *const Heads,
    k: *const Heads,
    v: *const Heads,
    out: *const Heads,
    options: *const Options,
    workspace: *mut Workspace,
) -> Status {
    guard(|| {
        // SAFETY: the caller's promise.
        let (q, k, v, out) = unsafe { (get("q", q)?, get("k", k)?, get("v", v)?, get("out", out)?) };
        same_type(&[("q", q.element), ("out", out.element)])?;
        same_type(&[("k", k.element), ("v", v.element)])?;
        typed!("q", q.element, T => typed!("k", k.element, K => {
            let spans = [("k", Some(k.span::<K>("k")?)), ("v", Some(v.span::<K>("v")?))];
            // SAFETY: the caller's promise.
            unsafe {
                let (k, v) = (k.view::<K>("k")?, v.view::<K>("v")?);
                attend::<T>(q, k.seq(), &spans, out, options, |q, out, options| {
                    with_scratch(workspace, |scratch| Ok(attention(q, k, v, out, options, scratch)?))
                })
            }
        }))
    })
}

/// [`gristmill_attention`] to what a cache holds.
///
/// # Safety
/// As [`gristmill_attention`]; nobody changes the cache meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gristmill_attention_cached(
    q: *const Heads,
    cache: *const KvCache,
    out: *const Heads,
    options: *const Options,
    workspace: *mut Workspace,
) -> Status {
    guard(|| {
        // SAFETY: the caller's promise.
        let (q, cache, out) = unsafe { (get("q", q)?, get("cache", cache)?, get("out", out)?) };
        same_type(&[("q", q.element), ("out", out.element)])?;
        typed!("q", q.element, T => stored!(Pages, &cache.0, cache => {
            // SAFETY: the caller's promise.
            unsafe {
                attend::<T>(q, cache.longest(), &[], out, options, |q, out, options| {
                    with_scratch(workspace, |scratch| Ok(attention_cached(q, cache, out, options, scratch)?))
                })
            }
        }))
    })
}

/// Calls `run` with views of q and the output, which shares no memory with anything that is read, at `spans` too.
///
/// # Safety
/// As [`gristmill_attention`]; `T` is the type of q and the output.
unsafe fn attend<T: Element>(
    q: &Heads,
    keys: usize,
    spans: &[Named],
    out: &Heads,
    options: *const Options,
    run: impl FnOnce(HeadsRef<'_, T>, HeadsMut<'_, T>, &AttentionOptions<'_>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    // SAFETY: the caller's promise.
    let options = unsafe { options.as_ref() }.unwrap_or(&PLAIN);
    // SAFETY: the caller's promise.
    let mask = unsafe { Parts::read(options, [q.batch, q.heads, q.seq, keys])? };
    let span = out.span::<T>("out")?;
    span.apart("out", &[("q", Some(q.span::<T>("q")?))])?;
    span.apart("out", spans)?;
    span.apart("out", &mask.spans)?;
    let options = AttentionOptions {
        scale: (options.scale != 0.0).then_some(options.scale),
        softcap: (options.softcap != 0.0).then_some(options.softcap),
        mask: mask.mask()?,
        threads: threads(options.serial != 0),
        level: None,
    };
    // SAFETY: the caller's promise; the output shares no memory with the others.
    let (q, out) = unsafe { (q.view::<T>("q")?, out.view_mut::<T>("out")?) };
    run(q, out, &options)
}
