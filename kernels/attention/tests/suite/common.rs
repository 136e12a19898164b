//! One attention call with everything that it needs, and its comparison with `naive`.

use gristmill_attention::{AppendOptions, AttentionOptions, KvCache, attention, attention_cached, naive};
use gristmill_core::{Error, HeadsRef, Threads, Workspace};
use gristmill_simd::{Element, Level};
use gristmill_testkit::{Fill, Heads, Layout, assert_bits_eq, mask::OwnedMask, naive, sweep};

/// Sizes of a call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) batch: usize,
    pub(crate) kv_heads: usize,
    /// Query heads per key/value head.
    pub(crate) group: usize,
    pub(crate) queries: usize,
    pub(crate) keys: usize,
    pub(crate) dim: usize,
    pub(crate) value_dim: usize,
}

impl Sizes {
    /// One sequence with one head.
    pub(crate) fn single(queries: usize, keys: usize, dim: usize) -> Self {
        Self { batch: 1, kv_heads: 1, group: 1, queries, keys, dim, value_dim: dim }
    }

    pub(crate) fn heads(&self) -> usize {
        self.kv_heads * self.group
    }
    pub(crate) fn q(&self) -> [usize; 4] {
        [self.batch, self.queries, self.heads(), self.dim]
    }
    pub(crate) fn k(&self) -> [usize; 4] {
        [self.batch, self.keys, self.kv_heads, self.dim]
    }
    pub(crate) fn v(&self) -> [usize; 4] {
        [self.batch, self.keys, self.kv_heads, self.value_dim]
    }
    pub(crate) fn out(&self) -> [usize; 4] {
        [self.batch, self.queries, self.heads(), self.value_dim]
    }
    /// `[B, H, S_q, S_k]`.
    pub(crate) fn scores(&self) -> [usize; 4] {
        [self.batch, self.heads(), self.queries, self.keys]
    }
}

/// A call.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) q: Heads,
    pub(crate) k: Heads,
    pub(crate) v: Heads,
    pub(crate) out: Heads,
    pub(crate) mask: OwnedMask,
    pub(crate) scale: Option<f32>,
    pub(crate) softcap: Option<f32>,
}

impl Case {
    /// Normal values without gaps and without a mask.
    pub(crate) fn normal(sizes: Sizes, seed: u64) -> Self {
        let dense = |sizes, seed| Heads::filled(sizes, &Layout::default(), Fill::Normal, seed);
        Self {
            q: dense(sizes.q(), 4 * seed),
            k: dense(sizes.k(), 4 * seed + 1),
            v: dense(sizes.v(), 4 * seed + 2),
            out: dense(sizes.out(), 4 * seed + 3),
            mask: OwnedMask::default(),
            scale: None,
            softcap: None,
        }
    }

    pub(crate) fn options<'a>(&'a self, level: Level, threads: Threads<'a>) -> AttentionOptions<'a> {
        let (scale, softcap) = (self.scale, self.softcap);
        AttentionOptions { scale, softcap, mask: self.mask.mask(), threads, level: Some(level) }
    }

    /// What the tuned kernel gives; also checks that it writes nothing between the elements.
    #[track_caller]
    pub(crate) fn run(&self, level: Level, threads: Threads) -> Vec<f32> {
        let mut out = self.out.clone();
        self.call(&mut out, level, threads, &mut Workspace::new()).unwrap();
        out.assert_gaps("out");
        out.values()
    }

    /// Calls the tuned kernel.
    pub(crate) fn call(
        &self,
        out: &mut Heads,
        level: Level,
        threads: Threads,
        scratch: &mut Workspace,
    ) -> Result<(), Error> {
        let options = self.options(level, threads);
        attention(self.q.heads(), self.k.heads(), self.v.heads(), out.heads_mut(), &options, scratch)
    }

    /// What `naive` gives with the arithmetic of a level.
    #[track_caller]
    pub(crate) fn naive(&self, level: Level) -> Vec<f32> {
        let mut out = self.out.clone();
        let options = self.options(level, Threads::Serial);
        let (q, k, v) = (self.q.heads(), self.k.heads(), self.v.heads());
        naive!(level, naive::attention(q, k, v, out.heads_mut(), &options)).unwrap();
        out.values()
    }

    /// The same of operands rounded to other storage types: queries, keys and values, output.
    #[track_caller]
    pub(crate) fn naive_as<Q: Element, K: Element, O: Element>(&self, level: Level) -> Vec<f32> {
        let (q, k, v, mut out) = (self.q.to::<Q>(), self.k.to::<K>(), self.v.to::<K>(), self.out.to::<O>());
        let options = self.options(level, Threads::Serial);
        naive!(level, naive::attention(q.heads(), k.heads(), v.heads(), out.heads_mut(), &options)).unwrap();
        out.widened()
    }

