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

use crate::{MatRef, Operand};
use gristmill_simd::{Element, Isa, Kernel, typed};

/// Columns of a panel.
pub const PANEL: usize = 16;

/// Packs the columns of `b` into `panels`: `b.cols().div_ceil(16)` panels of `b.rows() * 16` values.
///
/// # Panics
/// If `panels` has another length.
pub fn pack_panels<I: Isa, S: Element, D: Element>(isa: I, b: MatRef<'_, S>, panels: &mut [D]) {
    pack_operand(isa, b.into(), b.rows(), false, panels);
}

/// [`pack_panels`] of a matrix of any type, into panels of `depth` rows, of which those that B lacks are left alone. With
/// `swap` the rows of each pair change places, and a missing one is zero; `depth` is even then.
/// # Panics
/// As [`pack_panels`].
pub fn pack_operand<I: Isa, D: Element>(isa: I, b: Operand<'_>, depth: usize, swap: bool, panels: &mut [D]) {
    assert!(b.rows() <= depth && panels.len() == b.cols().div_ceil(PANEL) * depth * PANEL, "length of the panels");
    debug_assert!(!swap || depth.is_multiple_of(2), "pairs of {depth} rows");
    if b.rows() > 0 {
        isa.vectorize(Pack { b, depth, swap: usize::from(swap), panels });
    }
}

struct Pack<'p, D> {
    b: Operand<'p>,
    depth: usize,
    swap: usize,
    panels: &'p mut [D],
}

impl<D: Element> Kernel for Pack<'_, D> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        typed!(self.b.dtype(), S => Columns::<S>::new(self.b, self.swap).pack(isa, self.depth, self.panels))
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
    /// Row `p` becomes row `p ^ swap`.
    swap: usize,
}

impl<S: Element> Columns<S> {
    #[inline(always)]
    pub(crate) fn new(b: Operand<'_>, swap: usize) -> Self {
        let ([k, n], [row, col]) = (b.shape(), b.strides());
        Self { start: b.ptr_at(0, 0).cast(), k, n, row, col, swap }
    }

    #[inline(always)]
    pub(crate) fn at(&self, p: usize, j: usize) -> *const S {
        self.start.wrapping_offset(p as isize * self.row + j as isize * self.col)
    }

    #[inline(always)]
    fn pack<I: Isa, D: Element>(self, isa: I, depth: usize, panels: &mut [D]) {
        for (q, panel) in panels.chunks_exact_mut(depth * PANEL).enumerate() {
            let first = q * PANEL;
            let cols = PANEL.min(self.n - first);
            let done = if self.row == 1 && cols == PANEL {
                self.transpose_panel(isa, first, panel)
            } else if self.col == 1 {
                self.copy_panel(isa, first, cols, panel)
            } else {
                0
            };
            // Any strides, value by value.
            for p in done..if self.swap == 0 { self.k } else { depth } {
                for (j, out) in panel[(p ^ self.swap) * PANEL..][..PANEL].iter_mut().enumerate() {
                    let exists = p < self.k && j < cols;
                    // SAFETY: row p and column `first + j` are B's.
                    *out = if exists { D::from_f32(unsafe { *self.at(p, first + j) }.to_f32()) } else { D::default() };
                }
            }
        }
    }

    /// Columns that lie one after the other in memory: blocks of words are transposed in registers. Returns how many rows
    /// are done.
    #[inline(always)]
    fn transpose_panel<I: Isa, D: Element>(&self, isa: I, first: usize, panel: &mut [D]) -> usize {
        const WORDS: usize = 4;
        let block = WORDS * S::PER_WORD;
        let whole = self.k / block * block;
        for p in (0..whole).step_by(block) {
            let rows = &mut panel[p * PANEL..][..block * PANEL];
            for j in (0..PANEL).step_by(I::LANES) {
                // SAFETY: LANES columns lie in B, a column being contiguous, with a block of rows each.
                let words =
                    unsafe { isa.load_columns(self.at(p, first + j).cast(), self.col * S::DTYPE.size() as isize) };
                for (u, words) in words.into_iter().enumerate() {
                    for (s, row) in S::split(isa, words).into_iter().enumerate().take(S::PER_WORD) {
                        let to = ((u * S::PER_WORD + s) ^ self.swap) * PANEL + j;
                        // SAFETY: a register fits from there on: swapping stays within the block, which is even.
                        unsafe { D::store(isa, rows.as_mut_ptr().add(to), row) };
                    }
                }
            }
        }
        whole
    }

    /// Rows of B that are contiguous: copied. Returns how many there are.
    #[inline(always)]
    fn copy_panel<I: Isa, D: Element>(&self, isa: I, first: usize, cols: usize, panel: &mut [D]) -> usize {
        for p in 0..self.k {
            for (v, out) in panel[(p ^ self.swap) * PANEL..][..PANEL].chunks_exact_mut(I::LANES).enumerate() {
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
        self.k
    }
}
