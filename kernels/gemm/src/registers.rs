//! The accumulators of a tile, and what is done to each of them.

use crate::tile::{PANEL, Tile};
use gristmill_simd::{Dtype, Element, Isa, TypedPtr, bf16, f16, math};

/// `MR` rows of `NP` panels in registers.
pub(crate) type Accumulators<I, const MR: usize, const NP: usize> = [[<I as Isa>::Row; NP]; MR];

/// What is done to every accumulator `y`, with `x` its element of the step's matrix.
#[derive(Clone, Copy)]
pub(crate) enum Step<I: Isa> {
    /// `y = x`: takes up what was stored.
    Load,
    /// `x = y`: writes the accumulators out.
    Store,
    /// `y = alpha * y`.
    Scale(I::F32),
    /// `y = fma(beta, x, y)`.
    AddScaled(I::F32),
    /// `y = y + x`.
    Add,
    /// `y = relu(y)`.
    Relu,
}

impl<I: Isa> Step<I> {
    /// The new value of the accumulator `y`, with `p` at its element.
    ///
    /// # Safety
    /// The element's place, cut at `tail`, must be readable, and writable if the step stores.
    #[inline(always)]
    unsafe fn apply<T: Element>(self, isa: I, y: I::F32, p: *mut T, tail: Option<I::Tail>) -> I::F32 {
        // SAFETY: the caller's promise.
        unsafe {
            match self {
                Step::Load => load(isa, p, tail),
                Step::Store => {
                    match tail {
                        None => T::store(isa, p, y),
                        Some(tail) => T::store_tail(isa, p, y, tail),
                    }
                    y
                }
                Step::Scale(alpha) => isa.mul(alpha, y),
                Step::AddScaled(beta) => isa.fma(beta, load(isa, p, tail), y),
                Step::Add => isa.add(y, load(isa, p, tail)),
                Step::Relu => math::relu(isa, y),
            }
        }
    }
}

/// Whether the registers take up and store rows of a type: those of f32 all, of 16 bits only where their tails have masks.
/// Elsewhere a tail is copied, which is not to be written out for every accumulator.
#[inline(always)]
pub(crate) fn takes<I: Isa>(p: TypedPtr) -> bool {
    I::LANES == PANEL || p.dtype() == Dtype::F32
}

/// Where the panels of accumulators lie in a matrix.
#[derive(Clone, Copy)]
pub(crate) struct Columns {
    /// The first column.
    pub(crate) first: usize,
    /// From the first column of a panel to that of the next.
    pub(crate) apart: usize,
    /// Columns of the last panel, if not more than it has.
    pub(crate) last: usize,
}

impl Columns {
    /// `cols` columns from `first` on, side by side.
    pub(crate) fn side_by_side<const NP: usize>(first: usize, cols: usize) -> Self {
        Self { first, apart: PANEL, last: cols - (NP - 1) * PANEL }
    }
}

/// Applies a step to every accumulator; the step's matrix begins at `p`, and its rows are `row` apart.
///
/// # Safety
/// The matrix must be readable, and writable if the step stores, for `MR` rows and these columns; the registers
/// [take](takes) its type.
#[inline(always)]
pub(crate) unsafe fn each<I: Isa, const MR: usize, const NP: usize>(
    isa: I,
    acc: &mut Accumulators<I, MR, NP>,
    cols: Columns,
    p: TypedPtr,
    row: isize,
    step: Step<I>,
) {
    // SAFETY: the caller's promise.
    unsafe {
        match p.dtype() {
            Dtype::F16 if I::LANES == PANEL => each_as(isa, acc, cols, p.cast::<f16>().cast_mut(), row, step),
            Dtype::Bf16 if I::LANES == PANEL => each_as(isa, acc, cols, p.cast::<bf16>().cast_mut(), row, step),
            _ => each_as(isa, acc, cols, p.cast::<f32>().cast_mut(), row, step),
        }
    }
}

/// [`each`] where the type is known.
///
/// # Safety
/// The same.
#[inline(always)]
pub(crate) unsafe fn each_as<I: Isa, T: Element, const MR: usize, const NP: usize>(
    isa: I,
    acc: &mut Accumulators<I, MR, NP>,
    cols: Columns,
    p: *mut T,
    row: isize,
    step: Step<I>,
) {
    for (q, panel_of_row_0) in (0..NP).map(|q| (q, p.wrapping_add(cols.first + q * cols.apart))) {
        for v in 0..PANEL / I::LANES {
            let first = v * I::LANES;
            let tail = (q + 1 == NP).then(|| isa.tail(cols.last.saturating_sub(first)));
            for (r, registers) in acc.iter_mut().enumerate() {
                let p = panel_of_row_0.wrapping_offset(r as isize * row).wrapping_add(first);
                let register = &mut registers[q].as_mut()[v];
                // SAFETY: the caller's promise: this row and these columns, cut at the tail.
                *register = unsafe { step.apply(isa, *register, p, tail) };
            }
        }
    }
}

#[inline(always)]
unsafe fn load<I: Isa, T: Element>(isa: I, p: *const T, tail: Option<I::Tail>) -> I::F32 {
    // SAFETY: the caller's promise.
    unsafe {
        match tail {
            None => T::load(isa, p),
            Some(tail) => T::load_tail(isa, p, tail),
        }
    }
}

/// Where a tile leaves the rows of B that it reads, as f32: at [`Tile::keep`], with `KEEP`, or nowhere.
pub(crate) struct Keep<const KEEP: bool> {
    to: *mut f32,
    panel: usize,
}

impl<const KEEP: bool> Keep<KEEP> {
    /// From step `from` on.
    #[inline(always)]
    pub(crate) fn new(tile: &Tile<'_>, from: usize) -> Self {
        Self { to: tile.keep.wrapping_add(from * PANEL), panel: tile.k * PANEL }
    }

    /// Writes a row of every panel, of `u` steps further on.
    ///
    /// # Safety
    /// P6, and with `KEEP` there is a place; the step is one of the tile's, and so are the panels.
    #[inline(always)]
    pub(crate) unsafe fn step<I: Isa, const NP: usize>(&self, isa: I, rows: &[I::Row; NP], u: usize) {
        if KEEP {
            for (q, row) in rows.iter().enumerate() {
                for (v, &register) in row.as_ref().iter().enumerate() {
                    // SAFETY: the caller's promise.
                    unsafe { isa.store(self.to.wrapping_add(q * self.panel + u * PANEL + v * I::LANES), register) };
                }
            }
        }
    }

    /// Goes on by some steps.
    #[inline(always)]
    pub(crate) fn advance(&mut self, steps: usize) {
        self.to = self.to.wrapping_add(steps * PANEL);
    }
}
