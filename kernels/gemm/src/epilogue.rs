//! What happens to the accumulators of a tile: scaling, C, bias, activation, residual, in that order.

use crate::registers::{Accumulators, Columns, Step, each, each_as, takes};
use crate::tile::{MAX_TILE, PANEL};
use crate::turned::FinishTurned;
use gristmill_core::Activation;
use gristmill_simd::{Element, Isa, Kernel, TypedPtr};
use std::{marker::PhantomData, mem::MaybeUninit};

/// A vector that is added to every row or to every column of C.
#[derive(Clone, Copy, Debug)]
pub enum Bias<'e> {
    /// None.
    None,
    /// One value per column, from the tile's first column on.
    PerColumn(TypedPtr, PhantomData<&'e ()>),
    /// One value per row, from the tile's first row on.
    PerRow(TypedPtr, PhantomData<&'e ()>),
}

impl Bias<'_> {
    /// The bias of the transpose.
    pub(crate) fn turned(self) -> Self {
        match self {
            Bias::None => Bias::None,
            Bias::PerColumn(bias, life) => Bias::PerRow(bias, life),
            Bias::PerRow(bias, life) => Bias::PerColumn(bias, life),
        }
    }
}

/// A matrix operand seen from a tile's first element. Strides are in elements.
#[derive(Clone, Copy, Debug)]
pub struct Block {
    /// The first element.
    pub ptr: TypedPtr,
    /// From a row to the next.
    pub row: isize,
    /// From a column to the next.
    pub col: isize,
}

/// The steps after the accumulation, for one tile.
///
/// In this order, each one rounded f32 operation: `y = alpha * acc` (absent when alpha is 1), `y = fma(beta, c, y)`
/// (absent when beta is 0: C is not read), `y + bias`, activation, `y + residual`; last, one rounding to the type of C.
/// Bias, residual and C may each be of any storage type.
#[derive(Clone, Copy, Debug)]
pub struct Epilogue<'e> {
    /// Factor of the product.
    pub alpha: f32,
    /// Factor of what C held.
    pub beta: f32,
    /// Added after the scaling.
    pub bias: Bias<'e>,
    /// Applied after the bias.
    pub activation: Activation,
    /// Added last.
    pub residual: Option<Block>,
    /// The tile's first element of C, which may be written.
    pub c: TypedPtr,
    /// From a row of C to the next.
    pub c_row: isize,
    /// From a column of C to the next.
    pub c_col: isize,
}