    /// Asserts the bits of `naive` at every level, with one thread and with three.
    #[track_caller]
    pub(crate) fn assert_exact(&self) {
        let want: Vec<_> = sweep::arithmetics().into_iter().map(|level| (level.fused(), self.naive(level))).collect();
        sweep::levels_and_threads(|level, threads| {
            let want = &want.iter().find(|(fused, _)| *fused == level.fused()).unwrap().1;
            assert_bits_eq(
                &self.run(level, threads),
                want,
                format_args!("{level}, {} threads: {self:?}", threads.count()),
            );
        });
    }

    /// As [`assert_exact`](Case::assert_exact), with queries, keys and values, and output rounded to other storage
    /// types; the same keys and values kept in a cache, written at the same level, give the same bits too.
    #[track_caller]
    pub(crate) fn assert_exact_as<Q: Element, K: Element, O: Element>(&self) {
        let (q, k, v, before) = (self.q.to::<Q>(), self.k.to::<K>(), self.v.to::<K>(), self.out.to::<O>());
        let [batch, _, kv_heads, dim] = k.heads().sizes();
        let mut cache = KvCache::<K>::new(kv_heads, dim, v.heads().dim()).unwrap();
        // Many tokens at once, and the last ones one by one.
        let keys = k.heads().seq();
        let ends = keys.saturating_sub(19)..=keys;
        let starts = std::iter::once(0).chain(ends.clone());
        let part = |(from, to)| [&self.k, &self.v].map(|x| positions(x.heads(), from, to).to::<K>());
        let parts: Vec<_> = starts.zip(ends).map(part).collect();
        let mut workspace = Workspace::new();
        let wants = sweep::arithmetics().into_iter().map(|level| (level.fused(), self.naive_as::<Q, K, O>(level)));
        let wants: Vec<_> = wants.collect();
        sweep::levels_and_threads(|level, threads| {
            let want = &wants.iter().find(|(fused, _)| *fused == level.fused()).unwrap().1;
            let options = self.options(level, threads);
            let [q_type, k_type, o_type] = [Q::NAME, K::NAME, O::NAME];
            let context = format!("{level}, {} threads, {q_type}, {k_type}, {o_type}: {self:?}", threads.count());
            let mut out = before.clone();
            let (q, k, v) = (q.heads(), k.heads(), v.heads());
            attention(q, k, v, out.heads_mut(), &options, &mut workspace).unwrap();
            out.assert_gaps("out");
            assert_bits_eq(&out.widened(), want, &context);
            if batch == 0 {
                // Without sequences a cache has no number of keys, which a mask would have to have too.
                return;
            }
            cache.reset(batch).unwrap();
            let appends = AppendOptions { threads, level: Some(level), ..AppendOptions::default() };
            parts.iter().for_each(|[k, v]| cache.append_with(k.heads(), v.heads(), &appends).unwrap());
            let mut out = before.clone();
            attention_cached(q, &cache, out.heads_mut(), &options, &mut workspace).unwrap();
            out.assert_gaps("out");
            assert_bits_eq(&out.widened(), want, format_args!("from a cache, {context}"));
        });
    }
}

/// Positions `from .. to` of every sequence.
pub(crate) fn positions(x: HeadsRef<'_, f32>, from: usize, to: usize) -> Heads {
    positions_after(x, &vec![from; x.batch()], to - from)
}

/// So many positions of every sequence, from one of its own on; NaN where there are none.
pub(crate) fn positions_after(x: HeadsRef<'_, f32>, from: &[usize], count: usize) -> Heads {
    let [batch, seq, heads, dim] = x.sizes();
    let places = (0..batch).flat_map(|b| (0..count).map(move |s| (b, s)));
    let mut values = places.flat_map(|(b, s)| {
        let s = from[b] + s;
        (0..heads * dim).map(move |n| if s < seq { x.at(b, s, n / dim, n % dim) } else { f32::NAN })
    });
    Heads::new([batch, count, heads, dim], &Layout::default(), 0.0, || values.next().unwrap())
}

/// Runs a statement with Q, K and O as the storage types of queries, keys and values, and output.
macro_rules! with_types {
    ($body:expr) => {{
        macro_rules! run {
            ($q:ty, $k:ty, $o:ty) => {{
                type Q = $q;
                type K = $k;
                type O = $o;
                $body;
            }};
        }
        use gristmill_simd::{bf16, f16};
        run!(f16, f16, f16);
        run!(bf16, bf16, bf16);
        run!(f32, f16, f32);
        run!(f32, bf16, f32);
        run!(f16, f32, bf16);
    }};
}
pub(crate) use with_types;
