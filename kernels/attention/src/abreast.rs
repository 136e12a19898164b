//! Products of single rows, those of several heads in step.
//!
//! One query of one head has few chains of multiply-adds, each as long as a head is wide: alone it would wait for its
//! own sums, and for one stream of keys after another.

use crate::product::Product;
use gristmill_gemm::tile::PANEL;
use gristmill_simd::{Dtype, Element, Isa, Kernel, bf16, f16};
use std::array;

/// A [`Product`] whose rows each have a right operand of their own.
pub(crate) struct Abreast {
    product: Product,
    rows: usize,
    /// Of columns.
    panels: usize,
    depth: usize,
}

impl Abreast {
    /// `rows` by `cols` elements, each a chain of `depth` multiply-adds.
    ///
    /// # Safety
    /// P1 and P3 to P5 of [`Product`] for so many rows, and P2 for whole panels of each row.
    #[inline(always)]
    pub(crate) unsafe fn new(product: Product, [rows, cols, depth]: [usize; 3]) -> Self {
        Self { product, rows, panels: cols.div_ceil(PANEL), depth }
    }

    #[inline(always)]
    fn of<I: Isa, B: Element>(&self, isa: I) {
        // The rows of values of several heads lie side by side, their panels of keys one after the other.
        let values = self.product.right.panel == PANEL as isize;
        let mut panel = 0;
        while panel < self.panels {
            // As few streams as keep the multiply-adds busy at the speed of the memory.
            let panels = match (I::LANES, self.panels - panel, values) {
                (16, 8.., true) => self.rows::<I, B, 2, 8>(isa, panel),
                (16, 4.., true) => self.rows::<I, B, 4, 4>(isa, panel),
                (16, 4.., _) if B::DTYPE == Dtype::F32 => self.rows::<I, B, 1, 4>(isa, panel),
                (16, 4.., _) => self.rows::<I, B, 2, 4>(isa, panel),
                (16, 2.., _) => self.rows::<I, B, 4, 2>(isa, panel),
                (16, ..) => self.rows::<I, B, 8, 1>(isa, panel),
                (8, 2.., _) => self.rows::<I, B, 2, 2>(isa, panel),
                (8, ..) => self.rows::<I, B, 4, 1>(isa, panel),
                _ => self.rows::<I, B, 2, 1>(isa, panel),
            };
            panel += panels;
        }
    }

    /// `NP` panels of all rows from `panel` on, `MR` rows at a time; NP.
    #[inline(always)]
    fn rows<I: Isa, B: Element, const MR: usize, const NP: usize>(&self, isa: I, panel: usize) -> usize {
        let mut row = 0;
        while row < self.rows {
            // SAFETY: the promise that was made for all rows and panels.
            unsafe {
                if row + MR <= self.rows {
                    self.chains::<I, B, MR, NP>(isa, row, panel);
                    row += MR;
                } else {
                    self.chains::<I, B, 1, NP>(isa, row, panel);
                    row += 1;
                }
            }
        }
        NP
    }

    /// # Safety
    /// There are MR rows from `row` on, and NP panels from `panel` on, of what [`new`](Self::new) was promised.
    #[inline(always)]
    unsafe fn chains<I: Isa, B: Element, const MR: usize, const NP: usize>(&self, isa: I, row: usize, panel: usize) {
        let Product { left, right, c, c_row, alpha, accumulate, chains, ahead: _ } = self.product;
        let at = row * c_row + panel * PANEL;
        // Loops over constants throughout: indices that are not would keep the sums in memory.
        let mut sums = [[isa.splat_row(0.0); NP]; MR];
        if !chains.is_null() {
            for (r, row) in sums.iter_mut().enumerate() {
                for (q, panel) in row.iter_mut().enumerate() {
                    for (v, sum) in panel.as_mut().iter_mut().enumerate() {
                        // SAFETY: P5.
                        *sum = unsafe { isa.load(chains.add(at + r * c_row + q * PANEL + v * I::LANES)) };
                    }
                }
            }
        }
        let first = right.start.cast::<B>().wrapping_offset(panel as isize * right.panel);
        let mut a: [_; MR] = array::from_fn(|r| left.start.wrapping_offset((row + r) as isize * left.row));
        let mut b: [_; MR] = array::from_fn(|r| first.wrapping_offset((row + r) as isize * right.row));
        for _ in 0..self.depth {
            for (r, row) in sums.iter_mut().enumerate() {
                // SAFETY: P1.
                let x = isa.splat(unsafe { *a[r] });
                for (q, sums) in row.iter_mut().enumerate() {
                    let panel = b[r].wrapping_offset(q as isize * right.panel);
                    for (v, sum) in sums.as_mut().iter_mut().enumerate() {
                        // SAFETY: P2.
                        *sum = isa.fma(x, unsafe { B::load(isa, panel.wrapping_add(v * I::LANES)) }, *sum);
                    }
                }
                (a[r], b[r]) = (a[r].wrapping_offset(left.step), b[r].wrapping_offset(right.step));
            }
        }
        for (r, row) in sums.iter().enumerate() {
            for (q, panel) in row.iter().enumerate() {
                for (v, &sum) in panel.as_ref().iter().enumerate() {
                    let y = if alpha == 1.0 { sum } else { isa.mul(sum, isa.splat(alpha)) };
                    // SAFETY: P3.
                    unsafe {
                        let c = c.add(at + r * c_row + q * PANEL + v * I::LANES);
                        isa.store(c, if accumulate { isa.add(y, isa.load(c)) } else { y });
                    }
                }
            }
        }
    }
}

impl Kernel for Abreast {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        match self.product.right.start.dtype() {
            Dtype::F32 => self.of::<I, f32>(isa),
            Dtype::F16 => self.of::<I, f16>(isa),
            Dtype::Bf16 => self.of::<I, bf16>(isa),
        }
    }
}
