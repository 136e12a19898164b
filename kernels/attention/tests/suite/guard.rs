//! Nothing outside the views is read or written: a read or a write there is a fault.

use crate::common::{Case, Sizes, positions, with_types};
use gristmill_attention::{
    AppendOptions, AttentionOptions, KvCache, attention, attention_cached, attention_weights, naive,
};
use gristmill_core::{HeadsMut, HeadsRef, Mask, ScoresRef, Threads, Workspace};
use gristmill_simd::{Element, Level};
use gristmill_testkit::guard::Guarded;
use gristmill_testkit::mask::{OwnedCausal, OwnedMask};
use gristmill_testkit::{Fill, Heads, Layout, Rng, Strided, assert_bits_eq, naive, sweep};

/// Values of which the last or the first borders on an inaccessible page.
struct Fenced<T: Copy> {
    data: Guarded<T>,
    /// Where they lie.
    offset: usize,
    sizes: [usize; 4],
    strides: [isize; 4],
}

impl<T: Copy> Fenced<T> {
    fn new(x: &Strided<T, 4>, at_end: bool) -> Self {
        let end = x.addresses().max().map_or(0, |last| last + 1);
        let guarded = if at_end { Guarded::flush_end } else { Guarded::flush_start };
        Self { data: guarded(&x.data[..end]), offset: x.offset, sizes: x.sizes, strides: x.strides }
    }

    fn heads(&self) -> HeadsRef<'_, T> {
        HeadsRef::strided(&self.data, self.offset, self.sizes, self.strides).unwrap()
    }

    fn heads_mut(&mut self) -> HeadsMut<'_, T> {
        HeadsMut::strided(&mut self.data, self.offset, self.sizes, self.strides).unwrap()
    }

    fn scores(&self) -> ScoresRef<'_, T> {
        ScoresRef::strided(&self.data, self.offset, self.sizes, self.strides).unwrap()
    }
}

impl<T: Element> Fenced<T> {
    fn widened(&self) -> Vec<f32> {
        let Self { offset, sizes, strides, .. } = *self;
        Strided { data: self.data.to_vec(), offset, sizes, strides }.widened()
    }
}

/// Runs all kernels on a case whose operands and masks are fenced.
fn check<Q: Element, K: Element, O: Element>(case: &Case, level: Level, at_end: bool, want: &[f32]) {
    let context = format!("{level}, {at_end}, {:?}: {case:?}", [Q::NAME, K::NAME, O::NAME]);
    let fenced = |x: &Heads| Fenced::new(&x.to::<K>(), at_end);
    let (q, k, v) = (Fenced::new(&case.q.to::<Q>(), at_end), fenced(&case.k), fenced(&case.v));
    let keep = case.mask.keep.as_ref().map(|keep| Fenced::new(keep, at_end));
    let bias = case.mask.bias.as_ref().map(|bias| Fenced::new(bias, at_end));
    let mask =
        Mask { keep: keep.as_ref().map(Fenced::scores), bias: bias.as_ref().map(Fenced::scores), ..case.mask.mask() };
    let options = AttentionOptions { mask, ..case.options(level, Threads::Serial) };
    let workspace = &mut Workspace::new();
    let before = case.out.to::<O>();

    let mut out = Fenced::new(&before, at_end);
    attention(q.heads(), k.heads(), v.heads(), out.heads_mut(), &options, workspace).unwrap();
    assert_bits_eq(&out.widened(), want, &context);

    // All tokens at once; the last three again, one by one.
    let [batch, keys, kv_heads, dim] = k.sizes;
    let appends = AppendOptions { level: Some(level), ..AppendOptions::default() };
    let mut cache = KvCache::<K>::new(kv_heads, dim, v.sizes[3]).unwrap();
    cache.reset(batch).unwrap();
    cache.append_with(k.heads(), v.heads(), &appends).unwrap();
    let many = keys.saturating_sub(3);
    (0..batch).for_each(|b| cache.truncate(b, many));
    for t in many..keys {
        let [k, v] = [&case.k, &case.v].map(|x| fenced(&positions(x.heads(), t, t + 1)));
        cache.append_with(k.heads(), v.heads(), &appends).unwrap();
    }
    let mut out = Fenced::new(&before, at_end);
    attention_cached(q.heads(), &cache, out.heads_mut(), &options, workspace).unwrap();
    assert_bits_eq(&out.widened(), want, format_args!("from a cache, {context}"));

    let [batch, queries, heads, _] = q.sizes;
    let layout = Layout { order: [0, 2, 1, 3], ..Layout::default() };
    let before = Strided::<O, 4>::filled([batch, queries, heads, keys], &layout, Fill::Normal, 9);
    let (mut out, mut want) = (Fenced::new(&before, at_end), before.clone());
    attention_weights(q.heads(), k.heads(), out.heads_mut(), &options, workspace).unwrap();
    naive!(level, naive::attention_weights(q.heads(), k.heads(), want.heads_mut(), &options)).unwrap();
    assert_bits_eq(&out.widened(), &want.widened(), format_args!("weights, {context}"));
}

