//! Keys and values that generation keeps, so that every step computes one position only.

use crate::attend::{Attend, heads};
use crate::batch::Spans;
use crate::matrix::Matrix;
use crate::profile::Operation;
use crate::run::Run;
use crate::weights::{CrossAttention, Layer};
use crate::{Config, Error, Result};
use gristmill::simd::Element;
use gristmill::{AppendOptions, HeadsMut, KvCache, list};

/// Targets in progress, whatever their storage type.
pub(crate) trait Progress {
    /// Sentences in progress.
    fn sentences(&self) -> usize;

    /// Targets in progress, those of one sentence side by side.
    fn rows(&self) -> usize;

    /// Positions that have been decoded.
    fn length(&self) -> usize;

    /// Bytes of all keys and values that are kept, in use or for later.
    fn bytes(&self) -> usize;

    /// Forgets what is later than the first positions.
    fn rewind(&mut self, length: usize);

    /// Forgets a sentence; the last one takes its place. After an error nothing is in progress.
    fn swap_remove(&mut self, sentence: usize) -> Result;

    /// From now on there are `width` targets of each sentence, of which target i continues what was `parents[i]`. After
    /// an error nothing is in progress.
    fn reorder(&mut self, width: usize, parents: &[usize]) -> Result;
}

/// What the decoder layers keep of the sources and of the targets so far, all targets of equal length; each source has
/// as many targets as any other.
pub(crate) struct Cache<E> {
    pub(crate) layers: Vec<LayerCache<E>>,
    sentences: usize,
    /// Targets of each sentence.
    width: usize,
    /// Positions that have been decoded.
    length: usize,
    /// Scratch: the sequences that a cache goes on with, or how many tokens each is given.
    numbers: Vec<usize>,
}

/// Keys and values of the sources, and of the targets.
pub(crate) struct LayerCache<E> {
    sources: KvCache<E>,
    targets: KvCache<E>,
}

impl<E: Element> Cache<E> {
    /// A cache without sentences.
    pub(crate) fn new(config: &Config) -> Result<Self> {
        let kept = || KvCache::new(config.heads, config.d_head(), config.d_head());
        let layers = (0..config.decoder_layers).map(|_| Ok(LayerCache { sources: kept()?, targets: kept()? }));
        let layers = list::try_collect::<_, Error>(layers)?;
        Ok(Self { layers, sentences: 0, width: 1, length: 0, numbers: Vec::new() })
    }

    /// Forgets everything and projects the encoder's output for each layer; `keys_values` is scratch.
    pub(crate) fn start(
        &mut self,
        run: &mut Run,
        layers: &[Layer<E>],
        sources: &Spans,
        memory: &Matrix<E>,
        keys_values: &mut Matrix<E>,
    ) -> Result {
        // Nothing is in progress should the rest fail.
        (self.sentences, self.length, self.width) = (0, 0, 1);
        for (cross, kept) in layers.iter().flat_map(|layer| &layer.cross).zip(&mut self.layers) {
            run.linear(Operation::CrossProjection, &cross.keys_values, memory.view(), None, keys_values)?;
            let start = run.clock.start();
            kept.sources.reset(sources.len())?;
            kept.targets.reset(sources.len())?;
            for equal in sources.runs(sources) {
                // The cache takes as many tokens for every sequence: for those outside the run, none of a view
                // that repeats the run's first sentence. A batch of equals is one run.
                let stride = if equal.len() == sources.len() { sources.length(0) } else { 0 };
                let sentences = if stride == 0 { equal.clone() } else { 0..1 };
                for sentence in sentences {
                    let length = sources.length(sentence);
                    let part = |first| {
                        let first_row = sources.rows(sentence..sentence + 1).start;
                        heads(run.config, keys_values, [first_row, first], [sources.len(), length], stride)
                    };
                    self.numbers.clear();
                    list::resize(&mut self.numbers, sources.len(), if stride == 0 { 0 } else { length })?;
                    self.numbers[sentence] = length;
                    let options = AppendOptions { counts: Some(&self.numbers), threads: run.threads, level: run.level };
                    kept.sources.append_with(part(0)?, part(run.config.d_model)?, &options)?;
                }
            }
            run.clock.stop(start, Operation::Caching, || [0, 2 * size_of_val(keys_values.values())]);
        }
        self.sentences = sources.len();
        Ok(())
    }

