//! Keys and values that generation keeps from step to step.

use crate::{
    dispatch::{get, get_mut, of_any_type, same_type, stored, threads, typed},
    handles,
    status::{Failure, Status, guard},
    view::{self, Heads, Type},
};
use gristmill::{AppendOptions, KvCache as Cache};

of_any_type! {
    /// A cache of one of the storage types.
    Pages of Cache
}

/// `gristmill_kv_cache`: keys and values of any number of sequences, each of its own length.
#[derive(Debug)]
pub struct KvCache(pub(crate) Pages);

/// `gristmill_append_options`; null stands for all tokens.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Tokens to append to each sequence; null for all that there are.
    pub counts: *const usize,
    /// Not 0: the calling thread alone.
    pub serial: i32,
}

const PLAIN: Options = Options { counts: std::ptr::null(), serial: 0 };

/// Makes a cache without sequences.
///
/// # Safety
/// `cache` is null or points to a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gristmill_kv_cache_new(
    element: Type,
    kv_heads: usize,
    dim: usize,
    value_dim: usize,
    cache: *mut *mut KvCache,
) -> Status {
    guard(|| {
        let pages = typed!("the cache", element, T => {
            Cache::<T>::new(kv_heads, dim, value_dim).map(Pages::from).map_err(Failure::from)
        })?;
        // SAFETY: the caller's promise.
        unsafe { handles::give("cache", cache, KvCache(pages)) }
    })
}

/// Frees a cache; nothing for null.
///
/// # Safety
/// The pointer is null, or came from [`gristmill_kv_cache_new`] and is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gristmill_kv_cache_free(cache: *mut KvCache) {
    // SAFETY: the caller's promise.
    unsafe { handles::free(cache) }
}

/// Sequences of a cache; 0 for null.
///
/// # Safety
/// The pointer is null or that of a cache which nobody changes meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gristmill_kv_cache_sequences(cache: *const KvCache) -> usize {
    // SAFETY: the caller's promise.
    unsafe { cache.as_ref() }.map_or(0, |cache| stored!(Pages, &cache.0, cache => cache.sequences()))
}

/// Tokens of a sequence; 0 where there is no such sequence.
///
/// # Safety
/// As [`gristmill_kv_cache_sequences`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gristmill_kv_cache_len(cache: *const KvCache, sequence: usize) -> usize {
    // SAFETY: the caller's promise.
    let cache = unsafe { cache.as_ref() };
    cache.map_or(
        0,
        |cache| stored!(Pages, &cache.0, cache => if sequence < cache.sequences() { cache.len(sequence) } else { 0 }),
    )
}

/// Bytes of keys and values held, in pages that are used or kept for later; 0 for null.
///
/// # Safety
/// As [`gristmill_kv_cache_sequences`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gristmill_kv_cache_bytes(cache: *const KvCache) -> usize {
    // SAFETY: the caller's promise.
    unsafe { cache.as_ref() }.map_or(0, |cache| stored!(Pages, &cache.0, cache => cache.bytes()))
}

/// Forgets everything and starts `sequences` empty sequences. Keeps the memory.
///
/// # Safety
/// The pointer is null or that of a cache which nobody else uses meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gristmill_kv_cache_reset(cache: *mut KvCache, sequences: usize) -> Status {
    guard(|| {
        // SAFETY: the caller's promise.
        let cache = unsafe { get_mut("cache", cache)? };
        stored!(Pages, &mut cache.0, cache => Ok(cache.reset(sequences)?))
    })
}

/// Makes room for `tokens` more tokens in every sequence.
///
/// # Safety
/// As [`gristmill_kv_cache_reset`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gristmill_kv_cache_reserve(cache: *mut KvCache, tokens: usize) -> Status {
    guard(|| {
        // SAFETY: the caller's promise.
        let cache = unsafe { get_mut("cache", cache)? };
        stored!(Pages, &mut cache.0, cache => Ok(cache.reserve(tokens)?))
    })
}

/// Appends the tokens of `k` and `v`, of any type, to the sequences.
///
/// # Safety
/// As [`gristmill_kv_cache_reset`]; other pointers are null or point to values, and what they describe is readable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gristmill_kv_cache_append(
    cache: *mut KvCache,
    k: *const Heads,
    v: *const Heads,
    options: *const Options,
) -> Status {
    guard(|| {
        // SAFETY: the caller's promise.
        let (cache, k, v) = unsafe { (get_mut("cache", cache)?, get("k", k)?, get("v", v)?) };
        same_type(&[("k", k.element), ("v", v.element)])?;
        // SAFETY: the caller's promise.
        let Options { counts, serial } = *unsafe { options.as_ref() }.unwrap_or(&PLAIN);
        // SAFETY: the caller's promise: a count per sequence.
        let counts = unsafe { view::read_optional("counts", counts, k.batch)? };
        let options = AppendOptions { counts, threads: threads(serial != 0), ..AppendOptions::default() };
        typed!("k", k.element, T => {
            // SAFETY: the caller's promise.
            let (k, v) = unsafe { (k.view::<T>("k")?, v.view::<T>("v")?) };
            stored!(Pages, &mut cache.0, cache => Ok(cache.append_with(k, v, &options)?))
        })
    })
}

/// Makes sequence i what sequence `parents[i]` was, for `count` sequences.
///
/// # Safety
/// As [`gristmill_kv_cache_reset`]; `parents` is null or has `count` values.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gristmill_kv_cache_select(cache: *mut KvCache, parents: *const usize, count: usize) -> Status {
    guard(|| {
        // SAFETY: the caller's promise.
        let (cache, parents) = unsafe { (get_mut("cache", cache)?, view::read("parents", parents.cast(), count)?) };
        stored!(Pages, &mut cache.0, cache => Ok(cache.select(parents)?))
    })
}

/// Forgets the tokens of a sequence from `len` on, if it has that many.
///
/// # Safety
/// As [`gristmill_kv_cache_reset`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gristmill_kv_cache_truncate(cache: *mut KvCache, sequence: usize, len: usize) -> Status {
    guard(|| {
        // SAFETY: the caller's promise.
        let cache = unsafe { get_mut("cache", cache)? };
        stored!(Pages, &mut cache.0, cache => {
            let sequences = cache.sequences();
            if sequence >= sequences {
                return Err(Failure::invalid(format!("there is no sequence {sequence} among {sequences}")));
            }
            cache.truncate(sequence, len);
            Ok(())
        })
    })
}
