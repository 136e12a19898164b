//! Without memory calls say so, lose nothing, and work as if nothing had been once there is some.

use gristmill_attention::{AppendOptions, AttentionOptions, KvCache, attention, attention_cached, attention_weights};
use gristmill_core::{Causal, Error, HeadsMut, Mask, Threads, Workspace};
use gristmill_simd::{Element, bf16, f16};
use gristmill_testkit::compare::bits;
use gristmill_testkit::shortage::{Scarce, every, every_output, levels_and_threads};
use gristmill_testkit::{Fill, Heads, Layout, Rng, Strided};

#[global_allocator]
static ALLOCATOR: Scarce = Scarce;

/// Checks a call, whose scores need scratch memory, with every shortage.
fn check<O: Element>(before: &[O], context: &str, call: impl Fn(&mut [O], &mut Workspace) -> Result<(), Error>) {
    assert!(every_output(before, context, call) > 0, "{context}: scores need scratch memory");
}

fn attend<Q: Element, K: Element, O: Element>() {
    for (queries, keys, heads, kv_heads) in [(1, 100, 4, 4), (1, 100, 4, 2), (70, 90, 4, 2)] {
        let filled = |seq, heads, seed| Heads::filled([2, seq, heads, 40], &Default::default(), Fill::Normal, seed);
        let (q, k, v) = (filled(queries, heads, 1), filled(keys, kv_heads, 2), filled(keys, kv_heads, 3));
        let (q, k, v) = (q.to::<Q>(), k.to::<K>(), v.to::<K>());
        let out: Vec<O> = Fill::Normal.vec(4, 2 * queries * heads * keys.max(40));
        let mut cache = KvCache::<K>::new(kv_heads, 40, 40).unwrap();
        cache.reset(2).unwrap();
        cache.append(k.heads(), v.heads()).unwrap();
        levels_and_threads(|level, threads| {
            let mask = Mask { causal: Some(Causal::BottomRight), ..Mask::default() };
            let options = AttentionOptions { mask, threads, level: Some(level), ..AttentionOptions::default() };
            let context = format!("{queries} queries of {} at {level} on {} threads", Q::NAME, threads.count());
            let (sizes, weights) = ([2, queries, heads, 40], [2, queries, heads, keys]);
            check(&out[..2 * queries * heads * 40], &context, |out, workspace| {
                attention(q.heads(), k.heads(), v.heads(), HeadsMut::bshd(out, sizes)?, &options, workspace)
            });
            check(&out[..2 * queries * heads * 40], &context, |out, workspace| {
                attention_cached(q.heads(), &cache, HeadsMut::bshd(out, sizes)?, &options, workspace)
            });
            check(&out[..2 * queries * heads * keys], &context, |out, workspace| {
                attention_weights(q.heads(), k.heads(), HeadsMut::bshd(out, weights)?, &options, workspace)
            });
        });
    }
}

#[test]
fn attention_without_memory_touches_nothing() {
    attend::<f32, f32, f32>();
    attend::<f16, f16, f16>();
    attend::<bf16, bf16, bf16>();
    attend::<f32, f16, bf16>();
}

/// What is done to a cache.
#[derive(Debug)]
enum Change<T: Element> {
    Reset(usize),
    Reserve(usize),
    /// Tokens, and how many of them each sequence is given.
    Append(Strided<T, 4>, Vec<usize>),
    Select(Vec<usize>),
    Truncate(usize, usize),
}

impl<T: Element> Change<T> {
    /// Something that is possible, and grows, shares or copies pages often.
    fn random(cache: &KvCache<T>, rng: &mut Rng) -> Self {
        let sequences = cache.sequences();
        match rng.below(if sequences > 0 { 12 } else { 1 }) {
            0 => Change::Reset(1 + rng.below(3)),
            1 => Change::Reserve(rng.below(150)),
            2 => {
                let sequence = rng.below(sequences);
                Change::Truncate(sequence, rng.below(cache.len(sequence) + 1))
            }
            3..=6 => {
                let width = 1 + rng.below(5);
                Change::Select((0..width).map(|_| rng.below(sequences)).collect())
            }
            _ => {
                let most = [1, 3, 70, 140][rng.below(4)];
                let sizes = [sequences, most, 1, cache.dim()];
                let tokens = Strided::filled(sizes, &Layout::default(), Fill::Normal, rng.bits());
                Change::Append(tokens, (0..sequences).map(|_| most - rng.below(2)).collect())
            }
        }
    }

