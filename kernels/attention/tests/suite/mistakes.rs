//! Mistakes are typed errors that leave the output untouched.

use crate::common::with_types;
use gristmill_attention::{AppendOptions, AttentionOptions, KvCache, attention, attention_cached, naive};
use gristmill_core::{Causal, Error, HeadsMut, HeadsRef, Mask, ScoresRef, Workspace};
use gristmill_simd::{Element, Level};
use gristmill_testkit::sweep;

/// Sizes `[B, S, H, D]` of the four views.
#[derive(Clone, Copy)]
struct Views {
    q: [usize; 4],
    k: [usize; 4],
    v: [usize; 4],
    out: [usize; 4],
}

const GOOD: Views = Views { q: [2, 3, 4, 5], k: [2, 6, 2, 5], v: [2, 6, 2, 7], out: [2, 3, 4, 7] };

/// Calls both kernels with views of these sizes; the output must stay as it is.
#[track_caller]
fn refused(views: Views, options: &AttentionOptions) -> Error {
    let data = vec![1.0; 1000];
    let mut out = vec![7.0; 1000];
    let view = |sizes| HeadsRef::bshd(&data, sizes).unwrap();
    let (q, k, v) = (view(views.q), view(views.k), view(views.v));
    let tuned = attention(q, k, v, HeadsMut::bshd(&mut out, views.out).unwrap(), options, &mut Workspace::new());
    let plain = naive::attention::<true>(q, k, v, HeadsMut::bshd(&mut out, views.out).unwrap(), options);
    assert!(out.iter().all(|&x| x == 7.0), "the output was touched");
    let (tuned, plain) = (tuned.unwrap_err(), plain.unwrap_err());
    assert_eq!(tuned.to_string(), plain.to_string());
    tuned
}

#[test]
fn views_that_disagree() {
    let mismatch = |what, expected, found| Error::ShapeMismatch { what, expected, found };
    let none = AttentionOptions::default();
    let cases = [
        (Views { k: [1, 6, 2, 5], ..GOOD }, mismatch("batch of k", 2, 1)),
        (Views { v: [3, 6, 2, 7], ..GOOD }, mismatch("batch of v", 2, 3)),
        (Views { out: [1, 3, 4, 7], ..GOOD }, mismatch("batch of out", 2, 1)),
        (Views { v: [2, 5, 2, 7], ..GOOD }, mismatch("positions of v", 6, 5)),
        (Views { out: [2, 6, 4, 7], ..GOOD }, mismatch("positions of out", 3, 6)),
        (Views { v: [2, 6, 1, 7], ..GOOD }, mismatch("heads of v", 2, 1)),
        (Views { out: [2, 3, 2, 7], ..GOOD }, mismatch("heads of out", 4, 2)),
        (Views { k: [2, 6, 2, 4], ..GOOD }, mismatch("head size of k", 5, 4)),
        (Views { out: [2, 3, 4, 5], ..GOOD }, mismatch("head size of out", 7, 5)),
        (Views { k: [2, 6, 3, 5], v: [2, 6, 3, 7], ..GOOD }, Error::HeadGroups { query: 4, key_value: 3 }),
        (Views { k: [2, 6, 0, 5], v: [2, 6, 0, 7], ..GOOD }, Error::HeadGroups { query: 4, key_value: 0 }),
    ];
    for (views, error) in cases {
        assert_eq!(refused(views, &none), error);
    }
}

