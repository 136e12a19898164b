//! Keys of a head, packed into panels of 16 that lie step by step.

use gristmill_core::MatRef;
use gristmill_gemm::tile::PANEL;
use gristmill_simd::{Element, Isa, Kernel};
use std::ptr;

/// Words of each key that are turned at a time.
const WORDS: usize = 8;

/// Packs `keys`, whose elements lie side by side, into panels of as many steps as a key has elements. The columns that fill
/// up the last panel hold zeros.
///
/// # Panics
/// If the elements do not lie so, or `panels` has another length.
#[inline(always)]
pub(crate) fn pack_keys<I: Isa, S: Element>(isa: I, keys: MatRef<'_, S>, panels: &mut [f32]) {
    assert!(keys.col_stride() == 1, "elements side by side");
    assert!(panels.len() == keys.rows().next_multiple_of(PANEL) * keys.cols(), "length of the panels");
    if keys.cols() > 0 {
        isa.vectorize(Pack { keys, panels });
    }
}

struct Pack<'p, S> {
    keys: MatRef<'p, S>,
    panels: &'p mut [f32],
}

impl<S: Element> Kernel for Pack<'_, S> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let (count, dim, row) = (self.keys.rows(), self.keys.cols(), self.keys.row_stride());
        let block = WORDS * S::PER_WORD;
        let bytes = row * size_of::<S>() as isize;
        for (q, panel) in self.panels.chunks_exact_mut(dim * PANEL).enumerate() {
            let keys = PANEL.min(count - q * PANEL);
            let first = self.keys.ptr_at(q * PANEL, 0);
            // Keys and elements that are missing are read from here, as zeros, beside what there is of a block.
            let mut words = [0u32; PANEL * WORDS];
            for (d, steps) in (0..).step_by(block).zip(panel.chunks_mut(block * PANEL)) {
                let exist = block.min(dim - d);
                let (mut from, mut stride) = (first.wrapping_add(d), bytes);
                if keys < PANEL || exist < block {
                    for (key, to) in words.chunks_exact_mut(WORDS).enumerate().take(keys) {
                        let key = from.wrapping_offset(key as isize * row);
                        // A whole block has a length that the compiler knows, and copies in a few moves.
                        // SAFETY: the key has these elements, and 8 words have room for them.
                        unsafe {
                            match exist == block {
                                true => ptr::copy_nonoverlapping(key, to.as_mut_ptr().cast(), block),
                                false => ptr::copy_nonoverlapping(key, to.as_mut_ptr().cast(), exist),
                            }
                        }
                    }
                    (from, stride) = (words.as_ptr().cast(), (WORDS * size_of::<u32>()) as isize);
                }
                for j in (0..PANEL).step_by(I::LANES) {
                    let from = from.cast::<u8>().wrapping_offset(j as isize * stride);
                    // SAFETY: 8 words of LANES keys are there.
                    let columns = unsafe { isa.load_eight_columns(from, stride) };
                    for (w, columns) in columns.into_iter().enumerate() {
                        for (s, step) in S::split(isa, columns).into_iter().enumerate().take(S::PER_WORD) {
                            let at = (w * S::PER_WORD + s) * PANEL + j;
                            if at < steps.len() {
                                // SAFETY: the step exists, and has LANES keys from there on.
                                unsafe { isa.store(steps.as_mut_ptr().add(at), step) };
                            }
                        }
                    }
                }
            }
        }
    }
}
