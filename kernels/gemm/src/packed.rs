//! Weights packed once, used by every call.

use crate::pack::pack_panels;
use crate::tile::PANEL;
use aligned_vec::{AVec, ConstAlign};
use gristmill_core::{Error, MatRef};
use gristmill_simd::{Isa, Kernel, Simd};

/// A right-hand side B `[k, n]`, packed into panels of 16 columns.
///
/// The panels do not depend on the level or on the threads: one packed matrix serves all of them. It holds
/// `k * n` values with `n` rounded up to a multiple of 16.
#[derive(Clone)]
pub struct PackedRhs {
    panels: AVec<f32, ConstAlign<64>>,
    k: usize,
    n: usize,
}

impl PackedRhs {
    /// Packs a matrix as it stands: `[k, n]`, that is `[in, out]`.
    ///
    /// # Errors
    /// [`Error::SizeOverflow`] or [`Error::OutOfMemory`] when the panels cannot be held, [`Error::Level`] when
    /// `GRISTMILL_LEVEL` pins a level that cannot be used.
    pub fn from_in_out(b: MatRef<'_, f32>) -> Result<Self, Error> {
        let simd = Simd::choose(None)?;
        let (k, n) = (b.rows(), b.cols());
        let len = n
            .checked_next_multiple_of(PANEL)
            .and_then(|columns| columns.checked_mul(k))
            .filter(|&len| len <= isize::MAX as usize / size_of::<f32>() - PANEL)
            .ok_or(Error::SizeOverflow { what: "elements of a packed matrix" })?;
        let mut panels = AVec::new(64);
        panels.try_reserve_exact(len).map_err(|_| Error::OutOfMemory { bytes: len * size_of::<f32>() })?;
        panels.resize(len, 0.0);
        simd.run(Pack { b, panels: &mut panels });
        Ok(Self { panels, k, n })
    }

    /// Packs the weight of a linear layer, `[out, in] = [n, k]`, so that the product is `x W^T`.
    ///
    /// # Errors
    /// As [`from_in_out`](PackedRhs::from_in_out).
    pub fn from_out_in(weight: MatRef<'_, f32>) -> Result<Self, Error> {
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

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.panels.len() * size_of::<f32>()
    }

    /// Reads column `output` back: the `k` weights of one output, such as an embedding of a tied table.
    ///
    /// # Errors
    /// [`Error::RangeOutOfBounds`] when there is no such output, [`Error::ShapeMismatch`] when `weights` does not
    /// hold `k` values.
    pub fn row_into(&self, output: usize, weights: &mut [f32]) -> Result<(), Error> {
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
        let panel = &self.panels[output / PANEL * self.k * PANEL..];
        for (weight, row) in weights.iter_mut().zip(panel.chunks_exact(PANEL)) {
            *weight = row[output % PANEL];
        }
        Ok(())
    }

    /// The panels, `n.div_ceil(16)` times `k * 16` values.
    pub(crate) fn panels(&self) -> &[f32] {
        &self.panels
    }
}

impl std::fmt::Debug for PackedRhs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PackedRhs").field("k", &self.k).field("n", &self.n).finish_non_exhaustive()
    }
}

struct Pack<'p> {
    b: MatRef<'p, f32>,
    panels: &'p mut [f32],
}

impl Kernel for Pack<'_> {
    type Output = ();

    fn run<I: Isa>(self, isa: I) {
        pack_panels(isa, self.b, self.panels);
    }
}
