//! Writing tokens into a page of a cache: keys in panels or squares, values in rows or, in pairs, in panels.

use crate::cache::PAGE;
use crate::pages::{Layout, as_bf16};
use crate::squares::{SQUARE, turn_in_place};
use gristmill_core::pack::pack_panels;
use gristmill_core::pack_pairs::{PAIR_ROW, pack_pairs, pair_index};
use gristmill_core::{HeadsRef, MatRef};
use gristmill_gemm::tile::PANEL;
use gristmill_simd::{Bf16Magnitudes, Element, Isa, Kernel, bf16, slices};
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
    pub(crate) layout: Layout,
    /// Panels of 16 keys, head by head in each.
    pub(crate) keys: &'w mut [T],
    /// Rows, or panels, of each head.
    pub(crate) values: &'w mut [T],
    /// Of what the page holds of each, if they are wanted.
    pub(crate) magnitudes: Option<&'w mut [Bf16Magnitudes; 2]>,
}

impl<S: Element, T: Element> Kernel for Write<'_, S, T> {
    type Output = usize;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> usize {
        let Self { k, v, sequence, tokens, slot, turned, layout, keys, values, mut magnitudes } = self;
        let (heads, n) = (k.heads(), tokens.len());
        // The panel that has begun takes so many; if tokens were forgotten, it may have been turned already.
        let begun = slot.next_multiple_of(PANEL);
        let (lead, turned) = (n.min(begun - slot), turned.min(begun));
        // What squares consist of.
        let word = if layout.pairs { 2 } else { 1 };
        // A token alone begins with squares, several with panels.
        let alone = n == lead + 1 && k.dim() > 0 && k.dim().is_multiple_of(word * PANEL);
        let len = PANEL * layout.key_len();
        if n == 1 {
            // The lines that it goes to are far apart: each store would wait for its own.
            for square in keys[slot / PANEL * heads * len..][..heads * len].chunks_exact(SQUARE * word) {
                isa.prefetch(&square[slot % PANEL * PANEL * word]);
            }
            for h in 0..heads {
                let line = if layout.pairs { PANEL } else { 64 / size_of::<T>() };
                for d in (0..v.dim()).step_by(line) {
                    isa.prefetch(&values[layout.value_at(slot, h, d)]);
                }
            }
        }
        for h in 0..heads {
            let (k, v) = (k.head(sequence, h), v.head(sequence, h));
            let Ok(k) = k.submatrix(tokens.clone(), 0..k.cols()) else { unreachable!("tokens of k") };
            let Ok(v) = v.submatrix(tokens.clone(), 0..v.cols()) else { unreachable!("tokens of v") };
            // The panel, or what becomes one, of the key at a slot.
            let at = |slot: usize| (slot / PANEL * heads + h) * len..(slot / PANEL * heads + h + 1) * len;
            if lead > 0 {
                let panel = &mut keys[at(slot)];
                if slot < turned {
                    scatter(&k, 0..lead, slot % PANEL, panel, layout.pairs);
                } else {
                    put(isa, &k, 0..lead, slot % PANEL, panel, word);
                    if slot + lead == begun {
                        turn_in_place(panel, word);
                    }
                }
            }
            if alone {
                put(isa, &k, lead..n, 0, &mut keys[at(begun)], word);
            } else {
                for first in (lead..n).step_by(PANEL) {
                    let rows = first..n.min(first + PANEL);
                    let Ok(rows) = k.submatrix(rows, 0..k.cols()) else { unreachable!("rows of k") };
                    let panel = &mut keys[at(slot + first)];
                    if layout.pairs {
                        pack_pairs(isa, rows.transposed().into(), as_bf16(panel));
                    } else {
                        pack_panels(isa, rows.transposed(), panel);
                    }
                }
            }
            if let Some([of_keys, of_values]) = &mut magnitudes {
                for t in 0..n {
                    *of_keys = of_keys.and(of_row(isa, &k, t));
                    *of_values = of_values.and(of_row(isa, &v, t));
                }
            }
            for t in 0..n {
                if layout.pairs {
                    let len = PAGE * layout.value_len();
                    weave(isa, &v, t, slot + t, &mut values[h * len..][..len]);
                } else {
                    copy(isa, &v, t, 0, &mut values[layout.value_at(slot + t, h, 0)..][..v.cols()]);
                }
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

/// Writes rows of `k` into a panel, the first as column `key`: each element, or pair, to a cache line of its own.
#[inline(always)]
fn scatter<S: Element, T: Element>(k: &MatRef<S>, rows: Range<usize>, key: usize, panel: &mut [T], pairs: bool) {
    for (key, t) in (key..).zip(rows) {
        for d in 0..k.cols() {
            let at = if pairs { pair_index(d, key) } else { d * PANEL + key };
            panel[at] = T::from_f32(k.at(t, d).to_f32());
        }
    }
}

/// Writes rows of `k` into squares of words of `word` elements, the first as row `key`.
#[inline(always)]
fn put<I: Isa, S: Element, T: Element>(
    isa: I,
    k: &MatRef<S>,
    rows: Range<usize>,
    key: usize,
    squares: &mut [T],
    word: usize,
) {
    let len = PANEL * word;
    for (key, t) in (key..).zip(rows) {
        for (b, square) in squares.chunks_exact_mut(SQUARE * word).enumerate() {
            copy(isa, k, t, b * len, &mut square[key * len..][..len]);
        }
    }
}

/// Writes row `t` of `v` into the panels of a head, as the token at `slot`. The odd token of a pair finds the even one; an
/// even one leaves zeros for the other.
#[inline(always)]
fn weave<I: Isa, S: Element, T: Element>(isa: I, v: &MatRef<S>, t: usize, slot: usize, panels: &mut [T]) {
    let low = isa.splat_i32(0xffff);
    for (q, panel) in panels.chunks_exact_mut(PAGE * PANEL).enumerate() {
        let mut line = [T::default(); PANEL];
        copy(isa, v, t, q * PANEL, &mut line[..PANEL.min(v.cols() - q * PANEL)]);
        let pairs = panel[slot / 2 * PAIR_ROW..][..PAIR_ROW].chunks_exact_mut(2 * I::LANES);
        for (new, pairs) in line.chunks_exact(I::LANES).zip(pairs) {
            let place = pairs.as_mut_ptr().cast::<f32>();
            // SAFETY: `new` holds a register of 16 bits, `pairs` one of twice as many.
            unsafe {
                let new = isa.to_bits(T::load(isa, new.as_ptr()));
                let pairs = if slot.is_multiple_of(2) {
                    isa.and_i32(isa.shr_i32::<16>(new), low)
                } else {
                    isa.or_i32(isa.and_i32(isa.to_bits(isa.load(place)), low), new)
                };
                isa.store(place, isa.from_bits(pairs));
            }
        }
    }
}

/// The magnitudes of row `t`, rounded to bf16.
#[inline(always)]
fn of_row<I: Isa, S: Element>(isa: I, x: &MatRef<S>, t: usize) -> Bf16Magnitudes {
    let mut all = Bf16Magnitudes::NONE;
    for first in (0..x.cols()).step_by(64) {
        let (mut part, n) = ([bf16::ZERO; 64], (x.cols() - first).min(64));
        copy(isa, x, t, first, &mut part[..n]);
        all = all.and(Bf16Magnitudes::of(isa, &part));
    }
    all
}

/// Copies part of row `t`, from element `first` on.
#[inline(always)]
fn copy<I: Isa, S: Element, T: Element>(isa: I, x: &MatRef<S>, t: usize, first: usize, to: &mut [T]) {
    match x.row(t) {
        Some(row) => slices::convert(isa, &row[first..][..to.len()], to),
        None => to.iter_mut().enumerate().for_each(|(d, to)| *to = T::from_f32(x.at(t, first + d).to_f32())),
    }
}
