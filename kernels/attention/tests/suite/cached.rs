//! Attention to a cache equals `attention` to the same keys and values, in bits.

use crate::common::{Case, Sizes, positions, positions_after, with_types};
use gristmill_attention::{AppendOptions, AttentionOptions, KvCache, attention_cached};
use gristmill_core::{Error, HeadsMut, HeadsRef, Threads, Workspace};
use gristmill_simd::{Element, Level, bf16, f16};
use gristmill_testkit::mask::{OwnedCausal, OwnedMask};
use gristmill_testkit::{Fill, Heads, Layout, Rng, Strided, assert_bits_eq, sweep};

fn causal() -> OwnedMask {
    OwnedMask { causal: Some(OwnedCausal::BottomRight), ..OwnedMask::default() }
}

fn counted(counts: &[usize]) -> AppendOptions<'_> {
    AppendOptions { counts: Some(counts), ..AppendOptions::default() }
}

fn run<T: Element>(cache: &KvCache<T>, q: &Heads, out: [usize; 4], options: &AttentionOptions) -> Vec<f32> {
    run_as::<T, T, f32>(cache, q, out, options)
}

fn run_as<Q: Element, K: Element, O: Element>(
    cache: &KvCache<K>,
    q: &Heads,
    out: [usize; 4],
    options: &AttentionOptions,
) -> Vec<f32> {
    let (q, mut out) = (q.to::<Q>(), Strided::<O, 4>::filled(out, &Layout::default(), Fill::Normal, 9));
    attention_cached(q.heads(), cache, out.heads_mut(), options, &mut Workspace::new()).unwrap();
    out.widened()
}

#[test]
fn steps_equal_one_causal_pass() {
    steps_equal_one_pass::<f32, f32, f32>(usize::MAX);
}

#[test]
fn steps_in_pairs_equal_one_causal_pass() {
    steps_equal_one_pass::<bf16, bf16, f32>(usize::MAX);
}

#[test]
fn steps_of_any_types_equal_one_causal_pass() {
    with_types!(steps_equal_one_pass::<Q, K, O>(200));
}

/// Cases of up to `most` keys.
fn steps_equal_one_pass<Q: Element, K: Element, O: Element>(most: usize) {
    // Steps of one token and of several, over pages, and over blocks of 512 keys.
    // Heads that share their keys, and many that do not.
    for (kv_heads, group, dim, value_dim, steps) in [
        (2, 2, 8, 8, vec![1; 20]),
        (2, 2, 7, 33, vec![3, 1, 12, 1, 1, 47, 1, 64, 5]),
        (2, 2, 64, 64, vec![15, 1, 1, 100, 1]),
        (2, 2, 16, 5, vec![500, 1, 11, 1, 2, 513, 1, 1]),
        (15, 1, 9, 16, vec![1; 20]),
        (11, 1, 24, 80, vec![30, 1, 1, 1, 14, 1, 2, 13, 1, 1, 1]),
        (8, 1, 64, 64, vec![15, 1, 1, 100, 1]),
        (4, 1, 32, 16, vec![1; 35]),
        (3, 1, 16, 48, vec![510, 1, 1, 1, 1, 510, 1, 1, 1]),
        (3, 1, 16, 208, vec![63, 1, 1, 64, 1]),
    ] {
        let (keys, heads) = (steps.iter().sum(), kv_heads * group);
        if keys > most {
            continue;
        }
        let sizes = Sizes { batch: 2, kv_heads, group, dim, value_dim, ..Sizes::single(keys, keys, dim) };
        let case = Case { mask: causal(), ..Case::normal(sizes, 5) };
        let want = sweep::arithmetics().into_iter().map(|level| (level.fused(), case.naive_as::<Q, K, O>(level)));
        let want = want.collect::<Vec<_>>();
        sweep::levels_and_threads(|level, threads| {
            let want = &want.iter().find(|(fused, _)| *fused == level.fused()).unwrap().1;
            let mut cache = KvCache::<K>::new(kv_heads, dim, value_dim).unwrap();
            cache.reset(2).unwrap();
            let mut at = 0;
            for &step in &steps {
                let next = at + step;
                let [q, k, v] = [&case.q, &case.k, &case.v].map(|x| positions(x.heads(), at, next));
                let appends = AppendOptions { threads, level: Some(level), ..AppendOptions::default() };
                cache.append_with(k.heads(), v.heads(), &appends).unwrap();
                let got = run_as::<Q, K, O>(&cache, &q, [2, step, heads, value_dim], &case.options(level, threads));
                let row = heads * value_dim;
                let want: Vec<f32> =
                    (0..2).flat_map(|b| &want[(b * keys + at) * row..(b * keys + next) * row]).copied().collect();
                let types = [Q::NAME, K::NAME, O::NAME];
                let context = format_args!("{level}, tokens {at} to {next}, {kv_heads} heads, d {dim}, {types:?}");
                assert_bits_eq(&got, &want, context);
                at = next;
            }
        });
    }
}

