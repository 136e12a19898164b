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
    /// When the tensor is missing or of another shape.
    fn open(&mut self, name: &str, shape: &[usize]) -> Result;

    /// The next elements, row-major, of the tensor opened last. The model asks for all of a tensor, and no more.
    ///
    /// # Errors
    /// When they cannot be read, or one is a NaN.
    fn read(&mut self, values: &mut [f32]) -> Result;

    /// Called after the last tensor has been read.
    ///
    /// # Errors
    /// When a tensor is left that nobody read.
    fn finish(&self) -> Result {
        Ok(())
    }
}
