//! Panels that are kept.

use crate::kept::Kept;
use crate::pack::{PANEL, pack_operand};
use crate::pack_pairs::{pack_pairs, pair_index};
use crate::{Error, MatRef, Operand};
use gristmill_simd::{Bf16Magnitudes, Dtype, Element, Isa, Kernel, Simd, bf16};
use std::fmt;

/// The columns of a matrix in panels of 16, one after the other from a cache line on: rows of values ([`pack`](crate::pack)),
/// or of pairs where they are bf16 ([`pack_pairs`](crate::pack_pairs)).
#[derive(Clone)]
pub struct Panels<B: Element> {
    values: Kept<B>,
    /// Rows of a panel.
    depth: usize,
}

impl<B: Element> Panels<B> {
    /// Room for the panels of a matrix `[k, n]`, of which there are none yet.
    ///
    /// # Errors
    /// [`Error::SizeOverflow`] or [`Error::OutOfMemory`] when they cannot be held.
    pub fn with_room(k: usize, n: usize) -> Result<Self, Error> {
        // Whole pairs can be counted for every type: a product of any type may round its depth up to them.
        let pairs = k.checked_next_multiple_of(2);
        let (depth, len) = n
            .checked_next_multiple_of(PANEL)
            .zip(pairs.map(|even| if B::DTYPE == Dtype::Bf16 { even } else { k }))
            .and_then(|(columns, depth)| Some((depth, columns.checked_mul(depth)?)))
            .filter(|&(_, len)| len <= isize::MAX as usize / size_of::<B>() - PANEL)
            .ok_or(Error::SizeOverflow { what: "elements of a packed matrix" })?;
        Ok(Self { values: Kept::with_capacity(len)?, depth })
    }

    /// All values.
    pub fn values(&self) -> &[B] {
        &self.values
    }

    /// Makes panels for the first `n` columns, of zeros where they are new. A panel that is filled at once is still in cache.
    ///
    /// # Panics
    /// If there was no room made for so many.
    pub fn reach(&mut self, n: usize) {
        self.values.resize(n.next_multiple_of(PANEL) * self.depth, B::default());
    }

    /// Packs the columns of `b`, of any storage type: they become columns `first` and on. Those that begin with a panel are
    /// fastest.
    ///
    /// # Panics
    /// If there are no panels for them, or `b` has other rows.
    pub fn pack<T: Element>(&mut self, simd: Simd, first: usize, b: MatRef<'_, T>) {
        let [k, n] = [b.rows(), b.cols()];
        let depth = if B::DTYPE == Dtype::Bf16 { k.next_multiple_of(2) } else { k };
        assert!(n == 0 || depth == self.depth, "{k} rows, panels of {}", self.depth);
        if k == 0 || n == 0 {
            // Nothing to pack, for more columns than can be counted through, or rows than a panel can have.
            return;
        }
        // What is left of a panel that has begun, value by value.
        let begun = (first.next_multiple_of(PANEL) - first).min(n);
        let index = |p, j| if B::DTYPE == Dtype::Bf16 { pair_index(p, j) } else { p * PANEL + j };
        for (p, j) in (0..k).flat_map(|p| (0..begun).map(move |j| (p, j))) {
            let at = first / PANEL * PANEL * self.depth + index(p, first % PANEL + j);
            self.values[at] = B::from_f32(b.at(p, j).to_f32());
        }
        if begun < n {
            let len = (n - begun).next_multiple_of(PANEL) * self.depth;
            let panels = &mut self.values[(first + begun) * self.depth..][..len];
            simd.run(Pack { b: Operand::from(b).block(0..k, begun..n), panels });
        }
    }