#[test]
fn heads_in_step_are_of_any_types_and_lengths() {
    heads_in_step::<f32, f32, f32>();
    with_types!(heads_in_step::<Q, K, O>());
}

/// One query of each of many heads, to sequences that have grown by tokens of their own.
fn heads_in_step<Q: Element, K: Element, O: Element>() {
    let grow = (0..15).map(|t| [1, usize::from(t % 3 > 0), usize::from(t % 5 > 1)]);
    let counts: Vec<_> = std::iter::once([60, 0, 126]).chain(grow).collect();
    let lengths = [75, 10, 135];
    for (kv_heads, dim, value_dim) in [(8, 32, 64), (11, 17, 16), (15, 24, 80)] {
        let sizes = Sizes { batch: 3, kv_heads, value_dim, ..Sizes::single(1, 135, dim) };
        let mut rng = Rng::new(dim as u64);
        let bias = Some(Strided::new(sizes.scores(), &Layout::default(), 0.0, || rng.normal()));
        let mask = OwnedMask { key_lengths: Some(lengths.to_vec()), bias, ..OwnedMask::default() };
        let case = Case { mask, softcap: Some(3.0), ..Case::normal(sizes, 14) };
        let want = sweep::arithmetics().into_iter().map(|level| (level.fused(), case.naive_as::<Q, K, O>(level)));
        let want = want.collect::<Vec<_>>();
        sweep::levels_and_threads(|level, threads| {
            let want = &want.iter().find(|(fused, _)| *fused == level.fused()).unwrap().1;
            let mut cache = KvCache::<K>::new(kv_heads, dim, value_dim).unwrap();
            cache.reset(3).unwrap();
            for counts in &counts {
                let lengths: Vec<_> = (0..3).map(|b| cache.len(b)).collect();
                let most = *counts.iter().max().unwrap();
                let [k, v] = [&case.k, &case.v].map(|x| positions_after(x.heads(), &lengths, most));
                let appends = AppendOptions { counts: Some(counts), threads, level: Some(level) };
                cache.append_with(k.heads(), v.heads(), &appends).unwrap();
            }
            // What hides keys of `naive` the cache has not got.
            let mut options = case.options(level, threads);
            options.mask.key_lengths = None;
            let got = run_as::<Q, K, O>(&cache, &case.q, sizes.out(), &options);
            let types = [Q::NAME, K::NAME, O::NAME];
            assert_bits_eq(&got, want, format_args!("{level}, {kv_heads} heads, {types:?}"));
        });
    }
}

#[test]
fn heads_in_step_skip_what_each_of_them_hides() {
    let sizes = Sizes { batch: 2, kv_heads: 5, value_dim: 32, ..Sizes::single(1, 70, 24) };
    let mut case = Case::normal(sizes, 8);
    // Head h does not see key 10 h + 3, whose value is infinite.
    let mut index = 0..;
    let keep = Strided::new([2, 5, 1, 70], &Layout::default(), false, || {
        let (h, j) = index.next().map(|n: usize| (n / 70 % 5, n % 70)).unwrap();
        j != 10 * h + 3
    });
    for (b, h) in (0..2).flat_map(|b| (0..5).map(move |h| (b, h))) {
        (0..32).for_each(|d| case.v.heads_mut().set(b, 10 * h + 3, h, d, f32::INFINITY));
    }
    case.mask.keep = Some(keep);
    let mut cache = KvCache::<f32>::new(5, 24, 32).unwrap();
    cache.reset(2).unwrap();
    cache.append(case.k.heads(), case.v.heads()).unwrap();
    sweep::levels_and_threads(|level, threads| {
        let got = run(&cache, &case.q, sizes.out(), &case.options(level, threads));
        assert!(got.iter().all(|value| value.is_finite()));
        assert_bits_eq(&got, &case.naive(level), format_args!("{level}"));
    });
}

