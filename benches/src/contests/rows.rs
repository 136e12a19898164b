//! Operations on rows.

use super::{fused, sample};
use crate::{
    buffer::{Buffer, Output},
    cases::{self, RowOp},
    contest::{Contender, Contest, Difference},
    rivals::{self, RowOperands},
};
use gristmill_core::{Activation, Error, MatMut, MatRef};
use gristmill_layernorm::{LayerNormOptions, add_layer_norm, layer_norm, naive as layernorm_naive};
use gristmill_rowwise::{RowOptions, SoftmaxOptions, bias_activation, naive as rowwise_naive, softmax};

const EPS: f32 = 1e-5;

pub(super) struct RowsOf {
    case: cases::Rows,
    x: Buffer,
    residual: Buffer,
    gamma: Buffer,
    beta: Buffer,
}

impl RowsOf {
    pub(super) fn new(case: cases::Rows) -> Self {
        let elements = case.rows * case.cols;
        let residual = if case.op == RowOp::AddLayerNorm { elements } else { 0 };
        RowsOf {
            case,
            x: Buffer::uniform(elements, 1),
            residual: Buffer::uniform(residual, 2),
            gamma: Buffer::uniform(case.cols, 3),
            beta: Buffer::uniform(case.cols, 4),
        }
    }

    fn options(&self) -> LayerNormOptions<'_> {
        LayerNormOptions { eps: EPS, gamma: Some(&self.gamma), beta: Some(&self.beta), ..Default::default() }
    }

    fn ours_into(&self, output: &mut [f32]) -> Result<(), Error> {
        let (rows, cols) = (self.case.rows, self.case.cols);
        let (x, y) = (MatRef::new(&self.x, rows, cols)?, MatMut::new(output, rows, cols)?);
        let options = RowOptions::default();
        match self.case.op {
            RowOp::LayerNorm => layer_norm(x, y, &self.options()),
            RowOp::AddLayerNorm => {
                add_layer_norm(x, MatRef::new(&self.residual, rows, cols)?, y, None, &self.options())
            }
            RowOp::Softmax => softmax(x, y, &SoftmaxOptions::default()),
            RowOp::BiasRelu => bias_activation(x, Some(&self.beta), Activation::Relu, y, &options),
            RowOp::BiasGelu => bias_activation(x, Some(&self.beta), Activation::Gelu, y, &options),
        }
    }

    /// One row by the naive version.
    fn naive<const FUSED: bool>(&self, row: usize, output: &mut [f32]) -> Result<(), Error> {
        let (rows, cols) = (self.case.rows, self.case.cols);
        let one = |matrix| MatRef::new(matrix, rows, cols)?.submatrix(row..row + 1, 0..cols);
        let (x, y) = (one(&self.x)?, MatMut::new(output, 1, cols)?);
        match self.case.op {
            RowOp::LayerNorm => layernorm_naive::layer_norm::<FUSED>(x, y.into(), &self.options()),
            RowOp::AddLayerNorm => layernorm_naive::add_layer_norm::<FUSED>(
                x,
                one(&self.residual)?,
                y.into(),
                None::<MatMut<'_, f32>>,
                &self.options(),
            ),
            RowOp::Softmax => rowwise_naive::softmax::<FUSED>(x, y, &SoftmaxOptions::default()),
            RowOp::BiasRelu => rowwise_naive::bias_activation::<FUSED>(x, Some(&self.beta), Activation::Relu, y),
            RowOp::BiasGelu => rowwise_naive::bias_activation::<FUSED>(x, Some(&self.beta), Activation::Gelu, y),
        }
    }
}

impl Contest for RowsOf {
    fn output(&self) -> Output {
        Output::of::<f32>(self.x.len())
    }

    fn ours(&self) -> Contender<'_> {
        Contender::new("ours", |output| self.ours_into(output).expect("the operands fit together"))
    }

    fn rivals(&self) -> Vec<Contender<'_>> {
        let RowsOf { case, x, residual, gamma, beta } = self;
        rivals::rows(RowOperands { case, x, residual, gamma, beta, eps: EPS })
    }

    fn exact(&self, output: &[f32]) -> Result<(), Difference> {
        let cols = self.case.cols;
        let mut expected = vec![f32::NAN; cols];
        for row in sample(self.case.rows, 16 * cols) {
            let naive = if fused() { Self::naive::<true> } else { Self::naive::<false> };
            naive(self, row, &mut expected).expect("the operands fit together");
            Difference::in_bits(&output[row * cols..(row + 1) * cols], &expected, row * cols)?;
        }
        Ok(())
    }

    /// Results of order 1 from values of order 1; a plain sum over a row is what errs most.
    fn tolerance(&self) -> f32 {
        1e-4
    }
}
