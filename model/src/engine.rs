//! Passes through a model in its own storage type.

use crate::attend::Whole;
use crate::batch::{Batch, Spans};
use crate::cache::{Cache, Progress};
use crate::embed::{Sinusoids, look_up};
use crate::layer::Buffers;
use crate::matrix::Matrix;
use crate::profile::Operation;
use crate::run::Run;
use crate::weights::{Linear, Stack, Weights};
use crate::{Config, Result};
use gristmill::rowwise::PositionRows;
use gristmill::simd::Element;
use gristmill::{Causal, list};
use std::{any::Any, ops::Range};

/// What a session needs of a model, whatever its storage type.
pub(crate) trait Engine: Send + Sync {
    /// The encoder's pass over packed sources.
    fn encode(&mut self, run: &mut Run, sources: &Batch) -> Result;

    /// The encoder's pass, and the decoder's over packed targets, all positions at once.
    fn decode(&mut self, run: &mut Run, sources: &Batch, targets: &Batch) -> Result;

    /// The encoder's pass, and whatever decoding step by step needs of it.
    fn start(&mut self, run: &mut Run, sources: &Batch) -> Result;

    /// The decoder's pass over one more token of each target in progress, and the logits of what follows. After an error
    /// the targets are as they were.
    fn step(&mut self, run: &mut Run, ids: &[u32], selected: bool, logits: &mut Matrix) -> Result;

    /// `logits` of some rows that the decoder's last pass gave, for all ids, or for those of [`select`](Engine::select).
    fn logits(&self, run: &mut Run, rows: Range<usize>, selected: bool, logits: &mut Matrix) -> Result;

    /// Prepares for the logits of some ids, unless it has.
    fn select(&mut self, ids: &[u32]) -> Result;

    /// Results of the last pass, before the vocabulary's product; `wide` holds them if they have to be widened.
    fn values<'m>(&'m self, wide: &'m mut Matrix) -> Result<&'m Matrix>;

    /// The targets in progress.
    fn progress(&self) -> &dyn Progress;

    /// The same, to change them.
    fn progress_mut(&mut self) -> &mut dyn Progress;
}

/// Weights in whatever storage type.
pub(crate) trait Stored: Send + Sync {
    /// Bytes in memory.
    fn bytes(&self) -> usize;

    /// The weights ready to work.
    fn engine<'a>(&'a self, config: &Config) -> Result<Box<dyn Engine + 'a>>;
}

impl<E: Element> Stored for Weights<E> {
    fn bytes(&self) -> usize {
        self.bytes
    }

    fn engine<'a>(&'a self, config: &Config) -> Result<Box<dyn Engine + 'a>> {
        let (sinusoids, buffers, memory, keys_values) = Default::default();
        let cache = Cache::new(config)?;
        Ok(Box::new(Passes { weights: self, sinusoids, buffers, memory, keys_values, cache, selected: None }))
    }
}

/// A model's weights at work: buffers, and the cache of a generation in progress.
pub(crate) struct Passes<'a, E: Element> {
    weights: &'a Weights<E>,
    sinusoids: Sinusoids,
    buffers: Buffers<E>,
    /// The encoder's output, for the decoder.
    memory: Matrix<E>,
    keys_values: Matrix<E>,
    cache: Cache<E>,
    /// Some ids, and their rows of the generator.
    selected: Option<(Vec<u32>, Linear<E>)>,
}

