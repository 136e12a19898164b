//! The kernels as one forward pass uses them.

use crate::matrix::Matrix;
use crate::profile::{Clock, Cost, Operation};
use crate::weights::{Linear, Norm};
use crate::{Config, Result};
use gristmill::simd::Element;
use gristmill::{
    AttentionOptions, Causal, GemmOptions, HeadsMut, HeadsRef, KvCache, LayerNormOptions, Level, Mask, MatRef,
    RowOptions, SoftmaxOptions, Threads, Workspace, add_layer_norm_in_place, attention, attention_cached, gemm,
    layer_norm,
};

/// The model's conventions, where the work runs, and the kernels' scratch memory.
pub(crate) struct Run<'a> {
    pub(crate) config: &'a Config,
    pub(crate) threads: Threads<'a>,
    pub(crate) level: Option<Level>,
    pub(crate) workspace: Workspace,
    pub(crate) clock: Clock,
}

impl<'a> Run<'a> {
    /// `y = linear(x) + residual`.
    pub(crate) fn linear<E: Element, C: Element>(
        &mut self,
        operation: Operation,
        linear: &Linear<E>,
        x: MatRef<E>,
        residual: Option<&Matrix<C>>,
        y: &mut Matrix<C>,
    ) -> Result {
        let (start, [m, n, k]) = (self.clock.start(), [x.rows(), linear.weight.n(), linear.weight.k()]);
        y.reshape(m, n)?;
        let options = GemmOptions {
            bias: linear.bias.as_deref(),
            activation: linear.activation,
            residual: residual.map(Matrix::view),
            threads: self.threads,
            level: self.level,
            ..GemmOptions::new()
        };
        gemm(x, &*linear.weight, y.view_mut(), &options, &mut self.workspace)?;
        self.clock
            .stop(start, operation, || [2 * m * n * k, size_of::<E>() * (m * k + n * k) + size_of::<C>() * m * n]);
        Ok(())
    }

    /// Where operations on rows run.
    pub(crate) fn row_options(&self) -> RowOptions<'_> {
        RowOptions { threads: self.threads, level: self.level }
    }

    /// The same for a softmax of whole rows.
    pub(crate) fn softmax_options(&self) -> SoftmaxOptions<'a> {
        SoftmaxOptions { threads: self.threads, level: self.level, ..SoftmaxOptions::default() }
    }

    /// `y = norm(x)`.
    pub(crate) fn norm<E: Element>(&mut self, norm: &Norm, x: &Matrix<E>, y: &mut Matrix<E>) -> Result {
        let start = self.clock.start();
        y.reshape(x.rows(), x.cols())?;
        layer_norm(x.view(), y.view_mut(), &self.norm_options(norm))?;
        self.clock.stop(start, Operation::Norm, || {
            [10 * x.values().len(), 2 * size_of_val(x.values()) + 2 * size_of_val(&norm.gamma[..])]
        });
        Ok(())
    }

    /// `x = norm(x + addend)`.
    pub(crate) fn add_norm<E: Element>(&mut self, norm: &Norm, addend: &Matrix, x: &mut Matrix<E>) -> Result {
        let start = self.clock.start();
        add_layer_norm_in_place(x.view_mut(), addend.view(), None, &self.norm_options(norm))?;
        self.clock.stop(start, Operation::Norm, || {
            let moved = 2 * size_of_val(x.values()) + size_of_val(addend.values()) + 2 * size_of_val(&norm.gamma[..]);
            [11 * x.values().len(), moved]
        });
        Ok(())
    }

    fn norm_options<'n>(&'n self, norm: &'n Norm) -> LayerNormOptions<'n> {
        LayerNormOptions {
            eps: self.config.norm_eps,
            gamma: Some(&norm.gamma),
            beta: norm.beta.as_deref(),
            threads: self.threads,
            level: self.level,
        }
    }

    /// `out = softmax(q k^T / sqrt(D)) v` over all keys, or those that causality leaves.
    pub(crate) fn attention<E: Element>(
        &mut self,
        operation: Operation,
        [q, k, v]: [HeadsRef<E>; 3],
        out: HeadsMut<E>,
        causal: Option<Causal>,
    ) -> Result {
        let start = self.clock.start();
        let mask = Mask { causal, ..Mask::default() };
        let options = AttentionOptions { mask, ..self.attention_options() };
        attention(q, k, v, out, &options, &mut self.workspace)?;
        self.clock.stop(start, operation, || {
            let keys = |i| mask.key_range(0, i, q.seq(), k.seq()).len();
            attention_cost(q, q.batch() * (0..q.seq()).map(keys).sum::<usize>(), k.batch() * k.seq())
        });
        Ok(())
    }

    /// The same over all keys of a cache.
    pub(crate) fn attention_cached<E: Element>(
        &mut self,
        operation: Operation,
        q: HeadsRef<E>,
        kept: &KvCache<E>,
        out: HeadsMut<E>,
    ) -> Result {
        let start = self.clock.start();
        attention_cached(q, kept, out, &self.attention_options(), &mut self.workspace)?;
        self.clock.stop(start, operation, || {
            let keys = (0..kept.sequences()).map(|sequence| kept.len(sequence)).sum();
            attention_cost(q, q.seq() * keys, keys)
        });
        Ok(())
    }

    fn attention_options(&self) -> AttentionOptions<'a> {
        AttentionOptions { threads: self.threads, level: self.level, ..AttentionOptions::default() }
    }
}

/// Of attention to so many keys, with so many pairs of a query and a key that it sees, in each head.
fn attention_cost<E: Element>(q: HeadsRef<E>, pairs: usize, keys: usize) -> Cost {
    let [batch, queries, heads, width] = q.sizes();
    let d = heads * width;
    [4 * d * pairs, size_of::<E>() * 2 * d * (batch * queries + keys)]
}
