//! Attention.

use crate::{
    dispatch::{get, same_type, threads, typed},
    handles::{Workspace, with_scratch},
    status::{Failure, Status, guard},
    view::{self, Heads, Span},
};
use gristmill::{AttentionOptions, Causal, Mask, attention};

/// `gristmill_attention_options`; null stands for none of them.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Factor of the scores; 0 for 1 over the root of a head's size.
    pub scale: f32,
    /// Soft cap of the scores; 0 for none.
    pub softcap: f32,
    /// Not 0: query i of `S_q` sees keys up to `i + S_k - S_q`.
    pub causal: i32,
    /// Keys of each sequence, `batch` of them; null for all.
    pub key_lengths: *const usize,
    /// Not 0: the calling thread alone.
    pub serial: i32,
}

const PLAIN: Options = Options { scale: 0.0, softcap: 0.0, causal: 0, key_lengths: std::ptr::null(), serial: 0 };

/// `out = softmax(scale q k^T) v` for every sequence and head.
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
        // SAFETY: the caller's promise.
        let options = unsafe { options.as_ref() }.unwrap_or(&PLAIN);
        typed!("q", q.element, T => typed!("k", k.element, K => {
            // SAFETY: the caller's promise.
            unsafe { attend::<T, K>([q, k, v, out], options, workspace) }
        }))
    })
}

/// # Safety
/// As [`gristmill_attention`]; `T` is the type of q and the output, `K` that of k and v.
unsafe fn attend<T: gristmill::simd::Element, K: gristmill::simd::Element>(
    [q, k, v, out]: [&Heads; 4],
    options: &Options,
    workspace: *mut Workspace,
) -> Result<(), Failure> {
    let lengths = if options.key_lengths.is_null() { 0 } else { q.batch };
    // SAFETY: the caller's promise: a length per sequence.
    let lengths = unsafe { view::read::<usize>("key_lengths", options.key_lengths.cast(), lengths)? };
    let others = [
        ("q", Some(q.span::<T>("q")?)),
        ("k", Some(k.span::<K>("k")?)),
        ("v", Some(v.span::<K>("v")?)),
        ("key_lengths", Some(Span::of(lengths))),
    ];
    out.span::<T>("out")?.apart("out", &others)?;
    // SAFETY: the caller's promise; the output shares no memory with the others.
    let (q, k, v, out) =
        unsafe { (q.view::<T>("q")?, k.view::<K>("k")?, v.view::<K>("v")?, out.view_mut::<T>("out")?) };
    let mask = Mask {
        causal: (options.causal != 0).then_some(Causal::BottomRight),
        key_lengths: (!options.key_lengths.is_null()).then_some(lengths),
        ..Mask::default()
    };
    let options = AttentionOptions {
        scale: (options.scale != 0.0).then_some(options.scale),
        softcap: (options.softcap != 0.0).then_some(options.softcap),
        mask,
        threads: threads(options.serial != 0),
        level: None,
    };
    // SAFETY: the caller's promise.
    unsafe { with_scratch(workspace, |scratch| attention(q, k, v, out, &options, scratch)) }.map_err(Failure::from)
}
