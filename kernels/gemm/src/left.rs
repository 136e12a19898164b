//! The left operand as tiles read it.

use crate::product::Chain;
use crate::tile::PANEL;
use gristmill_core::Operand;
use gristmill_simd::{Dtype, Isa};

/// Rows of A: the value of row `r` at step `p` lies at `start + r * row + p * step`, counted in f32, or, where dot
/// products read pairs of steps, in bf16.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Left {
    start: *const u8,
    size: isize,
    pub(crate) row: isize,
    pub(crate) step: isize,
}

impl Left {
    /// The rows from `r` on.
    pub(crate) fn advanced(self, r: usize) -> Self {
        Self { start: self.at(r, 0).cast(), ..self }
    }

    /// Where row `r` at step `p` lies.
    pub(crate) fn at(&self, r: usize, p: usize) -> *const f32 {
        let values = r as isize * self.row + p as isize * self.step;
        self.start.wrapping_offset(values * self.size).cast()
    }
}

/// Bytes after which the sets of the first cache begin again.
const PAGE: usize = 4096;

/// Values of a gap that may have to be between two rows of A: of f32 that is multiplied with columns of f32, if rows and
/// columns lie whole pages apart. Where they also begin alike, all of them contend for one set of the first cache, which
/// takes twice as long as copying rows apart from each other.
pub(crate) fn gap(a: &Operand<'_>, columns: &Operand<'_>) -> usize {
    let ([a_row, a_step], b_col) = (a.strides(), columns.strides()[1]);
    let pages = |stride: isize| (stride.unsigned_abs() * size_of::<f32>()).is_multiple_of(PAGE);
    let is_f32 = a.dtype() == Dtype::F32 && columns.dtype() == Dtype::F32;
    if is_f32 && a.rows() > 1 && a_step == 1 && pages(a_row) && pages(b_col) { PANEL } else { 0 }
}

/// Whether rows and columns begin alike: columns are also asked for some lines ahead.
pub(crate) fn begin_alike(a: &Operand<'_>, columns: &Operand<'_>) -> bool {
    let [a, b] = [a, columns].map(|m| m.ptr_at(0, 0).address().addr());
    a.wrapping_sub(b).wrapping_add(PAGE / 16) % PAGE < PAGE / 4
}

/// How many values of scratch [`left`] needs for these rows.
pub(crate) fn widened_len(a: &Operand<'_>, rows: usize, chain: Chain, gap: usize) -> usize {
    match chain {
        Chain::InOrder if a.dtype() == Dtype::F32 && gap == 0 => 0,
        Chain::InOrder => rows * (a.cols() + gap),
        Chain::OddFirst => rows * a.cols().next_multiple_of(2),
        Chain::Dot if a.strides()[1] == 1 => 0,
        Chain::Dot => rows * a.cols().div_ceil(2),
    }
}

/// Rows of A: where they are, or as the chain needs them, made once for all their uses in `scratch`.
///
/// - in order: f32 in place, or with a `gap` between rows, 16-bit types widened;
/// - odd first: widened, the steps of each pair swapped, with +0 for a missing odd one;
/// - dot products: bf16 with contiguous steps.
///
/// # Panics
/// If `scratch` is shorter than [`widened_len`].
pub(crate) fn left<I: Isa>(isa: I, a: Operand<'_>, chain: Chain, gap: usize, scratch: &mut [f32]) -> Left {
    let ([rows, k], [row, step]) = (a.shape(), a.strides());
    let scratch = &mut scratch[..widened_len(&a, rows, chain, gap)];
    if scratch.is_empty() {
        let (size, step) = if chain == Chain::Dot { (2, 1) } else { (4, step) };
        return Left { start: a.ptr_at(0, 0).address(), size, row, step };
    }
    let start = scratch.as_mut_ptr();
    if chain == Chain::Dot {
        let to = start.cast::<u16>();
        for i in 0..rows {
            for p in 0..k {
                // SAFETY: (i, p) is an element of A; the scratch holds `rows` times k values of 16 bits, rounded up.
                unsafe { *to.add(i * k.next_multiple_of(2) + p) = *a.ptr_at(i, p).cast_bits() };
            }
        }
        return Left { start: start.cast(), size: 2, row: k.next_multiple_of(2) as isize, step: 1 };
    }
    let swap = usize::from(chain == Chain::OddFirst);
    let depth = k.next_multiple_of(1 + swap) + gap;
    // Rows, or columns, that lie side by side in memory keep their order.
    let (row, step) = if row == 1 && step != 1 {
        for (p, to) in scratch.chunks_exact_mut(rows).enumerate() {
            let p = p ^ swap;
            if p < k {
                // SAFETY: the values of column p lie in A, side by side.
                unsafe { a.ptr_at(0, p).read(isa, 1, rows, to.as_mut_ptr()) };
            } else {
                to.fill(0.0);
            }
        }
        (1, rows as isize)
    } else {
        for (i, to) in scratch.chunks_exact_mut(depth).enumerate() {
            to[k..].fill(0.0);
            // SAFETY: the k values of row i lie in A.
            unsafe { a.ptr_at(i, 0).read(isa, step, k, to.as_mut_ptr()) };
            if swap == 1 {
                to.chunks_exact_mut(2).for_each(|pair| pair.swap(0, 1));
            }
        }
        (depth as isize, 1)
    };
    Left { start: start.cast(), size: 4, row, step }
}