    /// Counts the position that all layers have seen by now.
    pub(crate) fn advance(&mut self) {
        self.length += 1;
    }
}

impl<E: Element> Progress for Cache<E> {
    fn sentences(&self) -> usize {
        self.sentences
    }

    fn rows(&self) -> usize {
        self.sentences * self.width
    }

    fn length(&self) -> usize {
        self.length
    }

    fn bytes(&self) -> usize {
        self.layers.iter().map(|kept| kept.sources.bytes() + kept.targets.bytes()).sum()
    }

    fn rewind(&mut self, length: usize) {
        self.length = self.length.min(length);
        let rows = self.rows();
        for kept in &mut self.layers {
            (0..rows).for_each(|row| kept.targets.truncate(row, length));
        }
    }

    fn swap_remove(&mut self, sentence: usize) -> Result {
        let last = std::mem::take(&mut self.sentences) - 1;
        let Self { layers, numbers, width, .. } = self;
        let order = |numbers: &mut Vec<usize>, width: usize| {
            let places = (0..last).map(|place| if place == sentence { last } else { place });
            list::refill(numbers, places.flat_map(|place| place * width..(place + 1) * width))
        };
        order(numbers, 1)?;
        layers.iter_mut().try_for_each(|kept| kept.sources.select(numbers))?;
        order(numbers, *width)?;
        layers.iter_mut().try_for_each(|kept| kept.targets.select(numbers))?;
        self.sentences = last;
        Ok(())
    }

    fn reorder(&mut self, width: usize, parents: &[usize]) -> Result {
        let sentences = std::mem::take(&mut self.sentences);
        self.layers.iter_mut().try_for_each(|kept| kept.targets.select(parents))?;
        (self.sentences, self.width) = (sentences, width);
        Ok(())
    }
}

impl<E: Element> Attend<E> for LayerCache<E> {
    fn to_own(&mut self, run: &mut Run, projected: &Matrix<E>, context: &mut Matrix<E>) -> Result {
        let (rows, d) = (projected.rows(), run.config.d_model);
        let part = |first| heads(run.config, projected, [0, first], [rows, 1], 1);
        let start = run.clock.start();
        let options = AppendOptions { threads: run.threads, level: run.level, ..AppendOptions::default() };
        self.targets.append_with(part(d)?, part(2 * d)?, &options)?;
        run.clock.stop(start, Operation::Caching, || [0, size_of::<E>() * 4 * rows * d]);
        attend(run, Operation::SelfAttention, projected, &self.targets, context)
    }

    fn to_sources(
        &mut self,
        run: &mut Run,
        _cross: &CrossAttention<E>,
        queries: &Matrix<E>,
        context: &mut Matrix<E>,
    ) -> Result {
        attend(run, Operation::CrossAttention, queries, &self.sources, context)
    }
}

/// Equally many queries for each of the kept sequences: the first D columns of `queries`.
fn attend<E: Element>(
    run: &mut Run,
    operation: Operation,
    queries: &Matrix<E>,
    kept: &KvCache<E>,
    context: &mut Matrix<E>,
) -> Result {
    context.reshape(queries.rows(), run.config.d_model)?;
    let each = queries.rows() / kept.sequences().max(1);
    let q = heads(run.config, queries, [0, 0], [kept.sequences(), each], each)?;
    run.attention_cached(operation, q, kept, HeadsMut::bshd(context.values_mut(), q.sizes())?)
}
