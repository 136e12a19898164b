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

use crate::registers::{Accumulators, Keep};
use crate::tile::{Promised, Steps, Tile, TileFn, shapes};
use gristmill_core::pack_pairs::PAIR_ROW;
use gristmill_simd::{Element, Isa, Kernel, bf16};
use std::marker::PhantomData;

/// How a pair of steps is computed.
pub(crate) trait Way: 'static {
    /// By the dot product of pairs: A is bf16 as well. Else by two multiply-adds, and A is f32.
    const DOT: bool = false;
    /// Whether A's first step of a pair belongs to B's odd element.
    const ODD_FIRST: bool = true;
}

/// Multiply-adds in the order of k.
pub(crate) struct InOrder;

impl Way for InOrder {
    const ODD_FIRST: bool = false;
}

/// Multiply-adds in the order of the dot product; A has its steps swapped pair by pair and is of even depth.
pub(crate) struct OddFirst;

impl Way for OddFirst {}

/// Dot products. `a` of the tile points to bf16, its strides count them, and steps are contiguous.
pub(crate) struct Dot;

impl Way for Dot {
    const DOT: bool = true;
}

/// The microkernel of `MR` rows and `NP` panels of pairs.
///
/// # Safety
/// The CPU has the level: a token of I exists. P1 to P6 of [`Tile`], with P2 for whole panels of pairs: `k` rounded up to
/// even, pairs of steps [`PAIR_ROW`] apart.
unsafe fn pair_tile<I: Isa, W: Way, const MR: usize, const NP: usize>(tile: &Tile<'_>) {
    // SAFETY: passed on.
    unsafe {
        let isa = I::assume();
        let mut groups = Some(Promised::new(tile));
        while let Some(first) = groups {
            groups = isa.vectorize(Micro::<W, MR, NP>(first, PhantomData));
        }
    }
}

/// From a pair of steps of a panel to the next.
const PAIR_STEP: isize = PAIR_ROW as isize;

/// Pairs that are written out where the steps of A are contiguous.
const UNROLL: usize = 2;

struct Micro<'t, W, const MR: usize, const NP: usize>(Promised<'t>, PhantomData<W>);

impl<W: Way, const MR: usize, const NP: usize> Micro<'_, W, MR, NP> {
    /// All steps. With `KEEP` the panels are left widened, in the order of the multiply-adds.
    ///
    /// # Safety
    /// P1, P2, P6, and with `KEEP` there is a place.
    #[inline(always)]
    unsafe fn keeping<I: Isa, const KEEP: bool>(&self, isa: I, acc: &mut Accumulators<I, MR, NP>) {
        let t = self.0.tile();
        // SAFETY: the caller's promise.
        unsafe {
            if W::DOT || t.a_step == 1 {
                let whole = t.k / (2 * UNROLL);
                let turn = if NP == 1 { whole } else { whole.min(t.turn / (2 * UNROLL)) };
                let parts = [(0, turn, 0), (turn * UNROLL, whole - turn, (NP as isize - 1) * t.b_panel)];
                for &part in &parts[..if turn < whole { 2 } else { 1 }] {
                    self.pairs::<I, UNROLL, true, KEEP>(isa, acc, part);
                }
                self.pairs::<I, 1, true, KEEP>(isa, acc, (whole * UNROLL, t.k / 2 % UNROLL, 0));
            } else {
                self.pairs::<I, 1, false, KEEP>(isa, acc, (0, t.k / 2, 0));
            }
            if t.k % 2 == 1 {
                self.last::<I, KEEP>(isa, acc);
            }
        }
    }

    /// `times` times `UNROLL` pairs of steps, from pair `from` on. With `UNIT` the steps of A are next to each other, so
    /// that all addresses of the unrolled pairs are constants from a few pointers. Prefetches go `further`.
    ///
    /// # Safety
    /// P1, P2, P6; `2 * (from + times * UNROLL) <= k`; `UNIT` only if steps of A are contiguous.
    #[inline(always)]
    unsafe fn pairs<I: Isa, const UNROLL: usize, const UNIT: bool, const KEEP: bool>(
        &self,
        isa: I,
        acc: &mut Accumulators<I, MR, NP>,
        (from, times, further): (usize, usize, isize),
    ) {
        let t = self.0.tile();
        let a_step = if UNIT { 1 } else { t.a_step };
        let mut a = t.rows::<W>(a_step, 2 * from as isize);
        let (panels, apart) = (self.0.panels::<bf16>(), self.0.apart::<MR, NP>());
        let mut b = panels.wrapping_offset(from as isize * PAIR_STEP);
        let mut ahead = panels.wrapping_offset(t.ahead + further + 2 * from as isize * t.ahead_step);
        let mut keep = Keep::<KEEP>::new(t, 2 * from);
        for _ in 0..times {
            for u in 0..UNROLL as isize {
                for q in 0..NP as isize {
                    isa.prefetch(ahead.wrapping_offset(q * apart + u * PAIR_STEP));
                }
                let pairs = load_pairs::<I, NP>(isa, apart, b.wrapping_offset(u * PAIR_STEP));
                // SAFETY: P1, P6: both steps of the pair.
                unsafe {
                    if W::DOT {
                        for (r, acc) in acc.iter_mut().enumerate() {
                            let pair = isa.splat_i32(a.at::<i32>(r, 2 * u).read_unaligned());
                            add::<I, true, NP>(isa, acc, isa.from_bits(pair), &pairs);
                        }
                    } else {
                        // Not a loop over both: it would stay one, and the accumulators would leave the registers.
                        let b = half(isa, &pairs, W::ODD_FIRST);
                        keep.step(isa, &b, 2 * u as usize);
                        for (r, acc) in acc.iter_mut().enumerate() {
                            add::<I, false, NP>(isa, acc, isa.splat(*a.at::<f32>(r, 2 * u)), &b);
                        }
                        let b = half(isa, &pairs, !W::ODD_FIRST);
                        keep.step(isa, &b, 2 * u as usize + 1);
                        for (r, acc) in acc.iter_mut().enumerate() {
                            add::<I, false, NP>(isa, acc, isa.splat(*a.at::<f32>(r, 2 * u + 1)), &b);
                        }
                    }
                }
            }
            a.advance(isa, 2 * UNROLL as isize);
            b = b.wrapping_offset(UNROLL as isize * PAIR_STEP);
            ahead = ahead.wrapping_offset(2 * UNROLL as isize * t.ahead_step);
            keep.advance(2 * UNROLL);
        }
    }

    /// The last step of an odd depth, whose odd element is +0 in A as in B.
    ///
    /// # Safety
    /// P1, P2, P6; k is odd.
    #[inline(always)]
    unsafe fn last<I: Isa, const KEEP: bool>(&self, isa: I, acc: &mut Accumulators<I, MR, NP>) {
        let t = self.0.tile();
        let step = t.k as isize - 1;
        let pairs = load_pairs::<I, NP>(
            isa,
            self.0.apart::<MR, NP>(),
            self.0.panels::<bf16>().wrapping_offset(step / 2 * PAIR_STEP),
        );
        let even = half(isa, &pairs, false);
        // SAFETY: P6.
        unsafe { Keep::<KEEP>::new(t, t.k - 1).step(isa, &even, 0) };
        let a = t.rows::<W>(t.a_step, step);
        for (r, acc) in acc.iter_mut().enumerate() {
            // SAFETY: P1.
            unsafe {
                if W::DOT {
                    let even = isa.splat_i32(i32::from(*a.at::<u16>(r, 0)));
                    add::<I, true, NP>(isa, acc, isa.from_bits(even), &pairs);
                } else {
                    add::<I, false, NP>(isa, acc, isa.splat(*a.at::<f32>(r, 0)), &even);
                }
            }
        }
    }
}

