//! Rearranging B into panels.
//!
//! ```text
//!   B [k, n]                       panels, each k rows of 16 values, one after the other
//!   +------+------+---+            +------+
//!   |  0   |  1   | 2 |            |  0   |  k rows
//!   |      |      |   |     ->     +------+
//!   |      |      |   |            |  1   |
//!   +------+------+---+            +------+
//!      16     16    n % 16         |  2 00|  missing columns are zero
//!                                  +------+
//! ```

use crate::tile::PANEL;
use gristmill_core::MatRef;
use gristmill_simd::{Isa, Kernel};

/// Packs the columns of `b` into `panels`: `b.cols().div_ceil(16)` panels of `b.rows() * 16` values.
///
/// # Panics
/// If `panels` has another length.
pub fn pack_panels<I: Isa>(isa: I, b: MatRef<'_, f32>, panels: &mut [f32]) {
    assert_eq!(panels.len(), b.cols().div_ceil(PANEL) * b.rows() * PANEL, "length of the panels");
    if b.rows() > 0 {
        isa.vectorize(Pack { b, panels });
    }
}

struct Pack<'p> {
    b: MatRef<'p, f32>,
    panels: &'p mut [f32],
}

impl Kernel for Pack<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let (b, k) = (self.b, self.b.rows());
        for (q, panel) in self.panels.chunks_exact_mut(k * PANEL).enumerate() {
            let first = q * PANEL;
            let cols = PANEL.min(b.cols() - first);
            if b.row_stride() == 1 && cols == PANEL {
                transpose_panel(isa, b, first, panel);
            } else if b.col_stride() == 1 {
                copy_panel(isa, b, first, cols, panel);
            } else {
                gather_panel(b, first, cols, 0, panel);
            }
        }
    }
}

/// Columns that lie one after the other in memory: blocks are transposed in registers.
#[inline(always)]
fn transpose_panel<I: Isa>(isa: I, b: MatRef<'_, f32>, first: usize, panel: &mut [f32]) {
    let whole = b.rows() / I::LANES * I::LANES;
    for p in (0..whole).step_by(I::LANES) {
        for j in (0..PANEL).step_by(I::LANES) {
            let src = b.ptr_at(p, first + j);
            // SAFETY: LANES columns of LANES rows lie in B, a column being contiguous; as many rows of 16 values lie
            // in the panel, which nobody else uses.
            unsafe { isa.transpose(src, b.col_stride(), panel.as_mut_ptr().add(p * PANEL + j), PANEL) };
        }
    }
    gather_panel(b, first, PANEL, whole, panel);
}

/// Rows of B that are contiguous: copied.
#[inline(always)]
fn copy_panel<I: Isa>(isa: I, b: MatRef<'_, f32>, first: usize, cols: usize, panel: &mut [f32]) {
    for (p, row) in panel.chunks_exact_mut(PANEL).enumerate() {
        for (v, out) in row.chunks_exact_mut(I::LANES).enumerate() {
            let j = v * I::LANES;
            let tail = isa.tail(cols.saturating_sub(j));
            // SAFETY: the tail covers columns of row p that B has, or none; `out` holds a register.
            unsafe { isa.store(out.as_mut_ptr(), isa.load_tail(b.ptr_at(p, first + j), tail)) };
        }
    }
}

/// Any strides, value by value, from row `from` on.
#[inline(always)]
fn gather_panel(b: MatRef<'_, f32>, first: usize, cols: usize, from: usize, panel: &mut [f32]) {
    for (p, row) in panel.chunks_exact_mut(PANEL).enumerate().skip(from) {
        for (j, out) in row.iter_mut().enumerate() {
            *out = if j < cols { b.at(p, first + j) } else { 0.0 };
        }
    }
}
