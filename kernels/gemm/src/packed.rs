//! Weights packed once, used by every call.

use crate::product::Right;
use gristmill_core::{Error, MatRef, panels::Panels};
use gristmill_simd::{Bf16Magnitudes, Element, Simd, TypedPtr};

/// A right-hand side B `[k, n]`, packed into panels of 16 columns.
///
/// The panels do not depend on the level or on the threads: one packed matrix serves all of them. It holds
/// `k * n` values of the storage type `B`, with `n` rounded up to a multiple of 16. To pack a matrix into another type
/// than its own, use a [`PackedRhsBuilder`].
#[derive(Clone, Debug)]
pub struct PackedRhs<B: Element = f32> {
    panels: Panels<B>,
    k: usize,
    n: usize,
    working_set: usize,
    /// Those of bf16 values; of other types nobody asks.
    magnitudes: Bf16Magnitudes,
}

impl<B: Element> PackedRhs<B> {
    /// Packs a matrix as it stands: `[k, n]`, that is `[in, out]`.
    ///
    /// # Errors
    /// [`Error::SizeOverflow`] or [`Error::OutOfMemory`] when the panels cannot be held, [`Error::Level`] when
    /// `GRISTMILL_LEVEL` pins a level that cannot be used.
    pub fn from_in_out(b: MatRef<'_, B>) -> Result<Self, Error> {
        let simd = Simd::choose(None)?;
        let (k, n) = (b.rows(), b.cols());
        let mut panels = Panels::with_room(k, n)?;
        panels.reach(n);
        panels.pack(simd, 0, b);
        let magnitudes = panels.magnitudes(simd);
        Ok(Self { panels, k, n, working_set: 0, magnitudes })
    }

    /// Packs the weight of a linear layer, `[out, in] = [n, k]`, so that the product is `x W^T`.
    ///
    /// # Errors
    /// As [`from_in_out`](PackedRhs::from_in_out).
    pub fn from_out_in(weight: MatRef<'_, B>) -> Result<Self, Error> {
        Self::from_in_out(weight.transposed())
    }

    /// Rows of B: inputs.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Columns of B: outputs.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Bytes held, in a slab that other weights share ([`gristmill_core::kept`]).
    pub fn bytes(&self) -> usize {
        size_of_val(self.panels.values())
    }

    /// Says that so many bytes are read in turn, these panels among them, as all weights of a model are: whether a product
    /// of few rows finds them in a cache or in memory decides how it reads them. Results do not depend on it.
    ///
    /// Unless told, the panels are all that is read.
    pub fn set_working_set(&mut self, bytes: usize) {
        self.working_set = bytes;
    }

    /// What [`set_working_set`](PackedRhs::set_working_set) was told, and at least the bytes held.
    pub fn working_set(&self) -> usize {
        self.working_set.max(self.bytes())
    }

    /// Reads column `output` back: the `k` weights of one output, such as an embedding of a tied table, in any storage
    /// type.
    ///
    /// # Errors
    /// [`Error::RangeOutOfBounds`] when there is no such output, [`Error::ShapeMismatch`] when `weights` does not
    /// hold `k` values.
    pub fn row_into<T: Element>(&self, output: usize, weights: &mut [T]) -> Result<(), Error> {
        if output >= self.n {
            return Err(Error::RangeOutOfBounds { start: output, end: output.saturating_add(1), len: self.n });
        }
        if weights.len() != self.k {
            return Err(Error::ShapeMismatch {
                what: "length of the weights of one output",
                expected: self.k,
                found: weights.len(),
            });
        }
        self.panels.read_column(output, weights);
        Ok(())
    }

    /// The panels, `n.div_ceil(16)` times `k * 16` values, or of bf16 as many rows of pairs as hold `k` values.
    pub(crate) fn erased(&self) -> Right<'_> {
        let panels = TypedPtr::new(self.panels.values().as_ptr());
        Right::Packed { panels, working_set: self.working_set(), magnitudes: self.magnitudes }
    }
}

/// A [`PackedRhs`] in the making, from the weight of a linear layer `[out, in]` whose rows come some at a time: the
/// weight itself is never in memory as a whole. They may be of another storage type than the panels.
///
/// ```
/// use gristmill_core::MatRef;
/// use gristmill_gemm::PackedRhsBuilder;
///
/// let mut builder = PackedRhsBuilder::<f32>::new(2, 3)?; // 2 inputs, 3 outputs
/// builder.push(MatRef::new(&[1.0, 2.0], 1, 2)?)?;
/// builder.push(MatRef::new(&[3.0, 4.0, 5.0, 6.0], 2, 2)?)?;
/// let weight = builder.finish()?;
/// assert_eq!((weight.k(), weight.n()), (2, 3));
/// # Ok::<(), gristmill_core::Error>(())
/// ```
#[derive(Debug)]
pub struct PackedRhsBuilder<B: Element = f32> {
    packed: PackedRhs<B>,
    simd: Simd,
    /// Outputs that have come.
    done: usize,
}

impl<B: Element> PackedRhsBuilder<B> {
    /// Room for a weight `[outputs, inputs]`.
    ///
    /// # Errors
    /// As [`PackedRhs::from_in_out`].
    pub fn new(inputs: usize, outputs: usize) -> Result<Self, Error> {
        let simd = Simd::choose(None)?;
        let panels = Panels::with_room(inputs, outputs)?;
        let packed = PackedRhs { panels, k: inputs, n: outputs, working_set: 0, magnitudes: Bf16Magnitudes::NONE };
        Ok(Self { packed, simd, done: 0 })
    }

