//! A cache of keys and values that changes.

use super::{Bytes, against, assert_same, naive, threads};
use crate::mask::{OwnedCausal, OwnedMask};
use crate::{Layout, Strided, strided::GAP, sweep};
use gristmill_attention::{self as attention, AppendOptions, AttentionOptions, KvCache, attention_cached};
use gristmill_core::{Error, Workspace};
use gristmill_simd::{Element, Level, bf16, f16};

/// Up to 8 changes of a cache of up to 4 sequences, with 2 heads of 33 elements, to which mostly few tokens are appended, now
/// and then 70; after some of them, and at the end, attention. There is a cache for each level, written and read at it.
pub fn cache(data: &[u8]) {
    let bytes = &Bytes::new(data);
    match bytes.below(8) {
        0..3 => run::<f32, f32, f32>(bytes),
        3 => run::<f16, f16, f16>(bytes),
        4 => run::<bf16, bf16, bf16>(bytes),
        5 => run::<f32, f16, f32>(bytes),
        6 => run::<f32, bf16, f32>(bytes),
        _ => run::<f16, f32, bf16>(bytes),
    }
}

fn run<Q: Element, K: Element, O: Element>(bytes: &Bytes) {
    let [kv_heads, group] = [0; 2].map(|_| 1 + bytes.below(2));
    let [dim, value_dim] = [0; 2].map(|_| bytes.pick(&[0, 1, 4, 7, 16, 17, 20, 32, 33]));
    let mut caches = Vec::new();
    sweep::levels(|level| caches.push((level, KvCache::new(kv_heads, dim, value_dim).expect("small pages"))));
    let mut model = Model::<K> { caches, sizes: [kv_heads, dim, value_dim], sequences: Vec::new() };
    for _ in 0..1 + bytes.below(8) {
        model.change::<Q>(bytes);
        if bytes.one_in(4) {
            model.attend::<Q, O>(bytes, group);
        }
    }
    model.attend::<Q, O>(bytes, group);
}

/// The caches of all levels, and what they should hold.
struct Model<K: Element> {
    caches: Vec<(Level, KvCache<K>)>,
    /// Heads, elements of a key and of a value.
    sizes: [usize; 3],
    sequences: Vec<Sequence<K>>,
}

/// The tokens of a sequence: how many, their keys and their values.
#[derive(Clone, Debug, Default)]
struct Sequence<K> {
    len: usize,
    data: [Vec<K>; 2],
}

impl<K: Element> Model<K> {
    fn change<S: Element>(&mut self, bytes: &Bytes) {
        let count = self.sequences.len();
        match bytes.below(if count == 0 { 1 } else { 10 }) {
            0 => {
                let sequences = bytes.below(5);
                self.every(Ok(()), |cache, _| cache.reset(sequences));
                self.sequences = vec![Sequence::default(); sequences];
            }
            1 => {
                let tokens = bytes.below(150);
                self.every(Ok(()), |cache, _| cache.reserve(tokens));
            }
            2 => {
                let sequence = bytes.below(count);
                let len = bytes.below(self.sequences[sequence].len + 2);
                self.every(Ok(()), |cache, _| {
                    cache.truncate(sequence, len);
                    Ok(())
                });
                self.truncate(sequence, len);
            }
            3..6 => {
                let parents: Vec<usize> = (0..bytes.below(5)).map(|_| bytes.below(count)).collect();
                self.every(Ok(()), |cache, _| cache.select(&parents));
                self.sequences = parents.iter().map(|&parent| self.sequences[parent].clone()).collect();
            }
            6 => {
                let parents = [bytes.below(count), count];
                let error = Error::RangeOutOfBounds { start: count, end: count + 1, len: count };
                self.every(Err(error), |cache, _| cache.select(&parents));
            }
            _ => self.append::<S>(bytes),
        }
        for (level, cache) in &self.caches {
            let lens: Vec<_> = (0..cache.sequences()).map(|b| cache.len(b)).collect();
            assert!(lens.iter().eq(self.sequences.iter().map(|sequence| &sequence.len)), "{level}: {lens:?}");
        }
    }

    /// Changes all caches, which must give this result.
    fn every(&mut self, want: Result<(), Error>, change: impl Fn(&mut KvCache<K>, Level) -> Result<(), Error>) {
        for (level, cache) in &mut self.caches {
            assert_eq!(change(cache, *level), want, "{level}");
        }
    }

    fn truncate(&mut self, sequence: usize, len: usize) {
        let [heads, dims @ ..] = self.sizes;
        let sequence = &mut self.sequences[sequence];
        sequence.len = sequence.len.min(len);
        sequence.data.iter_mut().zip(dims).for_each(|(data, dim)| data.truncate(len * heads * dim));
    }

