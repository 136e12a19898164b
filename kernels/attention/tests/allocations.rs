//! In steady state nothing is allocated.

use gristmill_attention::{AttentionOptions, KvCache, attention, attention_cached};
use gristmill_core::{Causal, HeadsMut, HeadsRef, Mask, Threads, Workspace};
use gristmill_simd::{Element, bf16, f16};
use gristmill_testkit::allocations::{Counting, count};
use gristmill_testkit::{Fill, Heads, sweep};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of a first and of a second call.
fn counts(mut call: impl FnMut()) -> [usize; 2] {
    [(); 2].map(|()| {
        let before = count();
        call();
        count() - before
    })
}

/// Attends to views and to a cache, twice each.
fn attend_twice<Q: Element, K: Element, O: Element>() {
    for (queries, keys) in [(1, 100), (70, 90)] {
        let filled = |seq, heads, seed| Heads::filled([2, seq, heads, 40], &Default::default(), Fill::Normal, seed);
        let (q, k, mut v) = (filled(queries, 4, 1).to::<Q>(), filled(keys, 2, 2).to::<K>(), filled(keys, 2, 3));
        // A value that is not finite makes rows be computed again.
        *v.data.last_mut().unwrap() = f32::INFINITY;
        let (v, mut out) = (v.to::<K>(), filled(queries, 4, 4).to::<O>());
        let mut cache = KvCache::<K>::new(2, 40, 40).unwrap();
        cache.reset(2).unwrap();
        cache.append(k.heads(), v.heads()).unwrap();
        sweep::levels(|level| {
            let mask = Mask { causal: Some(Causal::BottomRight), ..Mask::default() };
            let options =
                AttentionOptions { mask, threads: Threads::Serial, level: Some(level), ..AttentionOptions::default() };
            let [mut for_views, mut for_cache] = [(); 2].map(|()| Workspace::new());
            let views = counts(|| {
                attention(q.heads(), k.heads(), v.heads(), out.heads_mut(), &options, &mut for_views).unwrap();
            });
            let cached = counts(|| {
                attention_cached(q.heads(), &cache, out.heads_mut(), &options, &mut for_cache).unwrap();
            });
            assert!(views[0] > 0 && cached[0] > 0, "the first call allocates its scratch memory");
            let types = [Q::NAME, K::NAME, O::NAME];
            assert_eq!([views[1], cached[1]], [0; 2], "{level}: {queries} queries, {types:?}");
        });
    }
}

#[test]
fn a_second_call_allocates_nothing() {
    attend_twice::<f32, f32, f32>();
    attend_twice::<f16, f16, f16>();
    attend_twice::<bf16, bf16, bf16>();
    attend_twice::<f32, f16, bf16>();
}

/// Beams that share pages, in a cache of type T.
fn search<T: Element>() {
    let data = [T::from_f32(0.5); 4 * 2 * 8];
    let tokens = HeadsRef::bshd(&data, [4, 1, 2, 8]).unwrap();
    let mut out = [T::default(); 4 * 2 * 8];
    let (mut cache, mut workspace) = (KvCache::<T>::new(2, 8, 8).unwrap(), Workspace::new());
    let options = AttentionOptions { threads: Threads::Serial, ..AttentionOptions::default() };
    let counts = [(); 3].map(|()| {
        let before = count();
        cache.reset(4).unwrap();
        for step in 0..150 {
            cache.select(&[0, 0, 1 + step % 3, 2]).unwrap();
            cache.append(tokens, tokens).unwrap();
            let out = HeadsMut::bshd(&mut out, [4, 1, 2, 8]).unwrap();
            attention_cached(tokens, &cache, out, &options, &mut workspace).unwrap();
        }
        count() - before
    });
    assert!(counts[0] > 0, "the first search allocates pages and scratch memory");
    // Two vectors of sequences take turns: after the second search both have grown.
    assert_eq!(counts[2], 0, "{}", T::NAME);
}

#[test]
fn a_second_search_in_the_same_cache_allocates_nothing() {
    search::<f32>();
    search::<f16>();
    search::<bf16>();
}

/// As many sequences as there were, fewer and more, anew and as beams, with a token each.
fn widths<T: Element>() {
    let data = [T::from_f32(0.5); 8 * 2 * 8];
    let mut cache = KvCache::<T>::new(2, 8, 8).unwrap();
    let mut change = |sequences: usize, beams: bool| {
        match beams {
            true => cache.select(&[0; 8][..sequences]).unwrap(),
            false => cache.reset(sequences).unwrap(),
        }
        let tokens = HeadsRef::bshd(&data[..sequences * 16], [sequences, 1, 2, 8]).unwrap();
        cache.append(tokens, tokens).unwrap();
    };
    for beams in [false, true] {
        (0..4).for_each(|n| change([8, 8, 4, 8][n], beams && n > 0));
        let before = count();
        (0..4).for_each(|n| change([8, 4, 8, 1][n], beams && n > 0));
        assert_eq!(count() - before, 0, "{}, beams: {beams}", T::NAME);
    }
}

#[test]
fn other_numbers_of_sequences_allocate_nothing() {
    widths::<f32>();
    widths::<f16>();
    widths::<bf16>();
}
