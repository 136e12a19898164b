//! Writing tokens into a page of a cache: keys transposed in panels, values in rows.

use gristmill_core::MatRef;
use gristmill_gemm::pack::pack_panels;
use gristmill_gemm::tile::PANEL;
use gristmill_simd::{Element, Isa, Kernel, slices};

/// Writes some tokens of one head into a page, from `slot` on.
pub(crate) struct Write<'w, S, T> {
    pub(crate) k: MatRef<'w, S>,
    pub(crate) v: MatRef<'w, S>,
    pub(crate) slot: usize,
    pub(crate) keys: &'w mut [T],
    pub(crate) values: &'w mut [T],
}

impl<S: Element, T: Element> Kernel for Write<'_, S, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let (n, dim) = (self.k.rows(), self.k.cols());
        // One by one up to the next panel; panels that begin here are packed, and filled up with zeros.
        let lead = n.min(self.slot.next_multiple_of(PANEL) - self.slot);
        for t in 0..lead {
            let slot = self.slot + t;
            let panel = &mut self.keys[slot / PANEL * PANEL * dim..][..PANEL * dim];
            for (d, column) in panel.chunks_exact_mut(PANEL).enumerate() {
                column[slot % PANEL] = T::from_f32(self.k.at(t, d).to_f32());
            }
        }
        if lead < n
            && let Ok(rest) = self.k.submatrix(lead..n, 0..dim)
        {
            let at = (self.slot + lead) * dim;
            pack_panels(isa, rest.transposed(), &mut self.keys[at..][..(n - lead).next_multiple_of(PANEL) * dim]);
        }
        let width = self.v.cols();
        let rows = &mut self.values[self.slot * width..][..n * width];
        for t in 0..n {
            let to = &mut rows[t * width..][..width];
            match self.v.row(t) {
                Some(from) => slices::convert(isa, from, to),
                None => {
                    for (d, value) in to.iter_mut().enumerate() {
                        *value = T::from_f32(self.v.at(t, d).to_f32());
                    }
                }
            }
        }
    }
}
