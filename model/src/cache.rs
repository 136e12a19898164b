//! Keys and values that generation keeps, so that every step computes one position only.

use crate::attend::Attend;
use crate::batch::Spans;
use crate::matrix::Matrix;
use crate::run::{Epilogue, Run};
use crate::weights::DecoderLayer;
use crate::{Config, Error};
use gristmill::{HeadsMut, HeadsRef, Mask};

/// What the decoder layers keep of the sources and of the targets so far, all targets of equal length; each source has
/// as many targets as any other.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    layers: Vec<LayerCache>,
    /// Targets of each sentence.
    width: usize,
    /// What is put in another order is copied here.
    spare: Kept,
    /// Of the sentences in progress.
    source_lengths: Vec<usize>,
    /// Positions that have been decoded.
    length: usize,
}

#[derive(Debug, Default)]
struct LayerCache {
    /// Keys and values of the sources.
    sources: [Kept; 2],
    /// Keys and values of the targets.
    targets: [Kept; 2],
}

impl Cache {
    /// Sentences in progress.
    pub(crate) fn sentences(&self) -> usize {
        self.source_lengths.len()
    }

    /// Targets in progress, those of one sentence side by side.
    pub(crate) fn rows(&self) -> usize {
        self.sentences() * self.width
    }

    /// Positions that have been decoded.
    pub(crate) fn length(&self) -> usize {
        self.length
    }

    /// Forgets everything and projects the encoder's output for each layer; `keys_values` is scratch.
    pub(crate) fn start(
        &mut self,
        run: &mut Run,
        layers: &[DecoderLayer],
        sources: &Spans,
        memory: &Matrix,
        keys_values: &mut Matrix,
    ) -> Result<(), Error> {
        // Nothing is in progress should the rest fail.
        self.source_lengths.clear();
        (self.length, self.width) = (0, 1);
        self.layers.resize_with(layers.len(), LayerCache::default);
        let longest = sources.lengths().max().unwrap_or(0);
        for (layer, kept) in layers.iter().zip(&mut self.layers) {
            run.linear(&layer.cross.kv, memory.view(), keys_values, Epilogue::default())?;
            for (part, kept) in kept.sources.iter_mut().enumerate() {
                kept.clear(run.config, sources.len(), longest)?;
                for sentence in 0..sources.len() {
                    for (position, row) in sources.rows(sentence..sentence + 1).enumerate() {
                        kept.put(sentence, position, part_of(keys_values.row(row), part, 2));
                    }
                }
            }
            for kept in &mut kept.targets {
                kept.clear(run.config, sources.len(), 0)?;
            }
        }
        self.source_lengths.extend(sources.lengths());
        Ok(())
    }

    /// Makes room for one more position.
    pub(crate) fn reserve(&mut self) -> Result<(), Error> {
        let (rows, length) = (self.rows(), self.length);
        let mut targets = self.layers.iter_mut().flat_map(|layer| &mut layer.targets);
        targets.try_for_each(|kept| kept.reserve(rows, length))
    }

    /// Counts the position that all layers have seen by now.
    pub(crate) fn advance(&mut self) {
        self.length += 1;
    }

    /// Forgets what is later than the first positions.
    pub(crate) fn rewind(&mut self, length: usize) {
        self.length = self.length.min(length);
    }

    /// Forgets a sentence; the last one takes its place.
    pub(crate) fn swap_remove(&mut self, sentence: usize) {
        let (last, width) = (self.sentences() - 1, self.width);
        self.source_lengths.swap_remove(sentence);
        for layer in &mut self.layers {
            layer.sources.iter_mut().for_each(|kept| kept.copy(last, sentence));
            for kept in &mut layer.targets {
                (0..width).for_each(|row| kept.copy(last * width + row, sentence * width + row));
            }
        }
    }

    /// From now on there are `width` targets of each sentence, of which target i continues what was `parents[i]`.
    pub(crate) fn reorder(&mut self, width: usize, parents: &[usize]) -> Result<(), Error> {
        let spare = &mut self.spare;
        for kept in self.layers.iter_mut().flat_map(|layer| &mut layer.targets) {
            spare.take_from(kept, parents)?;
            std::mem::swap(spare, kept);
        }
        self.width = width;
        Ok(())
    }
}

impl Attend for Cache {
    fn to_targets(
        &mut self,
        run: &mut Run,
        layer: usize,
        projected: &Matrix,
        context: &mut Matrix,
    ) -> Result<(), Error> {
        let rows = self.rows();
        let kept = &mut self.layers[layer].targets;
        for row in 0..rows {
            for (part, kept) in kept.iter_mut().enumerate() {
                kept.put(row, self.length, part_of(projected.row(row), part + 1, 3));
            }
        }
        let [k, v] = kept.each_ref().map(|kept| kept.view(rows, self.length + 1));
        attend(run, projected, [k?, v?], Mask::default(), context)
    }