#[test]
fn sequences_of_different_lengths_equal_each_alone() {
    let lengths = [70, 0, 130, 64];
    let sizes = Sizes { batch: 4, kv_heads: 1, group: 3, ..Sizes::single(5, 130, 24) };
    for mask in [OwnedMask::default(), causal()] {
        let mut case = Case { mask, softcap: Some(20.0), ..Case::normal(sizes, 6) };
        // Rows that see this one are summed again without what they do not see.
        case.v.heads_mut().set(2, 127, 0, 3, f32::INFINITY);
        let mut cache = KvCache::<f32>::new(1, 24, 24).unwrap();
        cache.reset(4).unwrap();
        cache.append_with(case.k.heads(), case.v.heads(), &counted(&lengths)).unwrap();
        sweep::levels_and_threads(|level, threads| {
            let got = run(&cache, &case.q, sizes.out(), &case.options(level, threads));
            for (b, &length) in lengths.iter().enumerate() {
                let one = |x: &Heads, keys: usize| {
                    let x = x.heads();
                    let all = positions(x, 0, keys);
                    let [_, s, h, d] = all.heads().sizes();
                    let values: Vec<f32> = all.values()[b * s * h * d..][..s * h * d].to_vec();
                    (values, [1, s, h, d])
                };
                let (q, k, v) = (one(&case.q, 5), one(&case.k, length), one(&case.v, length));
                let mut want = vec![0.0; 5 * 3 * 24];
                gristmill_testkit::naive!(
                    level,
                    gristmill_attention::naive::attention(
                        HeadsRef::bshd(&q.0, q.1).unwrap(),
                        HeadsRef::bshd(&k.0, k.1).unwrap(),
                        HeadsRef::bshd(&v.0, v.1).unwrap(),
                        HeadsMut::bshd(&mut want, [1, 5, 3, 24]).unwrap(),
                        &case.options(level, threads)
                    )
                )
                .unwrap();
                assert_bits_eq(&got[b * want.len()..][..want.len()], &want, format_args!("{level}, sequence {b}"));
            }
        });
    }
}

#[test]
fn threads_append_what_one_appends() {
    let sizes = Sizes { batch: 8, kv_heads: 8, group: 1, ..Sizes::single(1, 67, 256) };
    let case = Case::normal(sizes, 9);
    // Whole pages and rests, then a token for each of beams that share pages, which is just enough to be shared.
    let appended = |threads: Threads| {
        let mut cache = KvCache::<f32>::new(8, 256, 256).unwrap();
        cache.reset(8).unwrap();
        let counts = [67, 0, 64, 1, 3, 66, 15, 17];
        let options = AppendOptions { counts: Some(&counts), threads, ..AppendOptions::default() };
        cache.append_with(case.k.heads(), case.v.heads(), &options).unwrap();
        cache.select(&[0, 0, 2, 3, 3, 5, 1, 7]).unwrap();
        let [k, v] = [&case.k, &case.v].map(|x| positions(x.heads(), 5, 6));
        cache.append_with(k.heads(), v.heads(), &AppendOptions { counts: None, ..options }).unwrap();
        run(&cache, &case.q, sizes.out(), &case.options(Level::Portable, Threads::Serial))
    };
    let want = appended(Threads::Serial);
    sweep::threads(|threads| assert_bits_eq(&appended(threads), &want, format_args!("{threads:?}")));
}

