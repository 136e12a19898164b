//! Without memory functions say so, and outputs and caches are as they were.

use gristmill_capi::attention::{Options as AttentionOptions, gristmill_attention};
use gristmill_capi::cache::{
    Options as AppendOptions, gristmill_kv_cache_append, gristmill_kv_cache_free, gristmill_kv_cache_len,
    gristmill_kv_cache_new, gristmill_kv_cache_reset,
};
use gristmill_capi::gemm::{Options, gristmill_gemm};
use gristmill_capi::handles::{
    gristmill_pack, gristmill_packed_free, gristmill_workspace_free, gristmill_workspace_new,
};
use gristmill_capi::mask::Scores;
use gristmill_capi::status::{OK, OUT_OF_MEMORY, Status, gristmill_error_message};
use gristmill_capi::view::{F32, Heads, Matrix};
use gristmill_testkit::shortage::{Scarce, every};
use gristmill_testkit::{Fill, assert_bits_eq};
use std::ffi::CStr;
use std::ptr::{null, null_mut};

#[global_allocator]
static ALLOCATOR: Scarce = Scarce;

fn matrix(data: &mut [f32], rows: usize, cols: usize) -> Matrix {
    Matrix { data: data.as_mut_ptr().cast(), element: F32, rows, cols, row_stride: cols }
}

fn result(status: Status) -> Result<(), Status> {
    if status == OK { Ok(()) } else { Err(status) }
}

#[track_caller]
fn assert_shortage(status: Status) {
    // SAFETY: it is a string that lives until the next failure.
    let message = unsafe { CStr::from_ptr(gristmill_error_message()) }.to_str().unwrap();
    assert!(status == OUT_OF_MEMORY && message.contains("memory could not be"), "{status}: {message}");
}

#[test]
fn a_product_without_memory_touches_nothing() {
    let [mut a, mut b] = [1, 2].map(|seed| Fill::Normal.vec::<f32>(seed, 40 * 400));
    let [a, b] = [matrix(&mut a, 40, 400), matrix(&mut b, 40, 400)];
    let (bias, residual) = (null(), null());
    let options = Options { alpha: 1.0, beta: 1.0, bias, activation: 0, residual, serial: 1 };
    // SAFETY: all that is described is there, and nobody else uses it.
    let multiply =
        |c: &mut [f32]| result(unsafe { gristmill_gemm(&a, &b, 1, &matrix(c, 40, 40), &options, null_mut()) });
    let before = Fill::Normal.vec::<f32>(3, 40 * 40);
    let mut expected = before.clone();
    multiply(&mut expected).unwrap();
    let allocations = every(
        1,
        || before.clone(),
        |c| multiply(c),
        |mut c, result| {
            if let Err(status) = result {
                assert_shortage(status);
                assert_bits_eq(&c, &before, "without memory");
                multiply(&mut c).unwrap();
            }
            assert_bits_eq(&c, &expected, "c");
        },
    );
    assert!(allocations > 0, "a product needs scratch memory");
}

#[test]
fn a_mask_of_zeros_and_ones_is_not_copied() {
    const TOKENS: usize = 70;
    let heads = |data: &mut [f32]| {
        let (data, element, batch_stride) = (data.as_mut_ptr().cast(), F32, TOKENS * 8);
        Heads { data, element, batch: 1, seq: TOKENS, heads: 1, dim: 8, batch_stride, seq_stride: 8, head_stride: 8 }
    };
    let (mut tokens, mut out) = (Fill::Normal.vec::<f32>(6, TOKENS * 8), vec![0.0; TOKENS * 8]);
    let (tokens, out) = (heads(&mut tokens), heads(&mut out));
    for (seen, copies) in [(1, 0), (2, 1)] {
        let bytes: Vec<u8> = (0..TOKENS * TOKENS).map(|at| if at % 3 == 0 { 0 } else { seen }).collect();
        let keep = Scores {
            data: bytes.as_ptr().cast(),
            batch: 1,
            heads: 1,
            queries: TOKENS,
            keys: TOKENS,
            batch_stride: 0,
            head_stride: 0,
            query_stride: TOKENS,
            key_stride: 1,
        };
        let options = AttentionOptions {
            scale: 0.0,
            softcap: 0.0,
            causal: 0,
            causal_offsets: null(),
            key_lengths: null(),
            keep: &keep,
            bias: null(),
            serial: 1,
        };
        let attend = |workspace| {
            // SAFETY: all that is described is there, and nobody else uses it.
            result(unsafe { gristmill_attention(&tokens, &tokens, &tokens, &out, &options, workspace) })
        };
        let warm = || {
            let workspace = gristmill_workspace_new();
            attend(workspace).unwrap();
            workspace
        };
        let allocations = every(
            1,
            warm,
            |workspace| attend(*workspace),
            |workspace, result| {
                result.unwrap_or_else(assert_shortage);
                // SAFETY: it has been made by gristmill_workspace_new.
                unsafe { gristmill_workspace_free(workspace) };
            },
        );
        assert_eq!(allocations, copies, "with bytes of 0 and {seen}");
    }
}

