//! Attention over `[B, H, S, D]`. A single query of ours attends to a cache, as decoding does; it is filled, and so
//! packed, outside the timed part.

use super::{fused, sample};
use crate::{
    buffer::{Buffer, Output, Stored},
    cases::{self, MaskKind},
    contest::{Contender, Contest, Difference},
    rivals::{self, AttentionOperands},
};
use gristmill_attention::{AttentionOptions, KvCache, attention, attention_cached, naive};
use gristmill_core::{Causal, Error, HeadsMut, HeadsRef, Mask, Workspace};

pub(super) struct Heads<T> {
    case: cases::Attention,
    threads: usize,
    q: Buffer<T>,
    k: Buffer<T>,
    v: Buffer<T>,
    key_lengths: Vec<usize>,
    /// The same keys and values, where there is one query.
    cache: Option<KvCache<T>>,
}

impl<T: Stored> Heads<T> {
    pub(super) fn new(case: cases::Attention, threads: usize) -> Self {
        let len = |seq| case.batch * case.heads * seq * case.dim;
        let (k, v) = (Buffer::uniform(len(case.keys), 2), Buffer::uniform(len(case.keys), 3));
        let fill = || {
            let sizes = [case.batch, case.keys, case.heads, case.dim];
            let mut cache = KvCache::new(case.heads, case.dim, case.dim)?;
            cache.reset(case.batch)?;
            cache.append(HeadsRef::bhsd(&k, sizes)?, HeadsRef::bhsd(&v, sizes)?)?;
            Ok::<_, Error>(cache)
        };
        let cache = (case.queries == 1).then(|| fill().expect("keys and values fit together"));
        Heads { case, threads, q: Buffer::uniform(len(case.queries), 1), k, v, key_lengths: case.key_lengths(), cache }
    }

    fn options(&self) -> AttentionOptions<'_> {
        let mask = match self.case.mask {
            MaskKind::None => Mask::default(),
            MaskKind::Causal => Mask { causal: Some(Causal::BottomRight), ..Mask::default() },
            MaskKind::Keypad => Mask { key_lengths: Some(&self.key_lengths), ..Mask::default() },
        };
        AttentionOptions { mask, ..AttentionOptions::default() }
    }

    /// Sizes in the order B, S, H, D.
    fn sizes(&self, seq: usize) -> [usize; 4] {
        [self.case.batch, seq, self.case.heads, self.case.dim]
    }

    fn ours_into(&self, output: &mut [T], workspace: &mut Workspace) -> Result<(), Error> {
        let (queries, keys) = (self.sizes(self.case.queries), self.sizes(self.case.keys));
        let q = HeadsRef::bhsd(&self.q, queries)?;
        let (k, v) = (HeadsRef::bhsd(&self.k, keys)?, HeadsRef::bhsd(&self.v, keys)?);
        let output = HeadsMut::bhsd(output, queries)?;
        match &self.cache {
            Some(cache) => attention_cached(q, cache, output, &self.options(), workspace),
            None => attention(q, k, v, output, &self.options(), workspace),
        }
    }

    /// One query of one head by the naive version.
    fn naive<const FUSED: bool>(&self, query: Query, output: &mut [T]) -> Result<(), Error> {
        let cases::Attention { heads, queries, keys, dim, .. } = self.case;
        let Query { batch, head, index } = query;
        let block = |seq: usize| (batch * heads + head) * seq * dim;
        let q = HeadsRef::bhsd(&self.q[block(queries) + index * dim..][..dim], [1, 1, 1, dim])?;
        let k = HeadsRef::bhsd(&self.k[block(keys)..][..keys * dim], [1, keys, 1, dim])?;
        let v = HeadsRef::bhsd(&self.v[block(keys)..][..keys * dim], [1, keys, 1, dim])?;
        let mut options = self.options();
        if options.mask.causal.is_some() {
            // The only query is number `index` of all.
            options.mask.causal = Some(Causal::Offset((index + keys) as isize - queries as isize));
        }
        options.mask.key_lengths = options.mask.key_lengths.map(|lengths| &lengths[batch..=batch]);
        naive::attention::<FUSED>(q, k, v, HeadsMut::bhsd(output, [1, 1, 1, dim])?, &options)
    }
}

/// One row of the output.
#[derive(Clone, Copy)]
struct Query {
    batch: usize,
    head: usize,
    index: usize,
}

impl<T: Stored> Contest for Heads<T> {
    fn output(&self) -> Output {
        Output::of::<T>(self.q.len())
    }

    fn ours(&self) -> Contender<'_> {
        let mut workspace = Workspace::new();
        Contender::of::<T>("ours", move |output| {
            self.ours_into(output, &mut workspace).expect("the operands fit together");
        })
    }

    fn rivals(&self) -> Vec<Contender<'_>> {
        let Heads { case, threads, key_lengths, .. } = self;
        // In 16 bits no rival is wired up.
        let [Some(q), Some(k), Some(v)] = [&self.q, &self.k, &self.v].map(Buffer::f32s) else { return Vec::new() };
        rivals::attention(AttentionOperands { case, q, k, v, key_lengths, threads: *threads })
    }

    fn exact(&self, output: &[f32]) -> Result<(), Difference> {
        let cases::Attention { batch, heads, queries, keys, dim, .. } = self.case;
        let mut expected = vec![T::from_f32(f32::NAN); dim];
        for row in sample(batch * heads * queries, 2 * keys * dim) {
            let query = Query { batch: row / (heads * queries), head: row / queries % heads, index: row % queries };
            let naive = if fused() { Self::naive::<true> } else { Self::naive::<false> };
            naive(self, query, &mut expected).expect("the operands fit together");
            let expected: Vec<f32> = expected.iter().map(|x| x.to_f32()).collect();
            Difference::in_bits(&output[row * dim..(row + 1) * dim], &expected, row * dim)?;
        }
        Ok(())
    }

    /// Mixtures of values below 1; the weights err by some ULP of scores of order 1 and of their sums.
    fn tolerance(&self) -> f32 {
        1e-4
    }
}
