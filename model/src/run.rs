//! The kernels as one forward pass uses them.

use crate::matrix::Matrix;
use crate::profile::{Clock, Cost, Operation};
use crate::weights::{Linear, Norm};
use crate::{Config, Error};
use gristmill::{
    Activation, AttentionOptions, Causal, GemmOptions, HeadsMut, HeadsRef, KvCache, LayerNormOptions, Level, Mask,
    MatRef, RowOptions, SoftmaxOptions, Threads, Workspace, attention, attention_cached, gemm, layer_norm,
};

/// The model's conventions, where the work runs, and the kernels' scratch memory.
pub(crate) struct Run<'a> {
    pub(crate) config: &'a Config,
    pub(crate) threads: Threads<'a>,
    pub(crate) level: Option<Level>,
    pub(crate) workspace: Workspace,
    pub(crate) clock: Clock,
}

/// What follows a product, in this order.
#[derive(Default)]
pub(crate) struct Epilogue<'a> {
    pub(crate) activation: Activation,
    pub(crate) residual: Option<&'a Matrix>,
}

impl<'a> Run<'a> {
    /// `y = activation(x W^T + b) + residual`.
    pub(crate) fn linear(
        &mut self,
        operation: Operation,
        linear: &Linear,
        x: MatRef<f32>,
        y: &mut Matrix,
        epilogue: Epilogue,
    ) -> Result<(), Error> {
        let (start, [m, n, k]) = (self.clock.start(), [x.rows(), linear.weight.n(), linear.weight.k()]);
        y.reshape(m, n)?;
        let options = GemmOptions {
            bias: linear.bias.as_deref(),
            activation: epilogue.activation,
            residual: epilogue.residual.map(Matrix::view),
            threads: self.threads,
            level: self.level,
            ..GemmOptions::default()
        };
        gemm(x, &*linear.weight, y.view_mut(), &options, &mut self.workspace)?;
        self.clock.stop(start, operation, || [2 * m * n * k, size_of::<f32>() * (m * k + n * k + m * n)]);
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
    pub(crate) fn norm(&mut self, norm: &Norm, x: &Matrix, y: &mut Matrix) -> Result<(), Error> {
        let start = self.clock.start();
        y.reshape(x.rows(), x.cols())?;
        let options = LayerNormOptions {
            eps: self.config.norm_eps,
            gamma: Some(&norm.gamma),
            beta: norm.beta.as_deref(),
            threads: self.threads,
            level: self.level,
        };
        layer_norm(x.view(), y.view_mut(), &options)?;
        let (values, width) = (x.rows() * x.cols(), x.cols());
        self.clock.stop(start, Operation::Norm, || [10 * values, size_of::<f32>() * (2 * values + 2 * width)]);
        Ok(())
    }

    /// `out = softmax(q k^T / sqrt(D)) v` over all keys, or those that causality leaves.
    pub(crate) fn attention(
        &mut self,
        operation: Operation,
        [q, k, v]: [HeadsRef<f32>; 3],
        out: HeadsMut<f32>,
        causal: Option<Causal>,
    ) -> Result<(), Error> {
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
    pub(crate) fn attention_cached(
        &mut self,
        operation: Operation,
        q: HeadsRef<f32>,
        kept: &KvCache,
        out: HeadsMut<f32>,
    ) -> Result<(), Error> {
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
fn attention_cost(q: HeadsRef<f32>, pairs: usize, keys: usize) -> Cost {
    let [batch, queries, heads, width] = q.sizes();
    let d = heads * width;
    [4 * d * pairs, size_of::<f32>() * 2 * d * (batch * queries + keys)]
}
