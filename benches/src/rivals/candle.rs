//! The crates `candle-core`, `candle-nn` and `candle-transformers`, behind the feature `candle`.
//!
//! Their functions return tensors of their own; these are timed as they come, without a copy into our buffer. Operands
//! are tensors made beforehand, in the layout that each function asks for. What of them runs on rayon uses the pool that
//! it is called in; [`THREADS_VARIABLES`](super::THREADS_VARIABLES) limit the rest.

mod attention;
mod marian;
mod rows;

pub(super) use self::{attention::contenders as attention, marian::contender as marian, rows::contender as rows};

use candle_core::{DType, Device, Result, Shape, Tensor};

/// A tensor with a copy of the values.
fn tensor(values: &[f32], shape: impl Into<Shape>) -> Result<Tensor> {
    Tensor::from_slice(values, shape.into(), &Device::Cpu)
}

/// Copies a result, in the order of its dimensions.
fn read(result: &Result<Tensor>, output: &mut [f32]) {
    let result = result.as_ref().expect("candle computes what it says it can");
    let values = result.to_dtype(DType::F32).and_then(|result| result.flatten_all()?.to_vec1::<f32>());
    output.copy_from_slice(&values.expect("a tensor in memory"));
}
