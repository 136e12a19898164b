//! The microkernel over panels of bf16 pairs.
//!
//! ```text
//!   B [k, 16 columns]                 panel of pairs, 32 values a row
//!   p = 0:  a b c ..                  a A b B c C ..      p = 0 and 1: one 32-bit lane per column
//!   p = 1:  A B C ..          ->      d D e E f F ..      p = 2 and 3
//!   p = 2:  d e f ..
//!   p = 3:  D E F ..                  (k odd: the last odd elements are +0)
//! ```
//!
//! The same panels serve f32 activations by multiply-adds, for which the two halves of a lane are widened by one
//! operation each, and bf16 activations by the dot product of pairs.

use crate::registers::{Accumulators, Load, each};
use crate::tile::{PANEL, PREFETCH_STEPS, Promised, Tile, TileFn};
use gristmill_simd::{Isa, Kernel, bf16};
use std::marker::PhantomData;

/// How a pair of steps is computed.
pub(crate) trait Way: 'static {
    /// By the dot product of pairs: A is bf16 as well. Else by two multiply-adds, and A is f32.
    const DOT: bool;
    /// Whether A's first step of a pair belongs to B's odd element.
    const ODD_FIRST: bool;
}

/// Multiply-adds in the order of k.
pub(crate) struct InOrder;

impl Way for InOrder {
    const DOT: bool = false;
    const ODD_FIRST: bool = false;
}

/// Multiply-adds in the order of the dot product; A has its steps swapped pair by pair and is of even depth.
pub(crate) struct OddFirst;

impl Way for OddFirst {
    const DOT: bool = false;
    const ODD_FIRST: bool = true;
}

/// Dot products. `a` of the tile points to bf16, its strides count them, and steps are contiguous.
pub(crate) struct Dot;

impl Way for Dot {
    const DOT: bool = true;
    const ODD_FIRST: bool = true;
}

/// The microkernel of `MR` rows and `NP` panels of pairs. `b_step` leads from a pair of steps to the next.
///
/// # Safety
/// P1 to P5 of [`Tile`], with P2 for whole panels of pairs: `k` rounded up to even.
unsafe fn pair_tile<I: Isa, W: Way, const MR: usize, const NP: usize>(isa: I, tile: &Tile<'_, bf16>) {
    // SAFETY: passed on.
    isa.vectorize(Micro::<W, MR, NP>(unsafe { Promised::new(tile) }, PhantomData));
}

struct Micro<'t, W, const MR: usize, const NP: usize>(Promised<'t, bf16>, PhantomData<W>);

impl<W: Way, const MR: usize, const NP: usize> Kernel for Micro<'_, W, MR, NP> {
    type Output = ();

    const DOT: bool = W::DOT;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let t = self.0.tile();
        debug_assert!((NP - 1) * PANEL < t.cols && t.cols <= NP * PANEL, "P3: {} columns, {NP} panels", t.cols);
        let mut acc: Accumulators<I, MR, NP> = [[isa.splat_row(0.0); NP]; MR];
        if !t.start.is_null() {
            // SAFETY: P3, P4.
            unsafe { each(isa, &mut acc, t.cols, t.start.cast_mut(), t.start_row, Load) };
        }
        // Three rows share a pointer, as in the other tile. A counts f32, or bf16 where pairs are multiplied whole.
        let row = |n: isize| if W::DOT { n * t.a_row * 2 } else { n * t.a_row * 4 };
        let step = if W::DOT { 4 } else { 4 * t.a_step };
        let mut a: [*const u8; 4] = std::array::from_fn(|g| t.a.cast::<u8>().wrapping_offset(row(3 * g as isize)));
        let mut b = t.b;
        for _ in 0..t.k / 2 {
            let pairs = load_pairs::<I, NP>(isa, t, b);
            if W::DOT {
                for (r, acc) in acc.iter_mut().enumerate() {
                    // SAFETY: P1: two steps of bf16, side by side.
                    let pair = unsafe { a[r / 3].offset(row((r % 3) as isize)).cast::<i32>().read_unaligned() };
                    dot(isa, acc, isa.splat_i32(pair), &pairs);
                }
                a.iter_mut().for_each(|a| *a = isa.opaque(a.wrapping_offset(step)));
            } else {
                for odd in [W::ODD_FIRST, !W::ODD_FIRST] {
                    let b = half(isa, &pairs, odd);
                    for (r, acc) in acc.iter_mut().enumerate() {
                        // SAFETY: P1.
                        let value = unsafe { *a[r / 3].offset(row((r % 3) as isize)).cast::<f32>() };
                        multiply_add(isa, acc, isa.splat(value), &b);
                    }
                    a.iter_mut().for_each(|a| *a = isa.opaque(a.wrapping_offset(step)));
                }
            }
            b = b.wrapping_offset(t.b_step);
        }
        if t.k % 2 == 1 {
            let pairs = load_pairs::<I, NP>(isa, t, b);
            for (r, acc) in acc.iter_mut().enumerate() {
                let p = a[r / 3].wrapping_offset(row((r % 3) as isize));
                // SAFETY: P1: the last step. Its odd element is +0, in A as in B.
                unsafe {
                    if W::DOT {
                        dot(isa, acc, isa.splat_i32(i32::from(*p.cast::<u16>())), &pairs);
                    } else {
                        multiply_add(isa, acc, isa.splat(*p.cast::<f32>()), &half(isa, &pairs, false));
                    }
                }
            }
        }
        // SAFETY: P3, P5.
        unsafe { t.epilogue.finish::<_, false, MR, NP>(isa, &mut acc, t.cols) };
    }
}

