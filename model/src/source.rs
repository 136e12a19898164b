//! Where weights come from.

use crate::Result;

/// A supplier of tensors by name, in the names and shapes of the checkpoint form (linear weights `[out, in]`).
///
/// A tensor is opened and then read some elements at a time, so that the whole of it need not be in memory.
/// [`Checkpoint`](crate::Checkpoint) and [`SeededWeights`](crate::SeededWeights) are two sources.
pub trait TensorSource {
    /// Whether there is a tensor `name`. The model asks this only of tensors that may be absent.
    fn has(&self, name: &str) -> bool;

    /// Begins with tensor `name`. The model makes room for it only afterwards.
    ///
    /// # Errors
    /// [`TensorMissing`](crate::Error::TensorMissing), [`TensorShape`](crate::Error::TensorShape); of a checkpoint also
    /// [`TensorType`](crate::Error::TensorType) and [`Io`](crate::Error::Io).
    fn open(&mut self, name: &str, shape: &[usize]) -> Result;

    /// The next elements, row-major, of the tensor opened last. The model asks for all of a tensor, and no more.
    ///
    /// # Errors
    /// [`Io`](crate::Error::Io), [`TensorNan`](crate::Error::TensorNan), [`TensorEnd`](crate::Error::TensorEnd).
    fn read(&mut self, values: &mut [f32]) -> Result;

    /// Called after the last tensor has been read.
    ///
    /// # Errors
    /// [`TensorExtra`](crate::Error::TensorExtra) when a tensor is left that nobody read.
    fn finish(&self) -> Result {
        Ok(())
    }
}
