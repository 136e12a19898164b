//! The microkernel for few rows of A where the columns of B are contiguous: `x W^T` with a plain weight.
//!
//! Packing would cost more than the product. Some words of 16 columns are transposed in registers and used at once. A word
//! is 32 bits of a column: a step of f32, or two of a 16-bit type.
//!
//! ```text
//!   W, row-major          registers
//!   w00 w01 w02 w03       w00 w10 w20 ... w15.0     word 0
//!   w10 w11 w12 w13   ->  w01 w11 w21 ...           word 1
//!   ...                   ...
//! ```

use crate::pairs::{Dot, InOrder, OddFirst, Way};
use crate::product::Chain;
use crate::registers::{Accumulators, Columns};
use crate::tile::{PANEL, Promised, Tile, TileFn, shapes};
use gristmill_simd::{Dtype, Element, Isa, Kernel, RowPointers, bf16, f16};
use std::marker::PhantomData;

/// Words of a cache line.
const LINE: usize = 16;

/// Bytes of a word.
const WORD: usize = size_of::<u32>();

/// The most rows for which columns are read in place: as many accumulators as leave registers to the transposition.
pub(crate) const fn max_rows<I: Isa>(dtype: Dtype) -> usize {
    match (I::LANES, dtype) {
        (16, Dtype::F32) => 12,
        (16, _) => 10,
        // The conversion is a call, before which all accumulators would be spilled.
        (4, Dtype::F16) => 0,
        (8, Dtype::F32 | Dtype::Bf16) => 4,
        _ => 3,
    }
}

/// The tile of `rows` rows, at most [`max_rows`], over any number of whole panels whose columns are contiguous.
///
/// The function's safety rests on P1 and P5 of [`Tile`], without `start`, and on
///
/// - **P2'** `b + q * b_panel + j * b_step + p` is of the type and readable for `16 q + j < cols`, `p < k`; panels and words
///   are whole.
///
/// Columns are prefetched `ahead` words before their use, unless that is zero.
pub(crate) fn columns_fn<I: Isa>(_proof: I, rows: usize, dtype: Dtype, chain: Chain) -> TileFn {
    match (dtype, chain) {
        (Dtype::F32, _) => tile_fn::<I, f32, InOrder>(rows),
        (Dtype::F16, _) => tile_fn::<I, f16, InOrder>(rows),
        (Dtype::Bf16, Chain::InOrder) => tile_fn::<I, bf16, InOrder>(rows),
        (Dtype::Bf16, Chain::OddFirst) => tile_fn::<I, bf16, OddFirst>(rows),
        (Dtype::Bf16, Chain::Dot) if const { I::DOT } => tile_fn::<I, bf16, Dot>(rows),
        (Dtype::Bf16, Chain::Dot) => unreachable!("dot products that have no instruction read panels"),
    }
}

fn tile_fn<I: Isa, T: Element, W: Way>(rows: usize) -> TileFn {
    macro_rules! whole {
        ($mr:literal, $np:literal) => {
            tile::<I, T, W, $mr, 1>
        };
    }
    // The chain of one panel's multiply-adds takes longer than its shuffles.
    if rows == 1 && const { I::LANES == 16 || matches!(T::DTYPE, Dtype::Bf16) } {
        return tile::<I, T, W, 1, 2>;
    }
    shapes!(whole, I::LANES, rows)
}

/// # Safety
/// As [`columns_fn`] says; the CPU has the level: a token of I exists.
unsafe fn tile<I: Isa, T: Element, W: Way, const MR: usize, const SLOTS: usize>(tile: &Tile<'_>) {
    // SAFETY: passed on.
    unsafe { I::assume().vectorize(Micro::<T, W, MR, SLOTS>(Promised::new(tile), PhantomData)) };
}

/// Panels pass through the slots from the last to the first, a segment of their words in each, and leave the first one
/// with the rest. Slots that read equally far into their columns would contend for the same sets of the first cache.
///
/// ```text
///            slot 0                    slot 1
///   turn 1   panel 0, second half      panel 1, first half
///   turn 2   panel 1, second half      panel 2, first half
/// ```
struct Micro<'t, T, W, const MR: usize, const SLOTS: usize>(Promised<'t>, PhantomData<(T, W)>);

