//! Operations on rows.

use super::{read, tensor};
use crate::{buffer::Stored, cases::RowOp, contest::Contender, rivals::RowOperands};
use candle_core::{D, Module, Result, Tensor};
use candle_nn::{
    LayerNorm, RmsNorm,
    ops::{log_softmax, softmax_last_dim},
};

pub(in crate::rivals) fn contender<T: Stored>(operands: RowOperands<'_, T>) -> Contender<'_> {
    let operation = Operation::new(operands).expect("tensors of the operands");
    Contender::owning("candle", move || operation.call(), read::<T>)
}

struct Operation {
    op: RowOp,
    x: Tensor,
    residual: Tensor,
    bias: Tensor,
    layer_norm: LayerNorm,
    rms_norm: RmsNorm,
}

impl Operation {
    fn new<T: Stored>(operands: RowOperands<'_, T>) -> Result<Operation> {
        let RowOperands { case, x, residual, gamma, beta, bias, eps } = operands;
        let x = tensor(x, (case.rows, case.cols))?;
        let (gamma, beta) = (tensor(gamma, case.cols)?, tensor(beta, case.cols)?);
        Ok(Operation {
            op: case.op,
            residual: tensor(residual, (residual.len() / case.cols, case.cols))?,
            bias: tensor(bias, case.cols)?.to_dtype(x.dtype())?,
            layer_norm: LayerNorm::new(gamma.clone(), beta, eps.into()),
            rms_norm: RmsNorm::new(gamma, eps.into()),
            x,
        })
    }

    fn call(&self) -> Result<Tensor> {
        let biased = || self.x.broadcast_add(&self.bias);
        match self.op {
            RowOp::LayerNorm => self.layer_norm.forward(&self.x),
            RowOp::AddLayerNorm => self.layer_norm.forward(&(&self.x + &self.residual)?),
            RowOp::RmsNorm => self.rms_norm.forward(&self.x),
            RowOp::AddRmsNorm => self.rms_norm.forward(&(&self.x + &self.residual)?),
            RowOp::Softmax => softmax_last_dim(&self.x),
            RowOp::LogSoftmax => log_softmax(&self.x, D::Minus1),
            RowOp::BiasRelu => biased()?.relu(),
            RowOp::BiasGelu => biased()?.gelu_erf(),
            RowOp::BiasGeluTanh => biased()?.gelu(),
            RowOp::BiasSilu => biased()?.silu(),
        }
    }
}
