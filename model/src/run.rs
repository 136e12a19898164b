//! The kernels as one forward pass uses them.

use crate::matrix::Matrix;
use crate::weights::{Linear, Norm};
use crate::{Config, Error};
use gristmill::{
    Activation, AttentionOptions, GemmOptions, HeadsMut, HeadsRef, KvCache, LayerNormOptions, Level, Mask, MatRef,
    RowOptions, Threads, Workspace, attention, attention_cached, gemm, layer_norm,
};

/// The model's conventions, where the work runs, and the kernels' scratch memory.
pub(crate) struct Run<'a> {
    pub(crate) config: &'a Config,
    pub(crate) threads: Threads<'a>,
    pub(crate) level: Option<Level>,
    pub(crate) workspace: Workspace,
}

/// What follows a product, in this order.
#[derive(Default)]
pub(crate) struct Epilogue<'a> {
    pub(crate) activation: Activation,
    pub(crate) residual: Option<&'a Matrix>,
}

impl Run<'_> {
    /// `y = activation(x W^T + b) + residual`.
    pub(crate) fn linear(
        &mut self,
        linear: &Linear,
        x: MatRef<f32>,
        y: &mut Matrix,
        epilogue: Epilogue,
    ) -> Result<(), Error> {
        y.reshape(x.rows(), linear.weight.n())?;
        let options = GemmOptions {
            bias: linear.bias.as_deref(),
            activation: epilogue.activation,
            residual: epilogue.residual.map(Matrix::view),
            threads: self.threads,
            level: self.level,
            ..GemmOptions::default()
        };
        Ok(gemm(x, &*linear.weight, y.view_mut(), &options, &mut self.workspace)?)
    }

    /// Where operations on rows run.
    pub(crate) fn row_options(&self) -> RowOptions<'_> {
        RowOptions { threads: self.threads, level: self.level }
    }

    /// `y = norm(x)`.
    pub(crate) fn norm(&mut self, norm: &Norm, x: &Matrix, y: &mut Matrix) -> Result<(), Error> {
        y.reshape(x.rows(), x.cols())?;
        let options = LayerNormOptions {
            eps: self.config.norm_eps,
            gamma: Some(&norm.gamma),
            beta: norm.beta.as_deref(),
            threads: self.threads,
            level: self.level,
        };
        Ok(layer_norm(x.view(), y.view_mut(), &options)?)
    }

    /// `out = softmax(q k^T / sqrt(D)) v` over the keys that the mask leaves.
    pub(crate) fn attention(
        &mut self,
        [q, k, v]: [HeadsRef<f32>; 3],
        out: HeadsMut<f32>,
        mask: Mask,
    ) -> Result<(), Error> {
        let options =
            AttentionOptions { mask, threads: self.threads, level: self.level, ..AttentionOptions::default() };
        Ok(attention(q, k, v, out, &options, &mut self.workspace)?)
    }

    /// The same to all that a cache keeps.
    pub(crate) fn attention_cached(
        &mut self,
        q: HeadsRef<f32>,
        kept: &KvCache,
        out: HeadsMut<f32>,
    ) -> Result<(), Error> {
        let options = AttentionOptions { threads: self.threads, level: self.level, ..AttentionOptions::default() };
        Ok(attention_cached(q, kept, out, &options, &mut self.workspace)?)
    }
}
