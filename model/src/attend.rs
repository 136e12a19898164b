//! How the rows of a pass attend: to whole sentences at once, or to what a cache has kept.

use crate::batch::Spans;
use crate::matrix::Matrix;
use crate::profile::Operation;
use crate::run::Run;
use crate::weights::CrossAttention;
use crate::{Config, Result};
use gristmill::simd::Element;
use gristmill::{Causal, HeadsMut, HeadsRef};
use std::ops::Range;

/// What the queries of a layer attend to.
pub(crate) trait Attend<E: Element> {
    /// Attention within the sentences. `projected` holds queries, keys and values side by side.
    fn to_own(&mut self, run: &mut Run, projected: &Matrix<E>, context: &mut Matrix<E>) -> Result;

    /// Attention to the sources.
    fn to_sources(
        &mut self,
        run: &mut Run,
        cross: &CrossAttention<E>,
        queries: &Matrix<E>,
        context: &mut Matrix<E>,
    ) -> Result;
}

/// Whole sentences, all positions at once, in any layer.
pub(crate) struct Whole<'a, E> {
    pub(crate) spans: &'a Spans,
    pub(crate) causal: Option<Causal<'a>>,
    /// What the decoder's layers attend to besides; the encoder's do not ask for it.
    pub(crate) sources: &'a Spans,
    /// The encoder's output for the sources.
    pub(crate) memory: &'a Matrix<E>,
    /// Room for the sources' keys and values, side by side.
    pub(crate) keys_values: &'a mut Matrix<E>,
}

impl<E: Element> Attend<E> for Whole<'_, E> {
    fn to_own(&mut self, run: &mut Run, projected: &Matrix<E>, context: &mut Matrix<E>) -> Result {
        let d = run.config.d_model;
        let parts = [0, d, 2 * d].map(|first| Packed { matrix: projected, spans: self.spans, first });
        attend(run, Operation::SelfAttention, parts, self.causal, context)
    }

    fn to_sources(
        &mut self,
        run: &mut Run,
        cross: &CrossAttention<E>,
        queries: &Matrix<E>,
        context: &mut Matrix<E>,
    ) -> Result {
        run.linear(Operation::CrossProjection, &cross.keys_values, self.memory.view(), None, self.keys_values)?;
        let q = Packed { matrix: queries, spans: self.spans, first: 0 };
        let k = Packed { matrix: self.keys_values, spans: self.sources, first: 0 };
        attend(run, Operation::CrossAttention, [q, k, Packed { first: run.config.d_model, ..k }], None, context)
    }
}

/// D columns of packed sentences.
#[derive(Clone, Copy)]
struct Packed<'a, E> {
    matrix: &'a Matrix<E>,
    spans: &'a Spans,
    first: usize,
}

impl<'a, E: Element> Packed<'a, E> {
    /// Neighbouring sentences of one length as `[B, S, H, D]`, where they lie.
    fn heads(&self, config: &Config, sentences: Range<usize>) -> Result<HeadsRef<'a, E>> {
        let rows = self.spans.rows(sentences.clone());
        let length = rows.len() / sentences.len();
        heads(config, self.matrix, [rows.start, self.first], [sentences.len(), length], length)
    }
}

/// Queries, keys and values of the same sentences; one call for every run of sentences of equal lengths.
fn attend<E: Element>(
    run: &mut Run,
    operation: Operation,
    [q, k, v]: [Packed<E>; 3],
    causal: Option<Causal>,
    context: &mut Matrix<E>,
) -> Result {
    context.reshape(q.matrix.rows(), run.config.d_model)?;
    for sentences in q.spans.runs(k.spans) {
        let out = context.rows_mut(q.spans.rows(sentences.clone()));
        let [q, k, v] = [q, k, v].map(|part| part.heads(run.config, sentences.clone()));
        let q = q?;
        run.attention(operation, [q, k?, v?], HeadsMut::bshd(out, q.sizes())?, causal)?;
    }
    Ok(())
}

/// `[batch, length, H, D / H]` from a row and a column on; the sentences are `stride` rows apart.
pub(crate) fn heads<'a, E: Element>(
    config: &Config,
    matrix: &'a Matrix<E>,
    [row, column]: [usize; 2],
    [batch, length]: [usize; 2],
    stride: usize,
) -> Result<HeadsRef<'a, E>> {
    let (cols, width) = (matrix.cols(), config.d_head());
    let strides = [stride * cols, cols, width, 1].map(|stride| stride as isize);
    Ok(HeadsRef::strided(matrix.values(), row * cols + column, [batch, length, config.heads, width], strides)?)
}