impl Epilogue<'_> {
    /// Stores the accumulators as they are at `c`, rows `c_row` apart.
    pub fn store<T: Element>(c: *mut T, c_row: isize) -> Self {
        Self {
            alpha: 1.0,
            beta: 0.0,
            bias: Bias::None,
            activation: Activation::Identity,
            residual: None,
            c: TypedPtr::new(c),
            c_row,
            c_col: 1,
        }
    }

    /// Whether there is nothing to do but to store.
    #[inline(always)]
    fn stores(&self) -> bool {
        let plain = self.alpha == 1.0 && self.beta == 0.0 && matches!(self.bias, Bias::None);
        plain && self.residual.is_none() && self.activation == Activation::Identity
    }

    /// Whether the steps are few enough to be written out for every accumulator of every tile shape, and C, bias and
    /// residual are rows that the registers take.
    #[inline(always)]
    fn fits_registers<I: Isa>(&self) -> bool {
        self.c_col == 1
            && takes::<I>(self.c)
            && self.residual.is_none_or(|residual| residual.col == 1 && takes::<I>(residual.ptr))
            && match self.bias {
                Bias::None => true,
                Bias::PerColumn(bias, _) => takes::<I>(bias),
                Bias::PerRow(..) => false,
            }
            && matches!(self.activation, Activation::Identity | Activation::Relu)
    }

    /// Finishes `NP` panels of a tile, which are these columns of it: in registers where that fits, or spilled.
    /// Unless `all` steps may be written out for the tile's shape, only plain stores stay in registers.
    ///
    /// # Safety
    /// Bias, residual and C are valid for `MR` rows and these columns, and nobody else uses this part of C.
    #[inline(always)]
    pub(crate) unsafe fn finish<I: Isa, const MR: usize, const NP: usize>(
        &self,
        isa: I,
        acc: &mut Accumulators<I, MR, NP>,
        cols: Columns,
        all: bool,
    ) {
        // SAFETY: the caller's promise; a bias is the same row for every row; the array holds MR rows of NP whole
        // panels, and has no other use.
        unsafe {
            if !self.fits_registers::<I>() || !(all || self.stores()) {
                let mut spilled = MaybeUninit::<[f32; MAX_TILE]>::uninit();
                let spilled = spilled.as_mut_ptr().cast::<f32>();
                let acc_row = NP * PANEL;
                each_as(isa, acc, Columns::side_by_side::<NP>(0, acc_row), spilled, acc_row as isize, Step::Store);
                // As many panels at once as lie side by side.
                let panels = if cols.apart == PANEL { NP } else { 1 };
                for q in (0..NP).step_by(panels) {
                    let epilogue = &self.advanced(cols.first + q * cols.apart);
                    let last = if q + panels == NP { cols.last.min(PANEL) } else { PANEL };
                    let (acc, cols) = (spilled.wrapping_add(q * PANEL), (panels - 1) * PANEL + last);
                    let tile = Spilled { epilogue, acc, rows: MR, cols, acc_row };
                    if self.c_row == 1 && self.c_col != 1 {
                        isa.vectorize(FinishTurned(tile));
                    } else {
                        isa.vectorize(Finish(tile));
                    }
                }
                return;
            }
            if all {
                if self.alpha != 1.0 {
                    each_as(isa, acc, cols, std::ptr::null_mut::<f32>(), 0, Step::Scale(isa.splat(self.alpha)));
                }
                if self.beta != 0.0 {
                    each(isa, acc, cols, self.c, self.c_row, Step::AddScaled(isa.splat(self.beta)));
                }
                if let Bias::PerColumn(bias, _) = self.bias {
                    each(isa, acc, cols, bias, 0, Step::Add);
                }
                if let Activation::Relu = self.activation {
                    each_as(isa, acc, cols, std::ptr::null_mut::<f32>(), 0, Step::Relu);
                }
                if let Some(residual) = self.residual {
                    each(isa, acc, cols, residual.ptr, residual.row, Step::Add);
                }
            }
            each(isa, acc, cols, self.c, self.c_row, Step::Store);
        }
    }

    /// The steps from column `j` of the tile on.
    pub(crate) fn advanced(&self, j: usize) -> Self {
        let j = j as isize;
        let bias = match self.bias {
            Bias::PerColumn(bias, life) => Bias::PerColumn(bias.offset(j), life),
            bias => bias,
        };
        let residual = self.residual.map(|r| Block { ptr: r.ptr.offset(j * r.col), ..r });
        Self { bias, residual, c: self.c.offset(j * self.c_col), ..*self }
    }

    /// The steps for the transpose of the tile, from the row on that is column `j` of the tile.
    pub(crate) fn turned(&self, j: usize) -> Self {
        let at = self.advanced(j);
        let residual = at.residual.map(|r| Block { row: r.col, col: r.row, ..r });
        Self { bias: at.bias.turned(), residual, c_row: at.c_col, c_col: at.c_row, ..at }
    }
}

/// A spilled tile: `acc` holds `rows` rows, `acc_row` apart, each padded to whole panels; bias, residual and C are valid
/// for `rows` rows and `cols` columns, and nobody else uses this part of C.
pub(crate) struct Spilled<'t> {
    pub(crate) epilogue: &'t Epilogue<'t>,
    pub(crate) acc: *const f32,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) acc_row: usize,
}

/// The rolled loop over a spilled tile: one copy per level, not one per tile shape.
struct Finish<'t>(Spilled<'t>);

impl Kernel for Finish<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Spilled { epilogue: e, acc, rows, cols, acc_row } = self.0;
        let alpha = isa.splat(e.alpha);
        let beta = isa.splat(e.beta);
        for r in 0..rows {
            for j in (0..cols).step_by(I::LANES) {
                let n = (cols - j).min(I::LANES);
                // SAFETY: rows and columns of everything are valid; `n` columns from `j` on exist.
                unsafe {
                    let (i, j) = (r as isize, j as isize);
                    let mut y = isa.load(acc.add(r * acc_row).offset(j));
                    if e.alpha != 1.0 {
                        y = isa.mul(alpha, y);
                    }
                    let c = e.c.offset(i * e.c_row + j * e.c_col);
                    if e.beta != 0.0 {
                        y = isa.fma(beta, c.load(isa, e.c_col, n), y);
                    }
                    y = match e.bias {
                        Bias::None => y,
                        Bias::PerColumn(bias, _) => isa.add(y, bias.offset(j).load(isa, 1, n)),
                        Bias::PerRow(bias, _) => isa.add(y, isa.splat(bias.offset(i).value())),
                    };
                    y = e.activation.apply(isa, y);
                    if let Some(residual) = e.residual {
                        let p = residual.ptr.offset(i * residual.row + j * residual.col);
                        y = isa.add(y, p.load(isa, residual.col, n));
                    }
                    c.store(isa, e.c_col, n, y);
                }
            }
        }
    }
}