fn nothing_outside<Q: Element, K: Element, O: Element>(case: &Case) {
    sweep::levels(|level| {
        let want = case.naive_as::<Q, K, O>(level);
        [true, false].into_iter().for_each(|at_end| check::<Q, K, O>(case, level, at_end, &want));
    });
}

/// Masks that hide nothing, what causality hides, and one key in eight beside what a bias adds.
fn masks(sizes: Sizes) -> [OwnedMask; 3] {
    let mut rng = Rng::new(5);
    let keep = Strided::new(sizes.scores(), &Layout::default(), false, || !rng.one_in(8));
    let bias = Strided::new(sizes.scores(), &Layout::default(), 0.0, || rng.normal());
    [
        OwnedMask::default(),
        OwnedMask { causal: Some(OwnedCausal::BottomRight), ..OwnedMask::default() },
        OwnedMask { keep: Some(keep), bias: Some(bias), ..OwnedMask::default() },
    ]
}

#[test]
fn nothing_outside_the_views_is_touched() {
    let padded = Layout { order: [0, 2, 1, 3], padding: [0, 1, 3, 0], ..Layout::default() };
    let transposed = Layout { order: [0, 2, 3, 1], ..Layout::default() };
    for (kv_heads, group, queries, keys, dim, value_dim) in [
        (1, 2, 1, 1, 1, 1),
        (3, 1, 1, 17, 33, 16),
        (1, 2, 2, 65, 7, 9),
        (1, 2, 13, 31, 64, 40),
        (2, 1, 12, 48, 16, 21),
        (1, 1, 25, 100, 21, 35),
    ] {
        let sizes = Sizes { batch: 2, kv_heads, group, queries, keys, dim, value_dim };
        for layout in [&Layout::default(), &padded, &transposed] {
            let filled = |sizes, seed| Heads::filled(sizes, layout, Fill::Normal, seed);
            let [q, k] = [filled(sizes.q(), 1), filled(sizes.k(), 2)];
            let (v, out) = (filled(sizes.v(), 3), filled(sizes.out(), 4));
            let mut case = Case { q, k, v, out, ..Case::normal(sizes, 1) };
            for mask in masks(sizes) {
                case.mask = mask;
                nothing_outside::<f32, f32, f32>(&case);
                with_types!(nothing_outside::<Q, K, O>(&case));
            }
        }
    }
}

/// Views of 64 keys, of which those after the key length lie on an inaccessible page.
fn padded_keys<Q: Element, K: Element, O: Element>() {
    for (queries, length, dim) in [(1, 5, 24), (1, 33, 24), (13, 16, 21), (30, 47, 24)] {
        let (keys, case) = (64, Case::normal(Sizes::single(queries, length, dim), 2));
        let (q, k, v) = (case.q.to::<Q>(), case.k.to::<K>(), case.v.to::<K>());
        sweep::levels(|level| {
            let want = case.naive_as::<Q, K, O>(level);
            let (k, v) = (Guarded::flush_end(&k.data), Guarded::flush_end(&v.data));
            // SAFETY: nothing may read the keys that are claimed but not there; a read faults, and that is the test.
            let claim = |data: &Guarded<K>| unsafe { std::slice::from_raw_parts(data.as_ptr(), keys * dim) };
            let view = |data| HeadsRef::bshd(data, [1, keys, 1, dim]).unwrap();
            let (mask, mut out) = (Mask { key_lengths: Some(&[length]), ..Mask::default() }, case.out.to::<O>());
            let options = AttentionOptions { mask, level: Some(level), ..AttentionOptions::default() };
            let (k, v) = (view(claim(&k)), view(claim(&v)));
            attention(q.heads(), k, v, out.heads_mut(), &options, &mut Workspace::new()).unwrap();
            assert_bits_eq(&out.widened(), &want, format_args!("{level}: {queries} queries, {length} keys"));
        });
    }
}

#[test]
fn padded_keys_are_not_read() {
    padded_keys::<f32, f32, f32>();
    with_types!(padded_keys::<Q, K, O>());
}
