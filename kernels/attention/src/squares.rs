//! The newest keys of a page: squares of 16 keys by 16 elements, which become a panel when there are 16 keys.
//!
//! ```text
//!    squares                              panel
//!    key 0   0 .. 16     key 0  16 .. 32  element  0 of 16 keys
//!    key 1   0 .. 16     key 1  16 .. 32  element  1 of 16 keys      each square is turned where it lies
//! ```
//!
//! A key that is appended to a panel goes to as many cache lines as it has elements, to squares to a sixteenth of them.
//! What is an element here is a pair of them in panels of bf16 pairs.

use gristmill_gemm::tile::PANEL;
use gristmill_simd::{Isa, TypedPtr};

/// Elements of a square.
pub(crate) const SQUARE: usize = PANEL * PANEL;

/// Makes a panel of full squares, of words of `word` elements.
#[inline(always)]
pub(crate) fn turn_in_place<T>(squares: &mut [T], word: usize) {
    for square in squares.chunks_exact_mut(SQUARE * word) {
        for key in 0..PANEL {
            for d in 0..key {
                let [from, to] = [key * PANEL + d, d * PANEL + key].map(|at| at * word);
                (0..word).for_each(|e| square.swap(from + e, to + e));
            }
        }
    }
}

/// Writes the panel of the first `keys` keys of some squares. Its other columns hold anything.
///
/// # Safety
/// These keys, of as many elements as `panel` has rows, are readable from `squares` on.
#[inline(always)]
pub(crate) unsafe fn turn<I: Isa>(isa: I, squares: TypedPtr, keys: usize, panel: &mut [f32]) {
    let mut square = [0.0; SQUARE];
    for (b, panel) in panel.chunks_exact_mut(SQUARE).enumerate() {
        // SAFETY: the caller's promise; squares, on both sides, are `PANEL` rows of `PANEL` elements.
        unsafe {
            squares.offset((b * SQUARE) as isize).read(isa, 1, keys * PANEL, square.as_mut_ptr());
            for key in (0..PANEL).step_by(I::LANES) {
                for d in (0..PANEL).step_by(I::LANES) {
                    let from = square.as_ptr().add(key * PANEL + d);
                    isa.transpose(from, PANEL as isize, panel.as_mut_ptr().add(d * PANEL + key), PANEL);
                }
            }
        }
    }
}