/// Tokens that their numbers tell apart, and NaN behind the last one of a sequence.
fn tokens(heads: usize, dim: usize, sequences: &[Vec<u64>]) -> Heads {
    let (longest, len) = (sequences.iter().map(Vec::len).max().unwrap(), heads * dim);
    let token = |number: Option<&u64>| number.map_or(vec![f32::NAN; len], |&number| Fill::Normal.vec(number, len));
    let all = sequences.iter().flat_map(|sequence| (0..longest).map(|t| token(sequence.get(t))));
    let mut values = all.flatten();
    Heads::new([sequences.len(), longest, heads, dim], &Layout::default(), 0.0, || values.next().unwrap())
}

#[test]
fn beams_share_pages_and_never_see_each_other() {
    beams_share_pages::<f32>();
    beams_share_pages::<f16>();
}

#[test]
fn beams_share_pages_of_pairs() {
    beams_share_pages::<bf16>();
}

fn beams_share_pages<T: Element>() {
    // Keys that are scattered at once, and keys that are turned 16 at a time; values that heads take in step, and others.
    for (kv_heads, dim, value_dim) in [(1, 4, 4), (1, 32, 32), (3, 32, 20), (2, 7, 16)] {
        sweep::levels(|level| {
            let mut cache = KvCache::<T>::new(kv_heads, dim, value_dim).unwrap();
            cache.reset(1).unwrap();
            let (mut rng, mut numbers, mut histories) = (Rng::new(3), 0.., vec![Vec::new()]);
            for step in 0..160 {
                let beams = 1 + step % 5;
                let parents: Vec<usize> = (0..beams).map(|_| rng.below(histories.len())).collect();
                cache.select(&parents).unwrap();
                histories = parents.iter().map(|&parent| histories[parent].clone()).collect::<Vec<Vec<u64>>>();
                if step % 7 == 6 {
                    let (b, len) = (rng.below(beams), rng.below(histories[0].len() + 1));
                    cache.truncate(b, len);
                    histories[b].truncate(len);
                }
                // Mostly a token or none for each, now and then many.
                let most = [1, 1, 1, 2, 17][rng.below(5)];
                let next: Vec<Vec<u64>> =
                    (0..beams).map(|_| numbers.by_ref().take(most - rng.below(2)).collect()).collect();
                let counts: Vec<usize> = next.iter().map(Vec::len).collect();
                let [k, v] = [dim, value_dim].map(|dim| tokens(kv_heads, dim, &next));
                let appends = AppendOptions { level: Some(level), ..counted(&counts) };
                cache.append_with(k.heads(), v.heads(), &appends).unwrap();
                histories.iter_mut().zip(next).for_each(|(history, next)| history.extend(next));
                if step % 11 == 10 {
                    let [k, v] = [dim, value_dim].map(|dim| tokens(kv_heads, dim, &histories));
                    let single = Sizes::single(1, k.sizes[1], dim);
                    let sizes = Sizes { batch: beams, kv_heads, value_dim, ..single };
                    let lengths = histories.iter().map(Vec::len).collect();
                    let mask = OwnedMask { key_lengths: Some(lengths), ..OwnedMask::default() };
                    let case = Case { k, v, mask, ..Case::normal(sizes, step as u64) };
                    let got = run(&cache, &case.q, sizes.out(), &case.options(level, Threads::Serial));
                    let want = case.naive_as::<T, T, f32>(level);
                    assert_bits_eq(&got, &want, format_args!("{level}, {}, step {step}, {sizes:?}", T::NAME));
                }
            }
        });
    }
}

#[test]
fn a_forgotten_partner_of_the_last_token_does_not_matter() {
    for (heads, value_dim) in [(1, 20), (3, 32)] {
        let sizes = Sizes { kv_heads: heads, value_dim, ..Sizes::single(1, 9, 16) };
        let case = Case::normal(sizes, 11);
        let mut spoilt = case.clone();
        spoilt.v.data.fill(f32::NAN);
        let mut cache = KvCache::<bf16>::new(heads, 16, value_dim).unwrap();
        cache.reset(1).unwrap();
        cache.append(case.k.heads(), case.v.heads()).unwrap();
        let [k, v] = [&spoilt.k, &spoilt.v].map(|x| positions(x.heads(), 3, 4));
        cache.append(k.heads(), v.heads()).unwrap();
        cache.truncate(0, 9);
        sweep::levels_and_threads(|level, threads| {
            let got = run(&cache, &case.q, sizes.out(), &case.options(level, threads));
            assert_bits_eq(&got, &case.naive_as::<bf16, bf16, f32>(level), format_args!("{level}"));
        });
    }
}

