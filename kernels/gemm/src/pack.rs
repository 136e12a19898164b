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
//!
//! Panels may be of another storage type than B: values are widened exactly or rounded once.

use crate::tile::PANEL;
use gristmill_core::{MatRef, Operand};
use gristmill_simd::{Dtype, Element, Isa, Kernel, TypedPtr, typed};

/// Packs the columns of `b` into `panels`: `b.cols().div_ceil(16)` panels of `b.rows() * 16` values.
///
/// # Panics
/// If `panels` has another length.
pub fn pack_panels<I: Isa, S: Element, D: Element>(isa: I, b: MatRef<'_, S>, panels: &mut [D]) {
    pack_operand(isa, b.into(), b.rows(), panels);
}

/// [`pack_panels`] of a matrix of any type, into panels of `depth` rows, of which those that B lacks are left alone.
pub(crate) fn pack_operand<I: Isa, D: Element>(isa: I, b: Operand<'_>, depth: usize, panels: &mut [D]) {
    assert!(b.rows() <= depth && panels.len() == b.cols().div_ceil(PANEL) * depth * PANEL, "length of the panels");
    if b.rows() > 0 {
        isa.vectorize(Pack { b, depth, panels });
    }
}

/// `x` in another storage type.
#[inline(always)]
pub(crate) fn convert<S: Element, D: Element>(x: S) -> D {
    D::from_f32(x.to_f32())
}

struct Pack<'p, D> {
    b: Operand<'p>,
    depth: usize,
    panels: &'p mut [D],
}

impl<D: Element> Kernel for Pack<'_, D> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        typed!(self.b.dtype(), S => Columns::<S>::new(self.b).pack(isa, self.depth, self.panels))
    }
}

/// A matrix of a known type, whose columns are packed.
#[derive(Clone, Copy)]
pub(crate) struct Columns<S> {
    start: *const S,
    pub(crate) k: usize,
    pub(crate) n: usize,
    pub(crate) row: isize,
    pub(crate) col: isize,
}

impl<S: Element> Columns<S> {
    #[inline(always)]
    pub(crate) fn new(b: Operand<'_>) -> Self {
        let ([k, n], [row, col]) = (b.shape(), b.strides());
        Self { start: b.ptr_at(0, 0).cast(), k, n, row, col }
    }

    #[inline(always)]
    pub(crate) fn at(&self, p: usize, j: usize) -> *const S {
        self.start.wrapping_offset(p as isize * self.row + j as isize * self.col)
    }

    #[inline(always)]
    fn pack<I: Isa, D: Element>(self, isa: I, depth: usize, panels: &mut [D]) {
        for (q, panel) in panels.chunks_exact_mut(depth * PANEL).enumerate() {
            let panel = &mut panel[..self.k * PANEL];
            let first = q * PANEL;
            let cols = PANEL.min(self.n - first);
            if self.row == 1 && cols == PANEL {
                self.transpose_panel(isa, first, panel);
            } else if self.col == 1 {
                self.copy_panel(isa, first, cols, panel);
            } else {
                self.gather_panel(first, cols, 0, panel);
            }
        }
    }

    /// Columns that lie one after the other in memory: blocks are transposed in registers.
    #[inline(always)]
    fn transpose_panel<I: Isa, D: Element>(&self, isa: I, first: usize, panel: &mut [D]) {
        let whole = self.k / I::LANES * I::LANES;
        // Blocks of 16-bit types pass through these.
        let mut wide = [0.0f32; PANEL * PANEL];
        let mut turned = [0.0f32; PANEL * PANEL];
        for p in (0..whole).step_by(I::LANES) {
            for j in (0..PANEL).step_by(I::LANES) {
                let (src, src_stride): (*const f32, isize) = if S::DTYPE == Dtype::F32 {
                    (self.at(p, first + j).cast(), self.col)
                } else {
                    for c in 0..I::LANES {
                        // SAFETY: LANES values of column `first + j + c` lie in B side by side; `wide` has LANES rows.
                        unsafe {
                            let x = S::load(isa, self.at(p, first + j + c));
                            isa.store(wide.as_mut_ptr().add(c * I::LANES), x);
                        }
                    }
                    (wide.as_ptr(), I::LANES as isize)
                };
                let out = panel[p * PANEL + j..][..(I::LANES - 1) * PANEL + I::LANES].as_mut_ptr();
                // SAFETY: LANES columns of LANES rows lie in B, a column being contiguous, or in `wide`; as many rows
                // of 16 values lie in the panel from `out` on, which nobody else uses, and in `turned`.
                unsafe {
                    if D::DTYPE == Dtype::F32 {
                        isa.transpose(src, src_stride, out.cast(), PANEL);
                    } else {
                        isa.transpose(src, src_stride, turned.as_mut_ptr(), PANEL);
                        for r in 0..I::LANES {
                            D::store(isa, out.add(r * PANEL), isa.load(turned.as_ptr().add(r * PANEL)));
                        }
                    }
                }
            }
        }
        self.gather_panel(first, PANEL, whole, panel);
    }

    /// Rows of B that are contiguous: copied.
    #[inline(always)]
    fn copy_panel<I: Isa, D: Element>(&self, isa: I, first: usize, cols: usize, panel: &mut [D]) {
        for (p, row) in panel.chunks_exact_mut(PANEL).enumerate() {
            for (v, out) in row.chunks_exact_mut(I::LANES).enumerate() {
                let j = v * I::LANES;
                let src = self.at(p, first + j);
                // SAFETY: the register or its tail covers columns of row p that B has, or none; `out` holds a register.
                unsafe {
                    let x = match cols.saturating_sub(j) {
                        left if left >= I::LANES => S::load(isa, src),
                        left => S::load_tail(isa, src, isa.tail(left)),
                    };
                    D::store(isa, out.as_mut_ptr(), x);
                }
            }
        }
    }

    /// Any strides, value by value, from row `from` on.
    #[inline(always)]
    fn gather_panel<D: Element>(&self, first: usize, cols: usize, from: usize, panel: &mut [D]) {
        for (p, row) in panel.chunks_exact_mut(PANEL).enumerate().skip(from) {
            for (j, out) in row.iter_mut().enumerate() {
                // SAFETY: row p and column `first + j` are B's.
                *out = if j < cols { convert(unsafe { *self.at(p, first + j) }) } else { D::default() };
            }
        }
    }
}

/// Widens values that lie side by side.
///
/// # Safety
/// `to.len()` values at `from` must be readable.
pub(crate) unsafe fn widen<I: Isa>(isa: I, from: TypedPtr, to: &mut [f32]) {
    // SAFETY: the caller's promise; a slice that is borrowed exclusively overlaps nothing.
    unsafe { from.read(isa, 1, to.len(), to.as_mut_ptr()) };
}
