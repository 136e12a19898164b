//! Scratch memory.

use crate::Error;
use aligned_vec::{AVec, ConstAlign};

/// Bytes that every buffer is aligned to: a cache line, and the widest register.
const ALIGN: usize = 64;

/// Values in a cache line.
const LINE: usize = ALIGN / size_of::<f32>();

/// Scratch memory that kernels reuse from call to call, so that in steady state nothing is allocated. It grows to
/// the largest call's need and keeps it until dropped.
///
/// One workspace serves any kernels, one call at a time.
pub struct Workspace {
    buffer: AVec<f32, ConstAlign<ALIGN>>,
}

impl Workspace {
    /// An empty workspace; allocates nothing.
    pub fn new() -> Self {
        Self { buffer: AVec::new(ALIGN) }
    }

    /// `len` values, aligned to 64 bytes, of unspecified contents.
    ///
    /// # Errors
    /// [`Error::SizeOverflow`], or [`Error::OutOfMemory`] when growing fails; the workspace stays usable.
    pub fn f32s(&mut self, len: usize) -> Result<&mut [f32], Error> {
        if len > self.buffer.len() {
            self.grow(len)?;
        }
        Ok(&mut self.buffer[..len])
    }

    /// Several buffers at once, each as [`f32s`](Workspace::f32s) gives them.
    ///
    /// # Errors
    /// As [`f32s`](Workspace::f32s).
    pub fn buffers<const N: usize>(&mut self, lens: [usize; N]) -> Result<[&mut [f32]; N], Error> {
        let padded = |len: usize| len.checked_next_multiple_of(LINE);
        let total = lens.iter().try_fold(0usize, |sum, &len| sum.checked_add(padded(len)?));
        let mut rest = self.f32s(total.ok_or(TOO_LARGE)?)?;
        Ok(lens.map(|len| {
            let (buffer, others) = std::mem::take(&mut rest).split_at_mut(len.next_multiple_of(LINE));
            rest = others;
            &mut buffer[..len]
        }))
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.buffer.capacity() * size_of::<f32>()
    }

    #[cold]
    fn grow(&mut self, len: usize) -> Result<(), Error> {
        let bytes = len.checked_mul(size_of::<f32>()).filter(|&n| n <= isize::MAX as usize - ALIGN).ok_or(TOO_LARGE)?;
        // The old contents are not worth copying, nor worth holding both.
        self.buffer = AVec::new(ALIGN);
        self.buffer.try_reserve_exact(len).map_err(|_| Error::OutOfMemory { bytes })?;
        self.buffer.resize(len, 0.0);
        Ok(())
    }
}

const TOO_LARGE: Error = Error::SizeOverflow { what: "elements of scratch memory" };

impl Default for Workspace {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Workspace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workspace").field("bytes", &self.bytes()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(buffer: &[f32]) -> usize {
        buffer.as_ptr() as usize
    }

    #[test]
    fn grows_never_shrinks() -> Result<(), Error> {
        let mut workspace = Workspace::new();
        assert_eq!((workspace.bytes(), workspace.f32s(0)?.len()), (0, 0));
        let first = address(workspace.f32s(1000)?);
        assert_eq!(first % ALIGN, 0);
        assert_eq!(workspace.f32s(10)?.len(), 10);
        assert_eq!(address(workspace.f32s(1000)?), first);
        assert!(workspace.bytes() >= 4000);
        Ok(())
    }

    #[test]
    fn buffers_are_apart_and_aligned() -> Result<(), Error> {
        let mut workspace = Workspace::new();
        let buffers = workspace.buffers([5, 0, 16, 17])?;
        assert_eq!(buffers.each_ref().map(|buffer| buffer.len()), [5, 0, 16, 17]);
        assert!(buffers.iter().all(|buffer| address(buffer).is_multiple_of(ALIGN)));
        let starts = buffers.each_ref().map(|buffer| address(buffer));
        assert_eq!([starts[2] - starts[0], starts[3] - starts[2]], [64, 64]);
        Ok(())
    }

    #[test]
    fn failure_is_an_error() -> Result<(), Error> {
        let mut workspace = Workspace::new();
        assert_eq!(workspace.f32s(usize::MAX).unwrap_err(), TOO_LARGE);
        assert_eq!(workspace.buffers([usize::MAX, 1]).unwrap_err(), TOO_LARGE);
        let len = isize::MAX as usize / 8;
        assert_eq!(workspace.f32s(len).unwrap_err(), Error::OutOfMemory { bytes: 4 * len });
        assert_eq!(workspace.f32s(3)?.len(), 3);
        Ok(())
    }
}