#[test]
fn levels_write_pages_in_turn() {
    // Whether a level writes down the magnitudes of bf16 or not: none may trust what another has not seen. The query sees
    // a few keys, with which, and with whose values, products underflow; the others in the page are as usual.
    let levels: Vec<_> = Level::available().collect();
    for (value_dim, small) in [(16, 0), (18, 4), (16, 40), (18, 65)] {
        let sizes = Sizes { kv_heads: 2, value_dim, ..Sizes::single(1, 70, 21) };
        let mut case = Case { scale: Some(2f32.powi(122)), ..Case::normal(sizes, 12) };
        case.q.data.iter_mut().for_each(|x| *x *= 2f32.powi(-60));
        for (heads, exponent) in [(&mut case.k, -62), (&mut case.v, -120)] {
            let row = heads.data.len() / 70;
            heads.data[small * row..(small + 5) * row].iter_mut().for_each(|x| *x *= 2f32.powi(exponent));
        }
        let mut keys = 0..70;
        let seen = || keys.next().is_some_and(|j: usize| (small..small + 5).contains(&j));
        case.mask.keep = Some(Strided::new([1, 1, 1, 70], &Layout::default(), false, seen));
        for first in 0..levels.len() {
            let mut cache = KvCache::<bf16>::new(2, 21, value_dim).unwrap();
            cache.reset(1).unwrap();
            for t in 0..70 {
                let [k, v] = [&case.k, &case.v].map(|x| positions(x.heads(), t, t + 1));
                let level = Some(levels[(first + t / 3) % levels.len()]);
                cache.append_with(k.heads(), v.heads(), &AppendOptions { level, ..AppendOptions::default() }).unwrap();
            }
            sweep::levels(|level| {
                let got = run(&cache, &case.q, sizes.out(), &case.options(level, Threads::Serial));
                let want = case.naive_as::<bf16, bf16, f32>(level);
                assert_bits_eq(&got, &want, format_args!("{level} after {} and so on", levels[first]));
            });
        }
    }
}

#[test]
fn scratch_memory_keeps_to_its_bound() {
    for (queries, keys, heads, dim, value_dim) in [(1, 17, 8, 64, 64), (1, 1, 12, 128, 16), (50, 90, 1, 16, 33)] {
        let sizes = Sizes { value_dim, kv_heads: heads, ..Sizes::single(queries, keys, dim) };
        let case = Case::normal(sizes, 4);
        let (mut cache, mut out) = (KvCache::<f32>::new(heads, dim, value_dim).unwrap(), case.out.clone());
        cache.reset(1).unwrap();
        for t in 0..keys {
            let [k, v] = [&case.k, &case.v].map(|x| positions(x.heads(), t, t + 1));
            cache.append(k.heads(), v.heads()).unwrap();
        }
        sweep::levels(|level| {
            let (mut workspace, options) = (Workspace::new(), case.options(level, Threads::Serial));
            attention_cached(case.q.heads(), &cache, out.heads_mut(), &options, &mut workspace).unwrap();
            let bound = 48 * (keys + 80 + 3 * dim + 2 * value_dim.next_multiple_of(16));
            assert!(workspace.bytes() <= 4 * bound, "{level}: {} bytes of {case:?}", workspace.bytes());
        });
    }
}

#[test]
fn sharing_costs_no_page_and_reset_keeps_them() {
    let page = 64 * 8 * size_of::<f32>();
    let token = |cache: &mut KvCache| {
        let token = tokens(1, 4, &vec![vec![1]; cache.sequences()]);
        cache.append(token.heads(), token.heads()).unwrap();
    };
    let mut cache = KvCache::<f32>::new(1, 4, 4).unwrap();
    assert_eq!((cache.bytes(), cache.is_empty()), (0, true));
    cache.reset(1).unwrap();
    (0..65).for_each(|_| token(&mut cache));
    assert_eq!((cache.bytes_used(), cache.longest()), (2 * page, 65));
    cache.select(&[0; 8]).unwrap();
    assert_eq!(cache.bytes_used(), 2 * page);
    // Only the page that is not full is copied, and the last user keeps it.
    token(&mut cache);
    assert_eq!([cache.bytes_used(), cache.bytes()], [(1 + 8) * page; 2]);
    let bytes = cache.bytes();
    cache.reset(3).unwrap();
    assert_eq!((cache.sequences(), cache.bytes_used(), cache.bytes()), (3, 0, bytes));
}