    fn append<S: Element>(&mut self, bytes: &Bytes) {
        let ([heads, dims @ ..], batch) = (self.sizes, self.sequences.len());
        let most = if bytes.one_in(4) { bytes.size(70) } else { bytes.pick(&[1, 1, 1, 2, 17]) };
        let [k, v] = dims.map(|dim| bytes.input::<S, 4>([batch, most, heads, dim]));
        let count = || bytes.slip(bytes.below(most + 1));
        let counts: Option<Vec<usize>> = bytes.flag().then(|| (0..batch).map(|_| count()).collect());
        let threads = threads(bytes);
        let mut counted = counts.iter().flatten().copied().enumerate();
        let excess = counted.find(|&(_, count)| count > most);
        let want = excess.map_or(Ok(()), |(batch, length)| Err(Error::KeyLength { batch, length, keys: most }));
        self.every(want, |cache, level| {
            let options = AppendOptions { counts: counts.as_deref(), threads, level: Some(level) };
            cache.append_with(k.heads(), v.heads(), &options)
        });
        if excess.is_some() {
            return;
        }
        for (b, sequence) in self.sequences.iter_mut().enumerate() {
            let count = counts.as_ref().map_or(most, |counts| counts[b]);
            sequence.len += count;
            for ((data, tokens), dim) in sequence.data.iter_mut().zip([&k, &v]).zip(dims) {
                let row = heads * dim;
                let values = tokens.values().into_iter().skip(b * most * row).take(count * row);
                data.extend(values.map(|x| K::from_f32(x.to_f32())));
            }
        }
    }

    /// Attends to all caches: to each sequence alone, whose length is to `naive` one more mask.
    fn attend<Q: Element, O: Element>(&self, bytes: &Bytes, group: usize) {
        let ([kv_heads, dim, value_dim], batch) = (self.sizes, self.sequences.len());
        let (heads, queries) = (kv_heads * group, 1 + bytes.below(3) / 2);
        let lens: Vec<usize> = self.sequences.iter().map(|sequence| sequence.len).collect();
        let longest = lens.iter().copied().max().unwrap_or(0);
        let q = bytes.input::<Q, 4>([batch, queries, heads, dim]);
        let before = bytes.output::<O, 4>([batch, queries, heads, value_dim]);
        let mut mask = bytes.mask([batch, heads, queries, longest]);
        mask.key_lengths = bytes.one_in(4).then(|| lens.iter().map(|len| bytes.below(len + 1)).collect());
        let alone = OwnedMask {
            key_lengths: Some(mask.key_lengths.clone().unwrap_or(lens.clone())),
            causal: match mask.causal {
                // From each one's own end.
                Some(OwnedCausal::BottomRight) => {
                    Some(OwnedCausal::PerBatch(lens.iter().map(|&len| len as isize - queries as isize).collect()))
                }
                ref other => other.clone(),
            },
            ..mask.clone()
        };
        let options = AttentionOptions {
            scale: bytes.one_in(4).then(|| bytes.f32()),
            softcap: bytes.one_in(8).then(|| bytes.f32()),
            threads: threads(bytes),
            ..AttentionOptions::default()
        };
        let [k, v] = [self.padded(0, longest, dim), self.padded(1, longest, value_dim)];
        let mut workspace = Workspace::new();
        against(
            |level| {
                let (mut out, options) = (before.clone(), AttentionOptions { mask: alone.mask(), ..options });
                let views = (q.heads(), k.heads(), v.heads());
                let result =
                    naive!(level, attention::naive::attention(views.0, views.1, views.2, out.heads_mut(), &options));
                (result, out)
            },
            |level, want| {
                let (_, cache) = self.caches.iter().find(|(own, _)| *own == level).expect("a cache at every level");
                let options = AttentionOptions { mask: mask.mask(), level: Some(level), ..options };
                let mut out = before.clone();
                let result = attention_cached(q.heads(), cache, out.heads_mut(), &options, &mut workspace);
                let types = [Q::NAME, K::NAME, O::NAME];
                let context = format!("cache {level} {types:?} {cache:?} {lens:?} {q:?} {options:?}");
                assert_same(&(result, out), want, &before, context);
            },
        );
    }

    /// The keys or the values of all sequences, and NaN behind those of the shorter ones.
    fn padded(&self, part: usize, longest: usize, dim: usize) -> Strided<K, 4> {
        let row = self.sizes[0] * dim;
        let gap = K::from_f32(GAP);
        let mut values = self.sequences.iter().flat_map(|sequence| {
            let data = &sequence.data[part];
            data.iter().copied().chain(std::iter::repeat_n(gap, longest * row - data.len()))
        });
        let sizes = [self.sequences.len(), longest, self.sizes[0], dim];
        Strided::new(sizes, &Layout::default(), gap, || values.next().expect("of all sequences"))
    }
}