    fn make(&self, cache: &mut KvCache<T>) -> Result<(), Error> {
        match self {
            Change::Reset(sequences) => cache.reset(*sequences),
            Change::Reserve(tokens) => cache.reserve(*tokens),
            Change::Append(tokens, counts) => {
                let options = AppendOptions { counts: Some(counts), ..AppendOptions::default() };
                cache.append_with(tokens.heads(), tokens.heads(), &options)
            }
            Change::Select(parents) => cache.select(parents),
            Change::Truncate(sequence, len) => {
                cache.truncate(*sequence, *len);
                Ok(())
            }
        }
    }
}

/// A cache that some changes have been made to.
fn changed<T: Element>(dim: usize, changes: &[Change<T>]) -> KvCache<T> {
    let mut cache = KvCache::new(1, dim, dim).unwrap();
    changes.iter().for_each(|change| change.make(&mut cache).unwrap());
    cache
}

/// What can be seen of a cache: the lengths of its sequences, the bytes in use, and what attention finds.
fn seen<T: Element>(cache: &KvCache<T>) -> (Vec<usize>, usize, Vec<u32>) {
    let sizes = [cache.sequences(), 1, 1, cache.dim()];
    let q = Heads::filled(sizes, &Layout::default(), Fill::Normal, 1);
    let mut out = Heads::filled(sizes, &Layout::default(), Fill::Normal, 2);
    let options = AttentionOptions { threads: Threads::Serial, ..AttentionOptions::default() };
    attention_cached(q.heads(), cache, out.heads_mut(), &options, &mut Workspace::new()).unwrap();
    ((0..cache.sequences()).map(|b| cache.len(b)).collect(), cache.bytes_used(), bits(&out.values()))
}

/// Makes changes, each of them with every shortage.
fn change<T: Element>(dim: usize, seed: u64) {
    let (mut rng, mut changes, mut cache) = (Rng::new(seed), Vec::new(), KvCache::<T>::new(1, dim, dim).unwrap());
    for _ in 0..25 {
        let change = Change::random(&cache, &mut rng);
        change.make(&mut cache).unwrap();
        changes.push(change);
    }
    let all = &cache;
    let mut allocations = 0;
    for (at, change) in changes.iter().enumerate() {
        let (before, after) = (seen(&changed(dim, &changes[..at])), changed(dim, &changes[..=at]));
        allocations += every(
            1,
            || changed(dim, &changes[..at]),
            |cache| change.make(cache),
            |mut cache, result| {
                if let Err(error) = result {
                    assert!(matches!(error, Error::OutOfMemory { bytes } if bytes > 0), "{change:?}: {error}");
                    assert_eq!(seen(&cache), before, "{change:?} was made without memory");
                    change.make(&mut cache).unwrap();
                }
                assert_eq!(seen(&cache), seen(&after), "{change:?}");
                assert_eq!(cache.bytes(), after.bytes(), "{change:?}");
                // The counts of users and the free pages show in what follows.
                changes[at + 1..].iter().for_each(|change| change.make(&mut cache).unwrap());
                assert_eq!(seen(&cache), seen(all), "after {change:?}");
            },
        );
    }
    assert!(allocations > 15, "{allocations} allocations are few");
}

#[test]
fn a_change_of_a_cache_without_memory_changes_nothing() {
    // Keys that are scattered at once, and keys that are turned 16 at a time.
    for seed in 0..12 {
        change::<f32>(4, seed);
        change::<f32>(32, seed);
        change::<f16>(4, seed);
    }
}
