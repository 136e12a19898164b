//! Where weights come from.

use crate::Error;

/// A supplier of tensors by name, in the names and shapes of the checkpoint form (linear weights `[out, in]`).
///
/// [`Checkpoint`](crate::Checkpoint) and [`SeededWeights`](crate::SeededWeights) are two.
pub trait TensorSource {
    /// Whether there is a tensor `name`. The model asks this only of tensors that may be absent.
    fn has(&self, name: &str) -> bool;

    /// Replaces `values` by the elements of tensor `name`, row-major.
    ///
    /// # Errors
    /// When the tensor is missing, of another shape, or holds a NaN.
    fn read(&mut self, name: &str, shape: &[usize], values: &mut Vec<f32>) -> Result<(), Error>;

    /// Called after the last tensor has been read.
    ///
    /// # Errors
    /// When a tensor is left that nobody read.
    fn finish(&self) -> Result<(), Error> {
        Ok(())
    }
}

/// Empties `values` and makes room for the elements of `shape`; their number.
pub(crate) fn make_room(shape: &[usize], values: &mut Vec<f32>) -> Result<usize, Error> {
    let elements = shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
    let elements = elements.ok_or(Error::OutOfMemory { elements: usize::MAX })?;
    values.clear();
    values.try_reserve_exact(elements).map_err(|_| Error::OutOfMemory { elements })?;
    Ok(elements)
}