#[test]
fn masks_that_do_not_fit() {
    let mismatch = |what, expected, found| Error::ShapeMismatch { what, expected, found };
    let (keep, bias) = ([true; 64], [0.0; 64]);
    let keep = |sizes| Mask { keep: Some(ScoresRef::new(&keep, sizes).unwrap()), ..Mask::default() };
    let bias = |sizes| Mask { bias: Some(ScoresRef::new(&bias, sizes).unwrap()), ..Mask::default() };
    let causal = Mask { causal: Some(Causal::PerBatch(&[1])), ..Mask::default() };
    let lengths = |lengths| Mask { key_lengths: Some(lengths), ..Mask::default() };
    let cases = [
        (causal, mismatch("causal offsets", 2, 1)),
        (lengths(&[1, 2, 3]), mismatch("key lengths", 2, 3)),
        (lengths(&[6, 7]), Error::KeyLength { batch: 1, length: 7, keys: 6 }),
        (keep([1, 1, 3, 5]), mismatch("keys of keep", 6, 5)),
        (keep([2, 2, 1, 6]), mismatch("heads of keep", 4, 2)),
        (bias([1, 1, 4, 6]), mismatch("queries of bias", 3, 4)),
        (bias([3, 1, 1, 6]), mismatch("batch of bias", 2, 3)),
    ];
    for (mask, error) in cases {
        assert_eq!(refused(GOOD, &AttentionOptions { mask, ..AttentionOptions::default() }), error);
    }
}

#[test]
fn soft_caps_that_mean_nothing() {
    for cap in [0.0, -1.0, f32::INFINITY, f32::NAN] {
        let error = refused(GOOD, &AttentionOptions { softcap: Some(cap), ..AttentionOptions::default() });
        let Error::InvalidOption { what, value } = error else { panic!("{error}") };
        assert_eq!((what, value.to_bits()), ("softcap must be finite and positive", cap.to_bits()));
    }
}

#[test]
fn caches_of_any_type_that_do_not_fit() {
    with_types!({
        refuse_appended::<Q, K>();
        refuse_cached::<Q, K, O>();
    });
}

/// Appends values of type Q that do not fit to a cache of type K, which must stay as it is.
fn refuse_appended<Q: Element, K: Element>() {
    let mismatch = |what, expected, found| Error::ShapeMismatch { what, expected, found };
    let data = vec![Q::from_f32(1.0); 1000];
    let view = |sizes| HeadsRef::bshd(&data, sizes).unwrap();
    let mut cache = KvCache::<K>::new(2, 5, 7).unwrap();
    cache.reset(2).unwrap();
    let cases = [
        (Views { k: [1, 6, 2, 5], ..GOOD }, mismatch("batch of k", 2, 1)),
        (Views { v: [3, 6, 2, 7], ..GOOD }, mismatch("batch of v", 2, 3)),
        (Views { v: [2, 5, 2, 7], ..GOOD }, mismatch("positions of v", 6, 5)),
        (Views { k: [2, 6, 4, 5], ..GOOD }, mismatch("heads of k", 2, 4)),
        (Views { v: [2, 6, 1, 7], ..GOOD }, mismatch("heads of v", 2, 1)),
        (Views { k: [2, 6, 2, 7], ..GOOD }, mismatch("head size of k", 5, 7)),
        (Views { v: [2, 6, 2, 5], ..GOOD }, mismatch("head size of v", 7, 5)),
    ];
    for (views, error) in cases {
        assert_eq!(cache.append(view(views.k), view(views.v)), Err(error));
    }
    for (counts, error) in
        [(&[6][..], mismatch("counts of tokens", 2, 1)), (&[6, 7], Error::KeyLength { batch: 1, length: 7, keys: 6 })]
    {
        let options = AppendOptions { counts: Some(counts), ..AppendOptions::default() };
        assert_eq!(cache.append_with(view(GOOD.k), view(GOOD.v), &options), Err(error));
    }
    assert_eq!((cache.sequences(), cache.longest(), cache.bytes_used()), (2, 0, 0));
}

