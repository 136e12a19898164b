//! Operations on rows.

use super::{fused, sample};
use crate::{
    buffer::{Buffer, Output, Stored},
    cases::{self, RowOp},
    contest::{Contender, Contest, Difference},
    rivals::{self, RowOperands},
};
use gristmill_core::{Activation, Error, MatMut, MatRef};
use gristmill_layernorm::{
    LayerNormOptions, add_layer_norm, add_rms_norm, layer_norm, naive as layernorm_naive, rms_norm,
};
use gristmill_rowwise::{RowOptions, SoftmaxOptions, bias_activation, log_softmax, naive as rowwise_naive, softmax};

const EPS: f32 = 1e-5;

/// Matrices, gamma and beta of type `T`.
pub(super) struct RowsOf<T> {
    case: cases::Rows,
    x: Buffer<T>,
    residual: Buffer<T>,
    gamma: Buffer<T>,
    beta: Buffer<T>,
    bias: Buffer,
}

impl<T: Stored> RowsOf<T> {
    pub(super) fn new(case: cases::Rows) -> Self {
        let elements = case.rows * case.cols;
        RowsOf {
            case,
            x: Buffer::uniform(elements, 1),
            residual: Buffer::uniform(if case.op.adds() { elements } else { 0 }, 2),
            gamma: Buffer::uniform(case.cols, 3),
            beta: Buffer::uniform(case.cols, 4),
            bias: Buffer::uniform(case.cols, 5),
        }
    }

    fn options(&self) -> LayerNormOptions<'_, T> {
        let beta = matches!(self.case.op, RowOp::LayerNorm | RowOp::AddLayerNorm).then_some(&*self.beta);
        LayerNormOptions { eps: EPS, ..LayerNormOptions::default() }.with_parameters(Some(&*self.gamma), beta)
    }

    fn activation(&self) -> Activation {
        match self.case.op {
            RowOp::BiasRelu => Activation::Relu,
            RowOp::BiasGelu => Activation::Gelu,
            RowOp::BiasGeluTanh => Activation::GeluTanh,
            RowOp::BiasSilu => Activation::Silu,
            _ => Activation::Identity,
        }
    }

    fn ours_into(&self, output: &mut [T]) -> Result<(), Error> {
        let (rows, cols) = (self.case.rows, self.case.cols);
        let (x, y) = (MatRef::new(&self.x, rows, cols)?, MatMut::new(output, rows, cols)?);
        let residual = || MatRef::new(&self.residual, rows, cols);
        match self.case.op {
            RowOp::LayerNorm => layer_norm(x, y, &self.options()),
            RowOp::AddLayerNorm => add_layer_norm(x, residual()?, y, None, &self.options()),
            RowOp::RmsNorm => rms_norm(x, y, &self.options()),
            RowOp::AddRmsNorm => add_rms_norm(x, residual()?, y, None, &self.options()),
            RowOp::Softmax => softmax(x, y, &SoftmaxOptions::default()),
            RowOp::LogSoftmax => log_softmax(x, y, &SoftmaxOptions::default()),
            RowOp::BiasRelu | RowOp::BiasGelu | RowOp::BiasGeluTanh | RowOp::BiasSilu => {
                bias_activation(x, Some(&self.bias), self.activation(), y, &RowOptions::default())
            }
        }
    }

    /// One row by the naive version.
    fn naive<const FUSED: bool>(&self, row: usize, output: &mut [T]) -> Result<(), Error> {
        let (rows, cols) = (self.case.rows, self.case.cols);
        let one = |matrix| MatRef::new(matrix, rows, cols)?.submatrix(row..row + 1, 0..cols);
        let (x, y) = (one(&self.x)?, MatMut::new(output, 1, cols)?);
        let (residual, sum) = (|| one(&self.residual), None::<MatMut<'_, T>>);
        match self.case.op {
            RowOp::LayerNorm => layernorm_naive::layer_norm::<FUSED>(x, y.into(), &self.options()),
            RowOp::AddLayerNorm => {
                layernorm_naive::add_layer_norm::<FUSED>(x, residual()?, y.into(), sum, &self.options())
            }
            RowOp::RmsNorm => layernorm_naive::rms_norm::<FUSED>(x, y.into(), &self.options()),
            RowOp::AddRmsNorm => layernorm_naive::add_rms_norm::<FUSED>(x, residual()?, y.into(), sum, &self.options()),
            RowOp::Softmax => rowwise_naive::softmax::<FUSED>(x, y, &SoftmaxOptions::default()),
            RowOp::LogSoftmax => rowwise_naive::log_softmax::<FUSED>(x, y, &SoftmaxOptions::default()),
            RowOp::BiasRelu | RowOp::BiasGelu | RowOp::BiasGeluTanh | RowOp::BiasSilu => {
                rowwise_naive::bias_activation::<FUSED>(x, Some(&self.bias), self.activation(), y)
            }
        }
    }
}

impl<T: Stored> Contest for RowsOf<T> {
    fn output(&self) -> Output {
        Output::of::<T>(self.x.len())
    }

    fn ours(&self) -> Contender<'_> {
        Contender::of("ours", |output: &mut [T]| self.ours_into(output).expect("the operands fit together"))
    }

    fn rivals(&self) -> Vec<Contender<'_>> {
        let RowsOf { case, x, residual, gamma, beta, bias } = self;
        rivals::rows(RowOperands { case, x, residual, gamma, beta, bias, eps: EPS })
    }

    fn exact(&self, output: &[f32]) -> Result<(), Difference> {
        let cols = self.case.cols;
        let mut expected = Buffer::<T>::filled(cols, f32::NAN);
        for row in sample(self.case.rows, 16 * cols) {
            let naive = if fused() { Self::naive::<true> } else { Self::naive::<false> };
            naive(self, row, &mut expected).expect("the operands fit together");
            let widened: Vec<f32> = expected.iter().map(|x| x.to_f32()).collect();
            Difference::in_bits(&output[row * cols..(row + 1) * cols], &widened, row * cols)?;
        }
        Ok(())
    }

    /// Results from values of order 1 are of order 1, logarithms of order 10. In f32 a plain sum over a row is what
    /// errs most; in 16 bits, results may be an ULP apart, and sums that are rounded on the way two.
    fn tolerance(&self) -> f32 {
        let ulps = match self.case.dtype {
            cases::Dtype::F16 | cases::Dtype::F16w => 2.0_f32.powi(-8),
            cases::Dtype::Bf16 | cases::Dtype::Bf16w => 2.0_f32.powi(-5),
            cases::Dtype::F32 => 1e-4,
        };
        if self.case.op == RowOp::LogSoftmax { 4.0 * ulps } else { ulps }
    }
}