    fn to_sources(&mut self, run: &mut Run, layer: usize, queries: &Matrix, context: &mut Matrix) -> Result<(), Error> {
        let kept = &self.layers[layer].sources;
        let longest = self.source_lengths.iter().copied().max().unwrap_or(0);
        let [k, v] = kept.each_ref().map(|kept| kept.view(self.sentences(), longest));
        let mask = Mask { key_lengths: Some(&self.source_lengths), ..Mask::default() };
        attend(run, queries, [k?, v?], mask, context)
    }
}

/// Equally many queries for each of the keys' sentences: the first D columns of `queries`.
fn attend(
    run: &mut Run,
    queries: &Matrix,
    [k, v]: [HeadsRef<f32>; 2],
    mask: Mask,
    context: &mut Matrix,
) -> Result<(), Error> {
    let (d, width) = (run.config.d_model, run.config.d_head());
    context.reshape(queries.rows(), d)?;
    let each = queries.rows() / k.batch().max(1);
    let sizes = [k.batch(), each, run.config.heads, width];
    let strides = [each * queries.cols(), queries.cols(), width, 1].map(|stride| stride as isize);
    let q = HeadsRef::strided(queries.values(), 0, sizes, strides)?;
    run.attention([q, k, v], HeadsMut::bshd(context.values_mut(), sizes)?, mask)
}

/// The `part`-th of `parts` equal parts of a row.
fn part_of(row: &[f32], part: usize, parts: usize) -> &[f32] {
    let width = row.len() / parts;
    &row[part * width..][..width]
}

/// Vectors by sentence or target, head and position, in this order: attention reads each head's in one sweep.
#[derive(Debug, Default)]
struct Kept {
    /// `[sentences or targets * heads * capacity, D / heads]`.
    values: Matrix,
    heads: usize,
    /// Positions that there is room for.
    capacity: usize,
}

impl Kept {
    /// Forgets everything, and makes room.
    fn clear(&mut self, config: &Config, sentences: usize, capacity: usize) -> Result<(), Error> {
        (self.heads, self.capacity) = (config.heads, capacity);
        self.values.reshape(sentences * config.heads * capacity, config.d_head())
    }

    fn put(&mut self, sentence: usize, position: usize, row: &[f32]) {
        let width = self.values.cols();
        for (head, vector) in row.chunks_exact(width).enumerate() {
            let at = (sentence * self.heads + head) * self.capacity + position;
            self.values.row_mut(at).copy_from_slice(vector);
        }
    }

    /// Makes room for position `length`, keeping those before it.
    fn reserve(&mut self, sentences: usize, length: usize) -> Result<(), Error> {
        if length < self.capacity {
            return Ok(());
        }
        let (old, new) = (self.capacity, (2 * length).max(16));
        let (vectors, width) = (sentences * self.heads, self.values.cols());
        self.values.reshape(vectors * new, width)?;
        self.capacity = new;
        // Each moves up, the last first: nothing is overwritten before it has moved.
        for vector in (0..vectors).rev() {
            let from = vector * old * width;
            self.values.values_mut().copy_within(from..from + length * width, vector * new * width);
        }
        Ok(())
    }

    /// The first `length` positions of the first sentences.
    fn view(&self, sentences: usize, length: usize) -> Result<HeadsRef<'_, f32>, Error> {
        let width = self.values.cols();
        let head = self.capacity * width;
        let strides = [self.heads * head, width, head, 1].map(|stride| stride as isize);
        Ok(HeadsRef::strided(self.values.values(), 0, [sentences, length, self.heads, width], strides)?)
    }

    /// Becomes a copy of some of another's.
    fn take_from(&mut self, other: &Kept, order: &[usize]) -> Result<(), Error> {
        let block = other.heads * other.capacity;
        self.values.reshape(order.len() * block, other.values.cols())?;
        (self.heads, self.capacity) = (other.heads, other.capacity);
        let block = block * other.values.cols();
        for (to, &from) in self.values.values_mut().chunks_exact_mut(block.max(1)).zip(order) {
            to.copy_from_slice(&other.values.values()[from * block..][..block]);
        }
        Ok(())
    }

    fn copy(&mut self, from: usize, to: usize) {
        let block = self.heads * self.capacity * self.values.cols();
        self.values.values_mut().copy_within(from * block..(from + 1) * block, to * block);
    }
}
