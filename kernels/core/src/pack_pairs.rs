//! Rearranging B into panels of bf16 pairs: 16 columns, two rows of B at a time interleaved.

use crate::Operand;
use crate::pack::{Columns, PANEL};
use gristmill_simd::{Dtype, Element, Isa, Kernel, bf16, typed};

/// Values of a row of pairs.
pub const PAIR_ROW: usize = 2 * PANEL;

/// Packs the columns of `b`, of any storage type, into panels of pairs: `b.cols().div_ceil(16)` panels of
/// `b.rows().div_ceil(2)` rows of pairs.
///
/// # Panics
/// If `panels` has another length.
pub fn pack_pairs<I: Isa>(isa: I, b: Operand<'_>, panels: &mut [bf16]) {
    assert_eq!(panels.len(), b.cols().div_ceil(PANEL) * b.rows().div_ceil(2) * PAIR_ROW, "length of the panels");
    if b.rows() > 0 {
        isa.vectorize(Pack { b, panels });
    }
}

/// Where element `p` of column `j` lies in a panel.
pub fn pair_index(p: usize, j: usize) -> usize {
    p / 2 * PAIR_ROW + 2 * j + p % 2
}

struct Pack<'p> {
    b: Operand<'p>,
    panels: &'p mut [bf16],
}

impl Kernel for Pack<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        typed!(self.b.dtype(), S => pack(isa, Columns::<S>::new(self.b, 0), self.panels))
    }
}

#[inline(always)]
fn pack<I: Isa, S: Element>(isa: I, b: Columns<S>, panels: &mut [bf16]) {
    for (q, panel) in panels.chunks_exact_mut(b.k.div_ceil(2) * PAIR_ROW).enumerate() {
        let first = q * PANEL;
        let whole = first + PANEL <= b.n && S::DTYPE == Dtype::Bf16;
        let done = if whole && b.row == 1 && b.col % 2 == 0 {
            transpose_panel(isa, &b, first, panel)
        } else if whole && b.col == 1 {
            interleave_panel(isa, &b, first, panel)
        } else {
            0
        };
        for p in done..b.k.next_multiple_of(2) {
            for j in 0..PANEL {
                let exists = p < b.k && first + j < b.n;
                // SAFETY: row p and column `first + j` are B's.
                let x = if exists { unsafe { *b.at(p, first + j) }.to_f32() } else { 0.0 };
                panel[pair_index(p, j)] = bf16::from_f32(x);
            }
        }
    }
}

/// Columns of bf16 that lie one after the other: pairs are 32-bit lanes, of which blocks are transposed. Returns how
/// many rows are done.
#[inline(always)]
fn transpose_panel<I: Isa, S: Element>(isa: I, b: &Columns<S>, first: usize, panel: &mut [bf16]) -> usize {
    let block = 2 * I::LANES;
    let whole = b.k / block * block;
    for p in (0..whole).step_by(block) {
        for j in (0..PANEL).step_by(I::LANES) {
            let out = &mut panel[pair_index(p, j)..][..(I::LANES - 1) * PAIR_ROW + block];
            // SAFETY: LANES columns of LANES pairs lie in B, a column being contiguous; as many rows of 16 pairs lie in
            // the panel from `out` on, which nobody else uses.
            unsafe { isa.transpose(b.at(p, first + j).cast(), b.col / 2, out.as_mut_ptr().cast(), PANEL) };
        }
    }
    whole
}

/// Rows of bf16 that are contiguous: two at a time are interleaved. Returns how many are done.
#[inline(always)]
fn interleave_panel<I: Isa, S: Element>(isa: I, b: &Columns<S>, first: usize, panel: &mut [bf16]) -> usize {
    let whole = b.k / 2 * 2;
    let low = isa.splat_i32(0xffff);
    for (p, row) in (0..whole).step_by(2).zip(panel.chunks_exact_mut(PAIR_ROW)) {
        for (j, out) in (0..PANEL).step_by(I::LANES).zip(row.chunks_exact_mut(2 * I::LANES)) {
            // SAFETY: LANES columns from `first + j` on lie in rows p and p + 1 of B, side by side; `out` holds a
            // register.
            unsafe {
                // Not a map over both rows: its closure would not be inlined.
                let even = isa.to_bits(bf16::load(isa, b.at(p, first + j).cast()));
                let odd = isa.to_bits(bf16::load(isa, b.at(p + 1, first + j).cast()));
                let pairs = isa.or_i32(isa.and_i32(isa.shr_i32::<16>(even), low), odd);
                isa.store(out.as_mut_ptr().cast(), isa.from_bits(pairs));
            }
        }
    }
    whole
}
