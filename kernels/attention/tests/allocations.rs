//! In steady state nothing is allocated.

mod common;

use common::{Case, Sizes};
use gristmill_attention::{AttentionOptions, KvCache, attention_cached};
use gristmill_core::{HeadsMut, HeadsRef, Threads, Workspace};
use gristmill_testkit::mask::{OwnedCausal, OwnedMask};
use gristmill_testkit::sweep;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

/// Counts the allocations of each thread.
struct Counting;

// SAFETY: every call is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|n| n.set(n.get() + 1));
        // SAFETY: passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, p: *mut u8, layout: Layout) {
        // SAFETY: passed on.
        unsafe { System.dealloc(p, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_second_call_allocates_nothing() {
    let causal = || OwnedMask { causal: Some(OwnedCausal::BottomRight), ..OwnedMask::default() };
    for (queries, keys) in [(1, 100), (70, 90)] {
        let sizes = Sizes { batch: 2, kv_heads: 2, group: 2, ..Sizes::single(queries, keys, 40) };
        let mut case = Case { mask: causal(), ..Case::normal(sizes, 1) };
        // A value that is not finite makes rows be computed again.
        *case.v.data.last_mut().unwrap() = f32::INFINITY;
        sweep::levels(|level| {
            let (mut workspace, mut out) = (Workspace::new(), case.out.clone());
            let counts = [(); 2].map(|()| {
                let before = ALLOCATIONS.get();
                case.call(&mut out, level, Threads::Serial, &mut workspace).unwrap();
                ALLOCATIONS.get() - before
            });
            assert!(counts[0] > 0, "the first call allocates its scratch memory");
            assert_eq!(counts[1], 0, "{level}: {queries} queries");
        });
    }
}

#[test]
fn a_second_search_in_the_same_cache_allocates_nothing() {
    let data = [0.5; 4 * 2 * 8];
    let tokens = HeadsRef::bshd(&data, [4, 1, 2, 8]).unwrap();
    let mut out = [0.0; 4 * 2 * 8];
    let (mut cache, mut workspace) = (KvCache::<f32>::new(2, 8, 8).unwrap(), Workspace::new());
    let options = AttentionOptions { threads: Threads::Serial, ..AttentionOptions::default() };
    let counts = [(); 3].map(|()| {
        let before = ALLOCATIONS.get();
        cache.reset(4).unwrap();
        for step in 0..150 {
            cache.select(&[0, 0, 1 + step % 3, 2]).unwrap();
            cache.append(tokens, tokens).unwrap();
            let out = HeadsMut::bshd(&mut out, [4, 1, 2, 8]).unwrap();
            attention_cached(tokens, &cache, out, &options, &mut workspace).unwrap();
        }
        ALLOCATIONS.get() - before
    });
    assert!(counts[0] > 0, "the first search allocates pages and scratch memory");
    // Two vectors of sequences take turns: after the second search both have grown.
    assert_eq!(counts[2], 0);
}
