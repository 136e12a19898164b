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
use crate::plan::Sizes;
use crate::product::Chain;
use crate::registers::Accumulators;
use crate::tile::{PANEL, Promised, Tile, TileFn};
use gristmill_core::{Operand, cache::Caches};
use gristmill_simd::{Dtype, Element, Isa, Kernel, RowPointers, bf16, f16};
use std::marker::PhantomData;

/// Words of a cache line.
const LINE: usize = 16;

/// How many words ahead of its use a column is prefetched. The next panels' columns lie [`Tile::ahead`].
const NEAR: usize = 8 * LINE;

/// The most rows for which columns are read in place: as many accumulators as leave registers to the transposition.
pub(crate) const fn max_rows<I: Isa>(dtype: Dtype) -> usize {
    match (I::LANES, dtype) {
        (16, Dtype::F32) => 12,
        (16, _) => 10,
        (8, Dtype::F16) => 3,
        // The conversion is a call, before which all accumulators would be spilled.
        (4, Dtype::F16) => 0,
        _ => 4,
    }
}

/// Panels of a tile over the columns of `b`: two for one row, whose chain of multiply-adds takes longer than shuffles. One
/// is enough for f32 from memory; and where all columns share a set of the first cache, that has too few ways for two.
pub(crate) fn panels<I: Isa>(sizes: Sizes, b: &Operand<'_>) -> usize {
    let column = b.strides()[1].unsigned_abs() * b.dtype().size();
    let f32_from_memory = b.dtype() == Dtype::F32 && sizes.n.saturating_mul(column) > Caches::detected().l3;
    let few_registers = I::LANES < 16 && b.dtype() != Dtype::Bf16;
    if sizes.m > 1 || f32_from_memory || few_registers || column.is_multiple_of(4096) { 1 } else { 2 }
}

/// The tile of `rows` rows, at most [`max_rows`], and of so many [`panels`], or one, whose columns are contiguous.
///
/// The function's safety rests on P1 and P3 to P5 of [`Tile`], without `start`, and on
///
/// - **P2'** `b + q * b_panel + j * b_step + p` is of the type and readable for `q < NP`, `j < 16`, `p < k`; `cols` is 16
///   for each panel, and `k` steps are whole words.
///
/// Columns are prefetched unless `ahead_step` is zero.
pub(crate) fn columns_fn<I: Isa>(_proof: I, rows: usize, panels: usize, dtype: Dtype, chain: Chain) -> TileFn {
    match (dtype, chain) {
        (Dtype::F32, _) => tile_fn::<I, f32, InOrder>(rows, panels),
        (Dtype::F16, _) => tile_fn::<I, f16, InOrder>(rows, panels),
        (Dtype::Bf16, Chain::InOrder) => tile_fn::<I, bf16, InOrder>(rows, panels),
        (Dtype::Bf16, Chain::OddFirst) => tile_fn::<I, bf16, OddFirst>(rows, panels),
        (Dtype::Bf16, Chain::Dot) if const { I::DOT } => tile_fn::<I, bf16, Dot>(rows, panels),
        (Dtype::Bf16, Chain::Dot) => unreachable!("dot products that have no instruction read panels"),
    }
}

fn tile_fn<I: Isa, T: Element, W: Way>(rows: usize, panels: usize) -> TileFn {
    macro_rules! shapes {
        ($($mr:literal)+) => {
            match (rows, panels) {
                (1, 2) => tile::<I, T, W, 1, 2>,
                $(($mr, 1) => tile::<I, T, W, $mr, 1>,)+
                _ => unreachable!("no tile of {rows} rows over {panels} panels of columns"),
            }
        };
    }
    // Matched on the constant, so that a level is compiled for its own shapes only.
    match const { max_rows::<I>(T::DTYPE) } {
        0 => unreachable!("no tiles over columns of {}", T::NAME),
        12 => shapes!(1 2 3 4 5 6 7 8 9 10 11 12),
        10 => shapes!(1 2 3 4 5 6 7 8 9 10),
        _ => shapes!(1 2 3 4),
    }
}

/// # Safety
/// As [`columns_fn`] says; the CPU has the level: a token of I exists.
unsafe fn tile<I: Isa, T: Element, W: Way, const MR: usize, const NP: usize>(tile: &Tile<'_>) {
    // SAFETY: passed on.
    unsafe { I::assume().vectorize(Micro::<T, W, MR, NP>(Promised::new(tile), PhantomData)) };
}

struct Micro<'t, T, W, const MR: usize, const NP: usize>(Promised<'t>, PhantomData<(T, W)>);