/// Attends to a cache with queries, outputs and options that do not fit it; the output must stay as it is.
fn refuse_cached<Q: Element, K: Element, O: Element>() {
    let mismatch = |what, expected, found| Error::ShapeMismatch { what, expected, found };
    let data = vec![Q::from_f32(1.0); 1000];
    let view = |sizes| HeadsRef::bshd(&data, sizes).unwrap();
    let mut cache = KvCache::<K>::new(2, 5, 7).unwrap();
    cache.reset(2).unwrap();
    cache
        .append_with(view(GOOD.k), view(GOOD.v), &AppendOptions { counts: Some(&[6, 4]), ..AppendOptions::default() })
        .unwrap();
    let keep = [true; 64];
    let none = AttentionOptions::default();
    let masked = |mask| AttentionOptions { mask, ..AttentionOptions::default() };
    let lengths = Mask { key_lengths: Some(&[6, 5]), ..Mask::default() };
    let keep = Mask { keep: Some(ScoresRef::new(&keep, [1, 1, 3, 4]).unwrap()), ..Mask::default() };
    let heads = Views { q: [2, 3, 3, 5], out: [2, 3, 3, 7], ..GOOD };
    let cases = [
        (Views { q: [3, 3, 4, 5], ..GOOD }, none, mismatch("sequences of the cache", 3, 2)),
        (Views { out: [1, 3, 4, 7], ..GOOD }, none, mismatch("batch of out", 2, 1)),
        (Views { out: [2, 6, 4, 7], ..GOOD }, none, mismatch("positions of out", 3, 6)),
        (Views { out: [2, 3, 2, 7], ..GOOD }, none, mismatch("heads of out", 4, 2)),
        (Views { q: [2, 3, 4, 4], ..GOOD }, none, mismatch("head size of the cache", 4, 5)),
        (Views { out: [2, 3, 4, 5], ..GOOD }, none, mismatch("head size of out", 7, 5)),
        (heads, none, Error::HeadGroups { query: 3, key_value: 2 }),
        (GOOD, masked(lengths), Error::KeyLength { batch: 1, length: 5, keys: 4 }),
        (GOOD, masked(keep), mismatch("keys of keep", 6, 4)),
        (
            GOOD,
            AttentionOptions { softcap: Some(-1.0), ..none },
            Error::InvalidOption { what: "softcap must be finite and positive", value: -1.0 },
        ),
    ];
    for (views, options, error) in cases {
        let mut out = vec![O::from_f32(7.0); 1000];
        let output = HeadsMut::bshd(&mut out, views.out).unwrap();
        assert_eq!(attention_cached(view(views.q), &cache, output, &options, &mut Workspace::new()), Err(error));
        assert!(out.iter().all(|x| x.to_f32() == 7.0), "the output was touched");
    }
}

#[test]
fn scratch_memory_that_cannot_be_had() {
    // A view of one value, repeated more often than there is memory for scores.
    let (data, mut out) = ([1.0], [7.0; 4]);
    let huge = HeadsRef::strided(&data, 0, [1, 1 << 50, 1, 1], [0; 4]).unwrap();
    let q = HeadsRef::strided(&data, 0, [1, 4, 1, 1], [0; 4]).unwrap();
    let output = HeadsMut::bshd(&mut out, [1, 4, 1, 1]).unwrap();
    let error = attention(q, huge, huge, output, &AttentionOptions::default(), &mut Workspace::new()).unwrap_err();
    assert!(matches!(error, Error::OutOfMemory { .. } | Error::SizeOverflow { .. }), "{error}");
    assert_eq!(out, [7.0; 4]);
}

#[test]
fn levels_that_are_missing() {
    for level in Level::ALL.into_iter().filter(|level| !level.is_available()) {
        let data = [1.0; 4];
        let mut out = [7.0; 4];
        let view = HeadsRef::bshd(&data, [1, 2, 1, 2]).unwrap();
        let options = AttentionOptions { level: Some(level), ..AttentionOptions::default() };
        let output = HeadsMut::bshd(&mut out, [1, 2, 1, 2]).unwrap();
        let error = attention(view, view, view, output, &options, &mut Workspace::new()).unwrap_err();
        assert!(matches!(error, Error::Level(_)), "{error}");
        assert_eq!(out, [7.0; 4]);
    }
    sweep::levels(|_| {});
}