    /// Reads the first values of column `j`, as many as `to` holds, in any storage type.
    ///
    /// # Panics
    /// If there is no panel for it.
    pub fn read_column<T: Element>(&self, j: usize, to: &mut [T]) {
        let panel = &self.values[j / PANEL * PANEL * self.depth..][..PANEL * self.depth];
        // Rows of a column that lie side by side.
        let together = if B::DTYPE == Dtype::Bf16 { 2 } else { 1 };
        for (row, to) in panel.chunks_exact(together * PANEL).zip(to.chunks_mut(together)) {
            for (to, &value) in to.iter_mut().zip(&row[together * (j % PANEL)..]) {
                *to = if T::DTYPE == B::DTYPE { T::from_bits(value.to_bits()) } else { T::from_f32(value.to_f32()) };
            }
        }
    }

    /// The magnitudes of values that are bf16; of others [`Bf16Magnitudes::NONE`].
    pub fn magnitudes(&mut self, simd: Simd) -> Bf16Magnitudes {
        as_bf16(&mut self.values).map_or(Bf16Magnitudes::NONE, |values| Bf16Magnitudes::find(simd, values))
    }
}

impl<B: Element> fmt::Debug for Panels<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Panels").field("type", &B::NAME).field("depth", &self.depth).finish_non_exhaustive()
    }
}

struct Pack<'p, B> {
    b: Operand<'p>,
    panels: &'p mut [B],
}

impl<B: Element> Kernel for Pack<'_, B> {
    type Output = ();

    fn run<I: Isa>(self, isa: I) {
        match as_bf16(self.panels) {
            Some(panels) => pack_pairs(isa, self.b, panels),
            None => pack_operand(isa, self.b, self.b.rows(), false, self.panels),
        }
    }
}

/// The values as bf16, if they are.
fn as_bf16<B: Element>(values: &mut [B]) -> Option<&mut [bf16]> {
    // SAFETY: B is bf16.
    (B::DTYPE == Dtype::Bf16).then(|| unsafe { &mut *(values as *mut [B] as *mut [bf16]) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use gristmill_simd::f16;

    fn columns_come_back<B: Element>() -> Result<(), Error> {
        for (k, n) in [(0, 3), (1, 1), (3, 16), (4, 17), (33, 40)] {
            let at = |p: usize, j: usize| (p * 64 + j) as f32 + 0.5;
            let rows: Vec<f32> = (0..k * n).map(|i| at(i / n, i % n)).collect();
            let mut panels = Panels::<B>::with_room(k, n)?;
            panels.reach(n);
            // Within a panel, to its end and beyond it.
            for ends in [0, 5, 13, n].map(|end| end.min(n)).windows(2) {
                let part = MatRef::new(&rows, k, n)?.submatrix(0..k, ends[0]..ends[1])?;
                panels.pack(Simd::choose(None)?, ends[0], part);
            }
            for j in 0..n {
                let mut column = vec![0.0f32; k];
                panels.read_column(j, &mut column);
                let expected: Vec<f32> = (0..k).map(|p| B::from_f32(at(p, j)).to_f32()).collect();
                assert_eq!(column, expected, "{} {k} x {n}, column {j}", B::NAME);
            }
        }
        Ok(())
    }

    #[test]
    fn columns_of_every_type_come_back() -> Result<(), Error> {
        columns_come_back::<f32>()?;
        columns_come_back::<f16>()?;
        columns_come_back::<bf16>()
    }

    #[test]
    fn too_many_columns_are_refused() {
        for (k, n) in [(usize::MAX, 2), (2, usize::MAX), (usize::MAX / 8, 1)] {
            let refused = Panels::<bf16>::with_room(k, n).map(|_| ());
            assert!(matches!(refused, Err(Error::SizeOverflow { .. })), "{k} x {n}: {refused:?}");
        }
        assert!(Panels::<f32>::with_room(usize::MAX - 1, 0).is_ok());
        assert!(Panels::<f32>::with_room(usize::MAX, 0).is_err());
    }

    #[test]
    #[should_panic(expected = "6 rows, panels of 4")]
    fn columns_of_another_depth_are_refused() {
        let mut panels = Panels::<f32>::with_room(4, 32).unwrap();
        panels.reach(32);
        panels.pack(Simd::choose(None).unwrap(), 5, MatRef::new(&[1.0f32; 18], 6, 3).unwrap());
    }
}