impl<E: Element> Passes<'_, E> {
    /// A pass over all positions of packed sentences, attending to `sources` besides where the stack's layers do.
    fn pass(
        &mut self,
        run: &mut Run,
        stack: &Stack<E>,
        batch: &Batch,
        causal: Option<Causal>,
        sources: &Spans,
    ) -> Result {
        let Self { buffers, sinusoids, memory, keys_values, .. } = self;
        let positions = PositionRows::Each(&batch.positions);
        look_up(run, stack, sinusoids, &batch.ids, positions, &mut buffers.stream.x)?;
        let mut keys = Whole { spans: &batch.spans, causal, sources, memory, keys_values };
        stack.layers.iter().try_for_each(|layer| layer.apply(run, buffers, &mut keys))?;
        buffers.stream.finish(run, stack.norm.as_ref())
    }

    /// The decoder's pass over one more token of each target in progress, which the layers' caches keep.
    fn keep(&mut self, run: &mut Run, ids: &[u32]) -> Result {
        let Self { weights: Weights { decoder, .. }, buffers, sinusoids, cache, .. } = self;
        look_up(run, decoder, sinusoids, ids, PositionRows::All(cache.length()), &mut buffers.stream.x)?;
        let mut layers = decoder.layers.iter().zip(&mut cache.layers);
        layers.try_for_each(|(layer, kept)| layer.apply(run, buffers, kept))?;
        buffers.stream.finish(run, decoder.norm.as_ref())
    }

    /// The encoder's pass for the decoder.
    fn remember(&mut self, run: &mut Run, sources: &Batch) -> Result {
        self.encode(run, sources)?;
        std::mem::swap(&mut self.memory, &mut self.buffers.stream.x);
        Ok(())
    }
}

impl<E: Element> Engine for Passes<'_, E> {
    fn encode(&mut self, run: &mut Run, sources: &Batch) -> Result {
        self.pass(run, &self.weights.encoder, sources, None, &sources.spans)
    }

    fn decode(&mut self, run: &mut Run, sources: &Batch, targets: &Batch) -> Result {
        self.remember(run, sources)?;
        self.pass(run, &self.weights.decoder, targets, Some(Causal::BottomRight), &sources.spans)
    }

    fn start(&mut self, run: &mut Run, sources: &Batch) -> Result {
        self.remember(run, sources)?;
        self.cache.start(run, &self.weights.decoder.layers, &sources.spans, &self.memory, &mut self.keys_values)
    }

    fn step(&mut self, run: &mut Run, ids: &[u32], selected: bool, logits: &mut Matrix) -> Result {
        if ids.is_empty() {
            // The layers are not asked: they may hold what an error has left.
            self.cache.advance();
            return logits.reshape(0, self.weights.generator.weight.n());
        }
        let stepped = self.keep(run, ids).and_then(|()| self.logits(run, 0..ids.len(), selected, logits));
        // After an error some layers may have kept the token.
        stepped.inspect_err(|_| self.cache.rewind(self.cache.length()))?;
        self.cache.advance();
        Ok(())
    }

    fn logits(&self, run: &mut Run, rows: Range<usize>, selected: bool, logits: &mut Matrix) -> Result {
        let selected = self.selected.as_ref().filter(|_| selected);
        let generator = selected.map_or(&self.weights.generator, |(_, generator)| generator);
        run.linear(Operation::Vocabulary, generator, self.buffers.stream.x.rows_view(rows), None, logits)
    }

    fn select(&mut self, ids: &[u32]) -> Result {
        if self.selected.as_ref().is_none_or(|(selected, _)| selected != ids) {
            self.selected = Some((list::collect(ids.iter().copied())?, self.weights.generator.select(ids)?));
        }
        Ok(())
    }

    fn values<'m>(&'m self, wide: &'m mut Matrix) -> Result<&'m Matrix> {
        let values = &self.buffers.stream.x;
        if let Some(values) = (values as &dyn Any).downcast_ref() {
            return Ok(values);
        }
        wide.reshape(values.rows(), values.cols())?;
        wide.values_mut().iter_mut().zip(values.values()).for_each(|(wide, value)| *wide = value.to_f32());
        Ok(wide)
    }

    fn progress(&self) -> &dyn Progress {
        &self.cache
    }

    fn progress_mut(&mut self) -> &mut dyn Progress {
        &mut self.cache
    }
}