    /// Outputs that are still to come.
    pub fn left(&self) -> usize {
        self.packed.n - self.done
    }

    /// Packs the next rows of the weight, `[count, inputs]`, each value widened exactly or rounded once, to nearest
    /// even, to the type of the panels. Multiples of 16 rows are fastest.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for rows of another length, [`Error::RangeOutOfBounds`] for more rows than are left.
    /// Nothing is packed then.
    pub fn push<T: Element>(&mut self, rows: MatRef<'_, T>) -> Result<(), Error> {
        let PackedRhs { panels, k, n, .. } = &mut self.packed;
        if rows.cols() != *k {
            return Err(Error::ShapeMismatch { what: "inputs of a weight", expected: *k, found: rows.cols() });
        }
        let end = self.done.saturating_add(rows.rows());
        if end > *n {
            return Err(Error::RangeOutOfBounds { start: self.done, end, len: *n });
        }
        panels.reach(end);
        panels.pack(self.simd, self.done, rows.transposed());
        self.done = end;
        Ok(())
    }

    /// The packed weight.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] when outputs are missing.
    pub fn finish(mut self) -> Result<PackedRhs<B>, Error> {
        if self.left() > 0 {
            let (expected, found) = (self.packed.n, self.done);
            return Err(Error::ShapeMismatch { what: "outputs of a packed weight", expected, found });
        }
        self.packed.magnitudes = self.packed.panels.magnitudes(self.simd);
        Ok(self.packed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gristmill_simd::{bf16, f16};

    /// Panels of `B` from rows of `T` in portions, against those of the rounded weight as a whole.
    fn portions<T: Element, B: Element>() -> Result<(), Error> {
        for (n, k) in [(0, 3), (1, 1), (15, 4), (16, 9), (53, 33), (64, 0)] {
            let weight: Vec<T> = (0..n * k).map(|i| T::from_f32(i as f32 * 1.37 + 0.5)).collect();
            let rounded: Vec<B> = weight.iter().map(|&x| B::from_f32(x.to_f32())).collect();
            let whole = PackedRhs::from_out_in(MatRef::new(&rounded, n, k)?)?;
            for portion in [1, 3, 16, 17, 48, 64] {
                let mut builder = PackedRhsBuilder::<B>::new(k, n)?;
                for first in (0..n).step_by(portion) {
                    let end = n.min(first + portion);
                    builder.push(MatRef::new(&weight[first * k..end * k], end - first, k)?)?;
                    assert_eq!(builder.left(), n - end);
                }
                assert_eq!(builder.finish()?.panels.values(), whole.panels.values(), "{n} x {k} by {portion}");
            }
        }
        Ok(())
    }

    #[test]
    fn rows_may_come_in_any_portions_and_types() -> Result<(), Error> {
        portions::<f32, f32>()?;
        portions::<f32, f16>()?;
        portions::<f32, bf16>()?;
        portions::<f16, f32>()?;
        portions::<bf16, f16>()?;
        portions::<bf16, bf16>()
    }

    /// Sizes as large as they get where there is nothing to hold.
    fn nothing<B: Element>() -> Result<(), Error> {
        let none: [B; 0] = [];
        let most = usize::MAX - 1;
        assert_eq!(PackedRhs::from_in_out(MatRef::new(&none, most, 0)?)?.k(), most);
        assert_eq!(PackedRhs::from_in_out(MatRef::new(&none, 1 << 60, 0)?)?.n(), 0);
        let outputs = 1 << 60;
        assert_eq!(PackedRhs::from_in_out(MatRef::new(&none, 0, outputs)?)?.n(), outputs);
        let mut builder = PackedRhsBuilder::<B>::new(0, outputs)?;
        builder.push(MatRef::new(&none, outputs - 1, 0)?)?;
        assert_eq!(builder.left(), 1);
        builder.push(MatRef::new(&none, 1, 0)?)?;
        assert_eq!(builder.finish()?.bytes(), 0);
        Ok(())
    }

    #[test]
    fn no_size_is_too_large_for_nothing() -> Result<(), Error> {
        nothing::<f32>()?;
        nothing::<bf16>()
    }

    #[test]
    fn wrong_rows_are_refused() -> Result<(), Error> {
        let mut builder = PackedRhsBuilder::<f32>::new(2, 3)?;
        let mismatch = Error::ShapeMismatch { what: "inputs of a weight", expected: 2, found: 3 };
        assert_eq!(builder.push(MatRef::new(&[0.0; 3], 1, 3)?), Err(mismatch));
        builder.push(MatRef::new(&[1.0; 4], 2, 2)?)?;
        let outside = Error::RangeOutOfBounds { start: 2, end: 4, len: 3 };
        assert_eq!(builder.push(MatRef::new(&[0.0; 4], 2, 2)?), Err(outside));
        let missing = Error::ShapeMismatch { what: "outputs of a packed weight", expected: 3, found: 2 };
        assert_eq!(builder.finish().map(|_| ()), Err(missing));
        assert!(matches!(PackedRhsBuilder::<f32>::new(usize::MAX, 2).map(|_| ()), Err(Error::SizeOverflow { .. })));
        Ok(())
    }
}
