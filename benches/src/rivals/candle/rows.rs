//! Operations on rows.

use super::{read, tensor};
use crate::{cases::RowOp, contest::Contender, rivals::RowOperands};
use candle_core::{Module, Result, Tensor};
use candle_nn::{LayerNorm, ops::softmax_last_dim};

pub(in crate::rivals) fn contender(operands: RowOperands<'_>) -> Contender<'_> {
    let operation = Operation::new(operands).expect("tensors of the operands");
    Contender::owning("candle", move || operation.call(), read)
}

struct Operation {
    op: RowOp,
    x: Tensor,
    residual: Tensor,
    bias: Tensor,
    norm: LayerNorm,
}

impl Operation {
    fn new(operands: RowOperands<'_>) -> Result<Operation> {
        let RowOperands { case, x, residual, gamma, beta, eps } = operands;
        let vector = |values| tensor(values, case.cols);
        Ok(Operation {
            op: case.op,
            x: tensor(x, (case.rows, case.cols))?,
            residual: tensor(residual, (residual.len() / case.cols, case.cols))?,
            bias: vector(beta)?,
            norm: LayerNorm::new(vector(gamma)?, vector(beta)?, eps.into()),
        })
    }

    fn call(&self) -> Result<Tensor> {
        match self.op {
            RowOp::LayerNorm => self.norm.forward(&self.x),
            RowOp::AddLayerNorm => self.norm.forward(&(&self.x + &self.residual)?),
            RowOp::Softmax => softmax_last_dim(&self.x),
            RowOp::BiasRelu => self.x.broadcast_add(&self.bias)?.relu(),
            RowOp::BiasGelu => self.x.broadcast_add(&self.bias)?.gelu_erf(),
        }
    }
}