#[test]
fn what_c_owns_is_whole_or_not_there() {
    let mut data = Fill::Normal.vec::<f32>(4, 30 * 20);
    let weight = matrix(&mut data, 30, 20);
    // The panels, and what holds them.
    let allocations = every(
        1,
        null_mut,
        // SAFETY: the weight is there.
        |packed| result(unsafe { gristmill_pack(&weight, 1, packed) }),
        |packed, result| {
            assert_eq!(packed.is_null(), result.is_err());
            result.unwrap_or_else(assert_shortage);
            // SAFETY: null, or from gristmill_pack.
            unsafe { gristmill_packed_free(packed) };
        },
    );
    assert_eq!(allocations, 2);
    let workspace = |workspace: &mut *mut _| {
        *workspace = gristmill_workspace_new();
        if workspace.is_null() { Err(OUT_OF_MEMORY) } else { Ok(()) }
    };
    // SAFETY: null, or from gristmill_workspace_new.
    assert_eq!(every(1, null_mut, workspace, |workspace, _| unsafe { gristmill_workspace_free(workspace) }), 1);
}

#[test]
fn a_cache_without_memory_keeps_what_it_has() {
    let mut data = Fill::Normal.vec::<f32>(5, 2 * 70 * 8);
    let (data, element) = (data.as_mut_ptr().cast(), F32);
    let tokens =
        Heads { data, element, batch: 2, seq: 70, heads: 1, dim: 8, batch_stride: 560, seq_stride: 8, head_stride: 8 };
    let options = AppendOptions { counts: null(), serial: 1 };
    // SAFETY: the cache is one, and the tokens are there.
    let append = |cache| result(unsafe { gristmill_kv_cache_append(cache, &tokens, &tokens, &options) });
    // SAFETY: a cache is one.
    let len = |cache| unsafe { gristmill_kv_cache_len(cache, 1) };
    // SAFETY: there is a place for the cache.
    let new = |cache: &mut *mut _| result(unsafe { gristmill_kv_cache_new(F32, 1, 8, 8, cache) });
    let allocations = every(1, null_mut, new, |cache, result| {
        assert_eq!(cache.is_null(), result.is_err());
        result.unwrap_or_else(assert_shortage);
        // SAFETY: null, or from gristmill_kv_cache_new.
        unsafe { gristmill_kv_cache_free(cache) };
    });
    assert_eq!(allocations, 1);
    let begun = || {
        let mut cache = null_mut();
        new(&mut cache).unwrap();
        // SAFETY: it has just been made.
        result(unsafe { gristmill_kv_cache_reset(cache, 2) }).unwrap();
        cache
    };
    let allocations = every(
        1,
        begun,
        |cache| append(*cache),
        |cache, result| {
            if let Err(status) = result {
                assert_shortage(status);
                assert_eq!(len(cache), 0);
                append(cache).unwrap();
            }
            assert_eq!(len(cache), 70);
            // SAFETY: it has been made by gristmill_kv_cache_new.
            unsafe { gristmill_kv_cache_free(cache) };
        },
    );
    assert!(allocations > 4, "only {allocations} allocations");
}
