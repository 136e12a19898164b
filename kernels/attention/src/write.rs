//! Writing tokens into a page of a cache: keys in panels or squares, values in rows.

use crate::squares::{SQUARE, turn_in_place};
use gristmill_core::{HeadsRef, MatRef};
use gristmill_gemm::pack::pack_panels;
use gristmill_gemm::tile::PANEL;
use gristmill_simd::{Element, Isa, Kernel, slices};
use std::ops::Range;

/// Writes some tokens of a sequence into a page, from `slot` on; how many keys of the page are in panels then.
pub(crate) struct Write<'w, S, T> {
    pub(crate) k: HeadsRef<'w, S>,
    pub(crate) v: HeadsRef<'w, S>,
    pub(crate) sequence: usize,
    pub(crate) tokens: Range<usize>,
    pub(crate) slot: usize,
    /// How many keys of the page are in panels, whole ones; those of the next one are in squares.
    pub(crate) turned: usize,
    /// Panels of 16 keys, head by head in each.
    pub(crate) keys: &'w mut [T],
    /// Rows of all heads.
    pub(crate) values: &'w mut [T],
}

impl<S: Element, T: Element> Kernel for Write<'_, S, T> {
    type Output = usize;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> usize {
        let Self { k, v, sequence, tokens, slot, turned, keys, values } = self;
        let (heads, n) = (k.heads(), tokens.len());
        // The panel that has begun takes so many; if tokens were forgotten, it may have been turned already.
        let begun = slot.next_multiple_of(PANEL);
        let (lead, turned) = (n.min(begun - slot), turned.min(begun));
        // A token alone begins with squares, several with panels.
        let alone = n == lead + 1 && k.dim() > 0 && k.dim().is_multiple_of(PANEL);
        if n == 1 {
            // The lines that it goes to are far apart: each store would wait for its own.
            let panel = &keys[slot / PANEL * heads * PANEL * k.dim()..][..heads * PANEL * k.dim()];
            for square in panel.chunks_exact(SQUARE) {
                isa.prefetch(&square[slot % PANEL * PANEL]);
            }
            for line in values[slot * heads * v.dim()..][..heads * v.dim()].chunks(64 / size_of::<T>()) {
                isa.prefetch(&line[0]);
            }
        }
        for h in 0..heads {
            let (k, v) = (k.head(sequence, h), v.head(sequence, h));
            let Ok(k) = k.submatrix(tokens.clone(), 0..k.cols()) else { unreachable!("tokens of k") };
            let Ok(v) = v.submatrix(tokens.clone(), 0..v.cols()) else { unreachable!("tokens of v") };
            // The panel, or what becomes one, of the key at a slot.
            let len = PANEL * k.cols();
            let at = |slot: usize| (slot / PANEL * heads + h) * len..(slot / PANEL * heads + h + 1) * len;
            if lead > 0 {
                let panel = &mut keys[at(slot)];
                if slot < turned {
                    scatter(&k, 0..lead, slot % PANEL, panel);
                } else {
                    put(isa, &k, 0..lead, slot % PANEL, panel);
                    if slot + lead == begun {
                        turn_in_place(panel);
                    }
                }
            }
            if alone {
                put(isa, &k, lead..n, 0, &mut keys[at(begun)]);
            } else {
                for first in (lead..n).step_by(PANEL) {
                    let rows = first..n.min(first + PANEL);
                    let Ok(rows) = k.submatrix(rows, 0..k.cols()) else { unreachable!("rows of k") };
                    pack_panels(isa, rows.transposed(), &mut keys[at(slot + first)]);
                }
            }
            for t in 0..n {
                copy(isa, &v, t, 0, &mut values[((slot + t) * heads + h) * v.cols()..][..v.cols()]);
            }
        }
        match n - lead {
            0 if slot + n < begun => turned,
            0 => begun,
            _ if alone => begun,
            rest => begun + rest.next_multiple_of(PANEL),
        }
    }
}

/// Writes rows of `k` into a panel, the first as column `key`: each element to a cache line of its own.
#[inline(always)]
fn scatter<S: Element, T: Element>(k: &MatRef<S>, rows: Range<usize>, key: usize, panel: &mut [T]) {
    for (key, t) in (key..).zip(rows) {
        for (d, column) in panel.chunks_exact_mut(PANEL).enumerate() {
            column[key] = T::from_f32(k.at(t, d).to_f32());
        }
    }
}

/// Writes rows of `k` into squares, the first as row `key`.
#[inline(always)]
fn put<I: Isa, S: Element, T: Element>(isa: I, k: &MatRef<S>, rows: Range<usize>, key: usize, squares: &mut [T]) {
    for (key, t) in (key..).zip(rows) {
        for (b, square) in squares.chunks_exact_mut(SQUARE).enumerate() {
            copy(isa, k, t, b * PANEL, &mut square[key * PANEL..][..PANEL]);
        }
    }
}

/// Copies part of row `t`, from element `first` on.
#[inline(always)]
fn copy<I: Isa, S: Element, T: Element>(isa: I, x: &MatRef<S>, t: usize, first: usize, to: &mut [T]) {
    match x.row(t) {
        Some(row) => slices::convert(isa, &row[first..][..to.len()], to),
        None => to.iter_mut().enumerate().for_each(|(d, to)| *to = T::from_f32(x.at(t, first + d).to_f32())),
    }
}