#[test]
fn no_page_is_made_that_is_not_copied() {
    let page = 64 * 8 * size_of::<f32>();
    // Of three beams of the first and two of the second, which share a page that is not full, these append.
    for (counts, copies) in [([1; 5], 3), ([1, 0, 1, 1, 1], 3), ([0, 1, 0, 0, 1], 2), ([0; 5], 0), ([0, 0, 1, 0, 1], 1)]
    {
        let mut cache = KvCache::<f32>::new(1, 4, 4).unwrap();
        cache.reset(2).unwrap();
        let token = tokens(1, 4, &[vec![1], vec![2]]);
        cache.append(token.heads(), token.heads()).unwrap();
        cache.select(&[0, 0, 1, 0, 1]).unwrap();
        let token = tokens(1, 4, &vec![vec![3]; 5]);
        cache.append_with(token.heads(), token.heads(), &counted(&counts)).unwrap();
        assert_eq!([cache.bytes_used(), cache.bytes()], [(2 + copies) * page; 2], "{counts:?}");
    }
}

#[test]
fn caches_without_heads_hold_nothing() {
    let dim = 1 << 50;
    let mut cache = KvCache::<f32>::new(0, dim, 3).unwrap();
    cache.reset(1).unwrap();
    let none = |dim| HeadsRef::bshd(&[0.0; 0], [1, 70_000, 0, dim]).unwrap();
    cache.append(none(dim), none(3)).unwrap();
    assert_eq!((cache.len(0), cache.bytes()), (70_000, 0));
    let error = KvCache::<f32>::new(0, usize::MAX, 0).map(|_| ());
    assert_eq!(error, Err(Error::SizeOverflow { what: "elements of a page" }));
}

#[test]
fn mistakes_are_refused() {
    let mut cache = KvCache::<f32>::new(1, 4, 4).unwrap();
    cache.reset(2).unwrap();
    let data = [0.0; 32];
    let view = |sizes| HeadsRef::bshd(&data, sizes).unwrap();
    let mismatch = |what, expected, found| Err(Error::ShapeMismatch { what, expected, found });
    assert_eq!(cache.append(view([1, 1, 1, 4]), view([1, 1, 1, 4])), mismatch("batch of k", 2, 1));
    assert_eq!(cache.append(view([2, 1, 1, 3]), view([2, 1, 1, 4])), mismatch("head size of k", 4, 3));
    let two = view([2, 2, 1, 4]);
    assert_eq!(cache.append_with(two, two, &counted(&[1])), mismatch("counts of tokens", 2, 1));
    assert_eq!(cache.append_with(two, two, &counted(&[1, 3])), Err(Error::KeyLength { batch: 1, length: 3, keys: 2 }));
    cache.append_with(two, two, &counted(&[1, 2])).unwrap();
    assert_eq!(cache.select(&[0, 2]), Err(Error::RangeOutOfBounds { start: 2, end: 3, len: 2 }));
    assert_eq!([cache.len(0), cache.len(1)], [1, 2]);

    let mut out = [7.0; 8];
    let mut attend = |q, lengths: &[usize]| {
        let mut options =
            AttentionOptions { level: Some(Level::Portable), threads: Threads::Serial, ..Default::default() };
        options.mask.key_lengths = Some(lengths);
        let out = HeadsMut::bshd(&mut out, [2, 1, 1, 4]).unwrap();
        attention_cached(q, &cache, out, &options, &mut Workspace::new())
    };
    assert_eq!(attend(view([3, 1, 1, 4]), &[1, 2]), mismatch("sequences of the cache", 3, 2));
    assert_eq!(attend(view([2, 1, 1, 4]), &[2, 2]), Err(Error::KeyLength { batch: 0, length: 2, keys: 1 }));
    assert_eq!(out, [7.0; 8]);
}