/// A row of pairs of every panel, as it lies in memory.
#[inline(always)]
fn load_pairs<I: Isa, const NP: usize>(isa: I, t: &Tile<'_, bf16>, b: *const bf16) -> [I::Row; NP] {
    let mut pairs = [isa.splat_row(0.0); NP];
    for (q, panel) in pairs.iter_mut().enumerate() {
        let p = b.wrapping_offset(q as isize * t.b_panel);
        isa.prefetch(p.wrapping_offset(PREFETCH_STEPS / 2 * t.b_step));
        for (v, register) in panel.as_mut().iter_mut().enumerate() {
            // SAFETY: P2: 16 pairs, that is 32-bit lanes.
            *register = unsafe { isa.load(p.wrapping_add(2 * v * I::LANES).cast()) };
        }
    }
    pairs
}

/// One element of every pair, widened.
#[inline(always)]
fn half<I: Isa, const NP: usize>(isa: I, pairs: &[I::Row; NP], odd: bool) -> [I::Row; NP] {
    let mut out = *pairs;
    let upper = isa.splat_i32(0xffff_0000_u32 as i32);
    for register in out.iter_mut().flat_map(|row| row.as_mut()) {
        let bits = isa.to_bits(*register);
        *register = isa.from_bits(if odd { isa.and_i32(bits, upper) } else { isa.shl_i32::<16>(bits) });
    }
    out
}

#[inline(always)]
fn multiply_add<I: Isa, const NP: usize>(isa: I, acc: &mut [I::Row; NP], a: I::F32, b: &[I::Row; NP]) {
    for (acc, b) in acc.iter_mut().zip(b) {
        for (acc, &b) in acc.as_mut().iter_mut().zip(b.as_ref()) {
            *acc = isa.fma(a, b, *acc);
        }
    }
}

#[inline(always)]
fn dot<I: Isa, const NP: usize>(isa: I, acc: &mut [I::Row; NP], a: I::I32, b: &[I::Row; NP]) {
    for (acc, b) in acc.iter_mut().zip(b) {
        for (acc, &b) in acc.as_mut().iter_mut().zip(b.as_ref()) {
            *acc = isa.dot_bf16(*acc, a, isa.to_bits(b));
        }
    }
}

/// Lists the row counts of a family as match arms.
macro_rules! rows {
    ($isa:ident, $way:ident, $rows:expr, $np:literal: $($mr:literal)+) => {
        match $rows {
            $($mr => pair_tile::<$isa, $way, $mr, $np>,)+
            _ => unreachable!("no tile of {} rows and {} panels of pairs", $rows, $np),
        }
    };
}

/// The tile of `rows` rows and `panels` panels of pairs; the shapes are those of [`tile_fn`](crate::tile::tile_fn), but
/// of one panel only where dot products have no instruction.
pub(crate) fn pair_tile_fn<I: Isa, W: Way>(rows: usize, panels: usize) -> TileFn<I, bf16> {
    if const { W::DOT && !I::DOT } {
        return match I::LANES {
            16 => rows!(I, W, rows, 1: 1 2 3 4 5 6 7 8 9 10 11 12),
            8 => rows!(I, W, rows, 1: 1 2 3 4 5 6),
            _ => rows!(I, W, rows, 1: 1 2 3),
        };
    }
    match I::LANES {
        16 => match panels {
            1 => rows!(I, W, rows, 1: 1 2 3 4 5 6 7 8 9 10 11 12),
            2 => rows!(I, W, rows, 2: 1 2 3 4 5 6 7 8 9 10 11 12),
            3 => rows!(I, W, rows, 3: 1 2 3 4 5 6 7 8 9),
            4 => rows!(I, W, rows, 4: 1 2 3 4 5 6),
            _ => rows!(I, W, rows, 8: 1 2),
        },
        8 => match panels {
            1 => rows!(I, W, rows, 1: 1 2 3 4 5 6),
            2 => rows!(I, W, rows, 2: 1 2 3),
            _ => rows!(I, W, rows, 4: 1),
        },
        _ => match panels {
            1 => rows!(I, W, rows, 1: 1 2 3),
            _ => rows!(I, W, rows, 2: 1),
        },
    }
}
