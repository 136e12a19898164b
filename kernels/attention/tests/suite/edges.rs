//! Sizes around every edge of tiles, chunks and blocks, one after the other.

use crate::common::{Case, Sizes};
use gristmill_core::Threads;
use gristmill_core::cache::Caches;
use gristmill_simd::Level;
use gristmill_testkit::mask::{OwnedCausal, OwnedMask};
use gristmill_testkit::{Fill, Heads, Layout, sweep};

/// Head sizes that are whole panels, and not.
const DIMS: [usize; 9] = [1, 7, 8, 16, 33, 64, 80, 128, 256];

fn causal() -> OwnedMask {
    OwnedMask { causal: Some(OwnedCausal::BottomRight), ..OwnedMask::default() }
}

#[test]
fn queries_and_keys_around_two_tiles() {
    for dim in DIMS {
        for queries in [0, 1, 2, 3, 4, 6, 7, 11, 12, 13, 24, 25] {
            for keys in [0, 1, 8, 15, 16, 17, 31, 32, 33, 64, 65] {
                let seed = (queries * 100 + keys) as u64;
                let case = Case::normal(Sizes::single(queries, keys, dim), seed);
                case.assert_exact();
                Case { mask: causal(), ..case }.assert_exact();
            }
        }
    }
}

#[test]
fn rows_longer_than_the_blocks_of_values() {
    for (queries, keys) in [(1, 511), (1, 512), (2, 513), (13, 1023), (1, 1024), (5, 1025), (50, 600), (1, 2050)] {
        for dim in [33, 64] {
            let case = Case::normal(Sizes::single(queries, keys, dim), keys as u64);
            case.assert_exact();
            Case { mask: causal(), ..case }.assert_exact();
        }
    }
}

#[test]
fn keys_and_values_beyond_the_second_level_cache() {
    let (dim, value_dim) = (20, 12);
    let keys = Caches::detected().l2 / size_of::<f32>() / 2 / (dim + value_dim) + 77;
    let case = Case::normal(Sizes { value_dim, ..Sizes::single(62, keys, dim) }, 6);
    case.assert_exact();
    // Some blocks see few keys, some none.
    let offset = keys as isize / 2 - 40;
    for offset in [offset, -30] {
        let causal = Some(OwnedCausal::Offset(offset));
        Case { mask: OwnedMask { causal, ..OwnedMask::default() }, ..case.clone() }.assert_exact();
    }
}

#[test]
fn enough_work_for_threads() {
    let sizes = [
        // Many short sequences, few long ones, one head, grouped heads.
        Sizes { batch: 6, kv_heads: 4, group: 1, queries: 20, keys: 20, dim: 64, value_dim: 64 },
        Sizes { batch: 1, kv_heads: 2, group: 1, queries: 130, keys: 140, dim: 64, value_dim: 64 },
        Sizes { batch: 1, kv_heads: 1, group: 1, queries: 200, keys: 150, dim: 40, value_dim: 80 },
        Sizes { batch: 2, kv_heads: 2, group: 4, queries: 70, keys: 60, dim: 32, value_dim: 32 },
    ];
    for sizes in sizes {
        let case = Case::normal(sizes, 7);
        case.assert_exact();
        let lengths = (0..sizes.batch).map(|b| sizes.keys - 3 * b).collect();
        Case { mask: OwnedMask { key_lengths: Some(lengths), ..causal() }, ..case }.assert_exact();
    }
}

#[test]
fn grouped_heads_with_few_queries() {
    for queries in [1, 2, 5] {
        for (kv_heads, group) in [(1, 2), (2, 8), (1, 13), (1, 30)] {
            let sizes = Sizes { batch: 2, kv_heads, group, queries, keys: 70, dim: 24, value_dim: 40 };
            Case { mask: causal(), ..Case::normal(sizes, 3) }.assert_exact();
        }
    }
}

#[test]
fn common_layouts() {
    let sizes = Sizes { batch: 2, kv_heads: 3, group: 1, queries: 14, keys: 35, dim: 20, value_dim: 20 };
    let [token_major, head_major, transposed] = [[0, 1, 2, 3], [0, 2, 1, 3], [0, 2, 3, 1]];
    for (inputs, output) in [(token_major, head_major), (head_major, token_major), (transposed, transposed)] {
        let layout = |order| Layout { order, padding: [0, 4, 1, 0], margin: 3, ..Layout::default() };
        let filled = |sizes, order, seed| Heads::filled(sizes, &layout(order), Fill::Normal, seed);
        let case = Case {
            q: filled(sizes.q(), inputs, 1),
            k: filled(sizes.k(), inputs, 2),
            v: filled(sizes.v(), inputs, 3),
            out: filled(sizes.out(), output, 4),
            mask: causal(),
            scale: None,
            softcap: Some(3.0),
        };
        case.assert_exact();
    }
}

/// Strides of dimensions of one element, by which no element is reached.
#[test]
fn strides_that_lead_nowhere_have_any_value() {
    for [batch, queries, kv_heads, group, keys, dim] in
        [[1, 1, 1, 1, 40, 16], [1, 5, 1, 1, 1, 7], [2, 1, 1, 4, 30, 1], [1, 14, 2, 1, 70, 1], [1, 1, 3, 1, 1, 20]]
    {
        let sizes = Sizes { batch, kv_heads, group, queries, keys, dim, value_dim: dim };
        for stride in [isize::MAX, isize::MIN, 0, -1] {
            let mut case = Case { mask: causal(), ..Case::normal(sizes, 8) };
            for heads in [&mut case.q, &mut case.k, &mut case.v, &mut case.out] {
                for (own, size) in heads.strides.iter_mut().zip(heads.sizes) {
                    *own = if size == 1 { stride } else { *own };
                }
            }
            case.assert_exact();
        }
    }
}

#[test]
fn fused_levels_agree() {
    let case = Case { mask: causal(), ..Case::normal(Sizes::single(40, 90, 48), 5) };
    let fused: Vec<_> = Level::available().filter(|level| level.fused()).collect();
    let results: Vec<_> = fused.iter().map(|&level| case.run(level, Threads::Serial)).collect();
    assert!(results.windows(2).all(|pair| pair[0] == pair[1]), "{fused:?}");
    sweep::levels(|_| {});
}