impl<T: Element, W: Way, const MR: usize, const SLOTS: usize> Micro<'_, T, W, MR, SLOTS> {
    /// Words of a column that are prefetched together. One row is prefetched in the order of memory, which comes nearly
    /// twice as fast so.
    const CHUNK: usize = if MR == 1 { 4 * LINE } else { LINE };

    /// Words of a segment: whole steps. Columns whole pages apart share a set of the first cache, which two panels of f32
    /// overflow; of other panels, too, no two should be whole pages apart.
    fn segment(words: usize, step: usize, column: isize) -> usize {
        const PAGE: usize = 4096;
        match words / SLOTS / step * step {
            _ if T::PER_WORD == 1 && (column as usize).is_multiple_of(PAGE) => 0,
            even if (even * WORD).is_multiple_of(PAGE) => even.saturating_sub(PAGE / 8 / WORD),
            even => even,
        }
    }

    /// Words that are transposed at a time, as many as there are registers for. Whole lines of AVX-512 are only worth it
    /// where much is done with each word.
    const fn step<I: Isa>() -> usize {
        match I::LANES {
            16 if MR >= 8 && T::PER_WORD == 2 && !W::DOT => 16,
            16 => 8,
            _ => 4,
        }
    }

    /// All panels, one after the other. With `UNIT` the steps of A are next to each other.
    ///
    /// # Safety
    /// P1, P2', P5; `UNIT` only if `a_step` is 1.
    #[inline(always)]
    unsafe fn all<I: Isa, const UNIT: bool>(&self, isa: I) {
        let t = self.0.tile();
        let (words, panels, size) = (t.k / T::PER_WORD, t.cols / PANEL, T::DTYPE.size() as isize);
        let step = Self::step::<I>();
        let segment = Self::segment(words, step, t.b_step * size);
        let rest = words - (SLOTS - 1) * segment;
        // What overflows a set is not prefetched.
        let ahead = if SLOTS > 1 && segment == 0 { 0 } else { t.ahead as usize };
        let ends = rest.saturating_sub(ahead);
        let panel_at = |q: usize| t.b.address().wrapping_offset(q as isize * t.b_panel * size);
        let none = [[isa.splat_row(0.0)]; MR];
        let mut sums: [Accumulators<I, MR, 1>; SLOTS] = [none; SLOTS];
        for turn in 0..panels + SLOTS - 1 {
            let mut b = [panel_at(0); SLOTS];
            for (slot, b) in b.iter_mut().enumerate() {
                // What has not begun, or has ended, reads some panel in vain.
                let q = (turn + slot).saturating_sub(SLOTS - 1).min(panels - 1);
                *b = panel_at(q).wrapping_add((SLOTS - 1 - slot) * segment * WORD);
            }
            // What follows in the first slot, seen from where its columns begin.
            let next = panel_at(turn + 1).wrapping_sub(rest * WORD);
            let mut a = t.rows::<W>(if UNIT { 1 } else { t.a_step }, 0);
            for p in (0..segment).step_by(step) {
                for (slot, sums) in sums.iter_mut().enumerate() {
                    self.ask(isa, if slot == 0 && p >= ends { next } else { b[slot] }, p, ahead, step);
                    let first = (SLOTS - 1 - slot) * segment;
                    // SAFETY: P1, P2': these words of each column.
                    unsafe { self.add(isa, sums, b[slot].wrapping_add(p * WORD), &a, first, step) };
                }
                a.advance(isa, (step * T::PER_WORD) as isize);
            }
            if turn + 1 >= SLOTS {
                let (sums, first) = (&mut sums[0], (SLOTS - 1) * segment);
                // SAFETY: P1, P2': the words that are left; P5.
                unsafe {
                    for p in (segment..rest / step * step).step_by(step) {
                        self.ask(isa, if p >= ends { next } else { b[0] }, p, ahead, step);
                        self.add(isa, sums, b[0].wrapping_add(p * WORD), &a, first, step);
                        a.advance(isa, (step * T::PER_WORD) as isize);
                    }
                    for p in (rest / step * step..rest).step_by(4) {
                        self.add(isa, sums, b[0].wrapping_add(p * WORD), &a, first, (rest - p).min(4));
                        a.advance(isa, (4 * T::PER_WORD) as isize);
                    }
                    let first = (turn + 1 - SLOTS) * PANEL;
                    t.epilogue.finish(isa, sums, Columns::side_by_side::<1>(first, PANEL), true);
                }
            }
            sums.rotate_left(1);
            sums[SLOTS - 1] = none;
        }
    }

    /// Asks for a share of the words that are used `ahead` words after `p`, where columns begin at `b`: of a chunk of each,
    /// while one of `step` words is used.
    #[inline(always)]
    fn ask<I: Isa>(&self, isa: I, b: *const u8, p: usize, ahead: usize, step: usize) {
        let (begun, column) = (p % Self::CHUNK, self.0.tile().b_step * T::DTYPE.size() as isize);
        // With several rows there is time enough for all columns at once.
        let rows = if MR == 1 { PANEL * step / Self::CHUNK } else { PANEL };
        if ahead != 0 && (MR == 1 || begun == 0) {
            let chunk = b.wrapping_add((p - begun + ahead) * WORD);
            let mut line = chunk.wrapping_offset((begun / step * rows) as isize * column);
            for _ in 0..rows {
                for l in 0..Self::CHUNK / LINE {
                    isa.prefetch(line.wrapping_add(l * LINE * WORD));
                }
                line = isa.opaque(line.wrapping_offset(column));
            }
        }
    }

    /// Adds the products of `count` words, sixteen, eight or four at most, of each column of a panel, which lie at `b`; `a` is
    /// at the step of word `first` before them.
    ///
    /// # Safety
    /// P1 and P2' for these words.
    #[inline(always)]
    unsafe fn add<I: Isa>(
        &self,
        isa: I,
        sums: &mut Accumulators<I, MR, 1>,
        b: *const u8,
        a: &RowPointers,
        first: usize,
        count: usize,
    ) {
        let column = self.0.tile().b_step * T::DTYPE.size() as isize;
        for v in 0..PANEL / I::LANES {
            let b = b.wrapping_offset((v * I::LANES) as isize * column);
            let mut columns = [isa.splat(0.0); 16];
            // SAFETY: the caller's promise.
            unsafe {
                match count {
                    16 => columns = isa.load_sixteen_columns(b, column),
                    8 => columns[..8].copy_from_slice(&isa.load_eight_columns(b, column)),
                    _ => columns[..4].copy_from_slice(&isa.load_few_columns(b, column, count)),
                }
            }
            let first = (first * T::PER_WORD) as isize;
            for (words, p) in columns.into_iter().zip((first..).step_by(T::PER_WORD)).take(count) {
                let mut steps = T::split(isa, words);
                if W::ODD_FIRST {
                    steps.reverse();
                }
                for (r, row) in sums.iter_mut().enumerate() {
                    let register = &mut row[0].as_mut()[v];
                    // SAFETY: P1: the steps of the word.
                    unsafe {
                        if W::DOT {
                            let pair = isa.splat_i32(a.at::<i32>(r, p).read_unaligned());
                            *register = isa.dot_bf16(*register, pair, isa.to_bits(words));
                        } else {
                            *register = isa.fma(isa.splat(*a.at::<f32>(r, p)), steps[0], *register);
                            if T::PER_WORD == 2 {
                                *register = isa.fma(isa.splat(*a.at::<f32>(r, p + 1)), steps[1], *register);
                            }
                        }
                    }
                }
            }
        }
    }
}

impl<T: Element, W: Way, const MR: usize, const SLOTS: usize> Kernel for Micro<'_, T, W, MR, SLOTS> {
    type Output = ();

    const DOT: bool = W::DOT;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let t = self.0.tile();
        debug_assert!(t.cols.is_multiple_of(PANEL) && t.start.is_null() && t.k.is_multiple_of(T::PER_WORD));
        // SAFETY: P1, P2', P5.
        unsafe { if t.a_step == 1 { self.all::<I, true>(isa) } else { self.all::<I, false>(isa) } };
    }
}
