//! The crates `candle-core`, `candle-nn` and `candle-transformers`, behind the feature `candle`.
//!
//! Their functions return tensors of their own; these are timed as they come, without a copy into our buffer. Operands
//! are tensors made beforehand, in the layout that each function asks for. What of them runs on rayon uses the pool that
//! it is called in; [`THREADS_VARIABLES`](super::THREADS_VARIABLES) limit the rest.

mod attention;
mod marian;
mod rows;

pub(super) use self::{attention::contenders as attention, marian::contender as marian, rows::contender as rows};

use crate::buffer::Stored;
use candle_core::{DType, Device, Result, Shape, Tensor};
use std::str::FromStr;

/// A tensor with a copy of the values, in their type.
fn tensor<T: Stored>(values: &[T], shape: impl Into<Shape>) -> Result<Tensor> {
    let widened: Vec<f32> = values.iter().map(|value| value.to_f32()).collect();
    let dtype = DType::from_str(T::NAME).expect("candle has the type");
    Tensor::from_vec(widened, shape.into(), &Device::Cpu)?.to_dtype(dtype)
}

/// Copies a result, in the order of its dimensions.
fn read<T: Stored>(result: &Result<Tensor>, output: &mut [T]) {
    let result = result.as_ref().expect("candle computes what it says it can");
    let values = result.to_dtype(DType::F32).and_then(|result| result.flatten_all()?.to_vec1::<f32>());
    let values = values.expect("a tensor in memory");
    assert_eq!(values.len(), output.len());
    output.iter_mut().zip(values).for_each(|(output, value)| *output = T::from_f32(value));
}