impl<'t, W: Way, const MR: usize, const NP: usize> Kernel for Micro<'t, W, MR, NP> {
    type Output = Option<Promised<'t>>;

    const DOT: bool = W::DOT;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Self::Output {
        let t = self.0.tile();
        debug_assert!(t.b_step == PAIR_STEP && (t.a_step == 1 || !W::DOT), "steps of {} and {}", t.a_step, t.b_step);
        self.0.run::<I, Self, MR, NP>(isa, W::DOT)
    }
}

impl<'t, W: Way, const MR: usize, const NP: usize> Steps<'t, MR, NP> for Micro<'t, W, MR, NP> {
    #[inline(always)]
    fn of(group: Promised<'t>) -> Self {
        Self(group, PhantomData)
    }

    #[inline(always)]
    unsafe fn all<I: Isa>(&self, isa: I, acc: &mut Accumulators<I, MR, NP>) {
        // SAFETY: P1, P2, P6.
        unsafe {
            if W::DOT || self.0.tile().keep.is_null() {
                self.keeping::<I, false>(isa, acc);
            } else {
                self.keeping::<I, true>(isa, acc);
            }
        }
    }
}

/// A row of pairs of every panel, as it lies in memory, from one panel to the one that lies `apart`.
#[inline(always)]
fn load_pairs<I: Isa, const NP: usize>(isa: I, apart: isize, b: *const bf16) -> [I::Row; NP] {
    let mut pairs = [isa.splat_row(0.0); NP];
    for (q, panel) in pairs.iter_mut().enumerate() {
        let p = b.wrapping_offset(q as isize * apart);
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
    // Not one loop over a chain of them: its closure would not be inlined.
    for row in &mut out {
        for register in row.as_mut() {
            *register = bf16::split(isa, *register)[usize::from(odd)];
        }
    }
    out
}

/// Adds the products of a row of every panel with `a`: of the pairs whose bits its lanes are, with `DOT`.
#[inline(always)]
fn add<I: Isa, const DOT: bool, const NP: usize>(isa: I, acc: &mut [I::Row; NP], a: I::F32, b: &[I::Row; NP]) {
    for (acc, b) in acc.iter_mut().zip(b) {
        for (acc, &b) in acc.as_mut().iter_mut().zip(b.as_ref()) {
            *acc = if DOT { isa.dot_bf16(*acc, isa.to_bits(a), isa.to_bits(b)) } else { isa.fma(a, b, *acc) };
        }
    }
}

/// The tile of `rows` rows and `panels` panels of pairs, of one panel only where dot products have no instruction. To be
/// used only where a token of I exists.
pub(crate) const fn pair_tile_of<I: Isa, W: Way>(rows: usize, panels: usize) -> TileFn {
    macro_rules! tile {
        ($mr:literal, $np:literal) => {
            pair_tile::<I, W, $mr, $np>
        };
    }
    if const { W::DOT && !I::DOT } { shapes!(tile, I::LANES, rows) } else { shapes!(tile, I::LANES, rows, panels) }
}