impl<T: Element, W: Way, const MR: usize, const NP: usize> Micro<'_, T, W, MR, NP> {
    /// All words. With `UNIT` the steps of A are next to each other.
    ///
    /// # Safety
    /// P1, P2'; `UNIT` only if `a_step` is 1.
    #[inline(always)]
    unsafe fn all<I: Isa, const UNIT: bool>(&self, isa: I, acc: &mut Accumulators<I, MR, NP>) {
        let t = self.0.tile();
        let (a_step, words) = (if UNIT { 1 } else { t.a_step }, t.k / T::PER_WORD);
        let mut a = match W::DOT {
            true => RowPointers::new(t.a.cast::<bf16>(), t.a_row, a_step),
            false => RowPointers::new(t.a, t.a_row, a_step),
        };
        let size = T::DTYPE.size() as isize;
        let [b_step, b_panel, beyond] = [t.b_step * size, t.b_panel * size, (t.ahead - t.k as isize) * size];
        let mut b = t.b.address();
        // As many words at a time as there are registers for.
        let step = if I::LANES == 16 { 8 } else { 4 };
        for p in (0..words / step * step).step_by(step) {
            for q in 0..NP {
                let b = b.wrapping_offset(q as isize * b_panel);
                if t.ahead_step != 0 && p % LINE == 0 {
                    // Behind the end of these columns, the beginning of the next ones.
                    let end = if p + NEAR < words { 0 } else { beyond };
                    let mut line = b.wrapping_add(NEAR * size_of::<u32>()).wrapping_offset(end);
                    for _ in 0..PANEL {
                        isa.prefetch(line);
                        line = isa.opaque(line.wrapping_offset(b_step));
                    }
                }
                // SAFETY: P2': these words of each column; P1.
                unsafe { Self::add(isa, acc, q, b, b_step, &a, step) };
            }
            a.advance(isa, (step * T::PER_WORD) as isize);
            b = b.wrapping_add(step * size_of::<u32>());
        }
        for first in (words / step * step..words).step_by(4) {
            for q in 0..NP {
                let b = b.wrapping_offset(q as isize * b_panel);
                // SAFETY: P2': the words that are left; P1.
                unsafe { Self::add(isa, acc, q, b, b_step, &a, (words - first).min(4)) };
            }
            a.advance(isa, (4 * T::PER_WORD) as isize);
            b = b.wrapping_add(4 * size_of::<u32>());
        }
    }

    /// Adds the products of eight words, or of `count` if that is less and four at most, of each column of panel `q`, which
    /// lie at `b`.
    ///
    /// # Safety
    /// P1 and P2' for these words.
    #[inline(always)]
    unsafe fn add<I: Isa>(
        isa: I,
        acc: &mut Accumulators<I, MR, NP>,
        q: usize,
        b: *const u8,
        b_step: isize,
        a: &RowPointers,
        count: usize,
    ) {
        for v in 0..PANEL / I::LANES {
            let first = b.wrapping_offset((v * I::LANES) as isize * b_step);
            let mut columns = [isa.splat(0.0); 8];
            // SAFETY: the caller's promise.
            unsafe {
                match count {
                    8 => columns = isa.load_eight_columns(first, b_step),
                    _ => columns[..4].copy_from_slice(&isa.load_few_columns(first, b_step, count)),
                }
            }
            for (words, p) in columns.into_iter().zip((0..).step_by(T::PER_WORD)).take(count) {
                let mut steps = T::split(isa, words);
                if W::ODD_FIRST {
                    steps.reverse();
                }
                for (r, row) in acc.iter_mut().enumerate() {
                    let register = &mut row[q].as_mut()[v];
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

impl<T: Element, W: Way, const MR: usize, const NP: usize> Kernel for Micro<'_, T, W, MR, NP> {
    type Output = ();

    const DOT: bool = W::DOT;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let t = self.0.tile();
        debug_assert!(t.cols == NP * PANEL && t.start.is_null() && t.k.is_multiple_of(T::PER_WORD));
        let mut acc: Accumulators<I, MR, NP> = [[isa.splat_row(0.0); NP]; MR];
        // SAFETY: P1, P2'.
        unsafe {
            if t.a_step == 1 {
                self.all::<I, true>(isa, &mut acc);
            } else {
                self.all::<I, false>(isa, &mut acc);
            }
        }
        // SAFETY: P3, P5.
        unsafe { t.epilogue.finish::<_, true, MR, NP>(isa, &mut acc, t.cols) };
    }
}
