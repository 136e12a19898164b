//! What happens to the accumulators of a tile: scaling, C, bias, activation, residual, in that order.

use crate::registers::{Accumulators, Add, AddScaled, Relu, Scale, Store, each};
use crate::tile::{MAX_TILE, PANEL};
use gristmill_core::Activation;
use gristmill_simd::{Dtype, Element, Isa, Kernel, TypedPtr, typed};
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

    /// Whether there is nothing to do but to store rows of f32.
    #[inline(always)]
    fn stores(&self) -> bool {
        let plain = self.alpha == 1.0 && self.beta == 0.0 && matches!(self.bias, Bias::None);
        plain && self.residual.is_none() && self.activation == Activation::Identity && self.fits_registers()
    }

    /// Whether the steps are few enough to be written out for every accumulator of every tile shape, and C, bias and
    /// residual are rows of whole registers of f32.
    #[inline(always)]
    pub(crate) fn fits_registers(&self) -> bool {
        let f32s = |p: TypedPtr| p.dtype() == Dtype::F32;
        self.c_col == 1
            && f32s(self.c)
            && self.residual.is_none_or(|residual| residual.col == 1 && f32s(residual.ptr))
            && match self.bias {
                Bias::None => true,
                Bias::PerColumn(bias, _) => f32s(bias),
                Bias::PerRow(..) => false,
            }
            && matches!(self.activation, Activation::Identity | Activation::Relu)
    }

    /// Finishes a tile: in registers where that fits, or spilled. Unless `ALL` steps may be written out for the tile's
    /// shape, only plain stores of f32 stay in registers.
    ///
    /// # Safety
    /// Bias, residual and C are valid for `MR` rows and `cols` columns, of which only the last panel's may be fewer
    /// than 16, and nobody else uses this part of C.
    #[inline(always)]
    pub(crate) unsafe fn finish<I: Isa, const ALL: bool, const MR: usize, const NP: usize>(
        &self,
        isa: I,
        acc: &mut Accumulators<I, MR, NP>,
        cols: usize,
    ) {
        if ALL && self.fits_registers() {
            // SAFETY: the caller's promise.
            unsafe { self.finish_registers(isa, acc, cols) };
        } else if !ALL && self.stores() {
            // SAFETY: the caller's promise.
            unsafe { each(isa, acc, cols, self.c.cast::<f32>().cast_mut(), self.c_row, Store) };
        } else {
            let mut spilled = MaybeUninit::<[f32; MAX_TILE]>::uninit();
            let spilled = spilled.as_mut_ptr().cast::<f32>();
            // SAFETY: the array holds MR rows of NP whole panels, and has no other use; the caller's promise.
            unsafe {
                each(isa, acc, NP * PANEL, spilled, (NP * PANEL) as isize, Store);
                self.finish_spilled(isa, spilled, [MR, cols], NP * PANEL);
            }
        }
    }

    /// Finishes a tile in registers.
    ///
    /// # Safety
    /// [`fits_registers`](Self::fits_registers); bias, residual and C are valid for `MR` rows and `cols` columns, of
    /// which only the last panel's may be fewer than 16, and nobody else uses this part of C.
    #[inline(always)]
    pub(crate) unsafe fn finish_registers<I: Isa, const MR: usize, const NP: usize>(
        &self,
        isa: I,
        acc: &mut Accumulators<I, MR, NP>,
        cols: usize,
    ) {
        let c = self.c.cast::<f32>().cast_mut();
        // SAFETY: the caller's promise; a bias is the same row for every row.
        unsafe {
            if self.alpha != 1.0 {
                each(isa, acc, cols, c, self.c_row, Scale::<I>(isa.splat(self.alpha)));
            }
            if self.beta != 0.0 {
                each(isa, acc, cols, c, self.c_row, AddScaled::<I>(isa.splat(self.beta)));
            }
            if let Bias::PerColumn(bias, _) = self.bias {
                each(isa, acc, cols, bias.cast::<f32>().cast_mut(), 0, Add);
            }
            if let Activation::Relu = self.activation {
                each(isa, acc, cols, c, self.c_row, Relu);
            }
            if let Some(residual) = self.residual {
                each(isa, acc, cols, residual.ptr.cast::<f32>().cast_mut(), residual.row, Add);
            }
            each(isa, acc, cols, c, self.c_row, Store);
        }
    }

    /// Finishes a tile that was spilled to memory.
    ///
    /// # Safety
    /// `acc` holds `rows` rows, `acc_row` apart, each padded to whole panels; bias, residual and C are valid for
    /// `rows` rows and `cols` columns, and nobody else uses this part of C.
    #[inline(always)]
    pub(crate) unsafe fn finish_spilled<I: Isa>(
        &self,
        isa: I,
        acc: *const f32,
        [rows, cols]: [usize; 2],
        acc_row: usize,
    ) {
        isa.vectorize(Finish { epilogue: self, acc, rows, cols, acc_row });
    }
}

/// The rolled loop over a spilled tile: one copy per level, not one per tile shape.
struct Finish<'t> {
    epilogue: &'t Epilogue<'t>,
    acc: *const f32,
    rows: usize,
    cols: usize,
    acc_row: usize,
}

impl Kernel for Finish<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let e = self.epilogue;
        let alpha = isa.splat(e.alpha);
        let beta = isa.splat(e.beta);
        for r in 0..self.rows {
            for j in (0..self.cols).step_by(I::LANES) {
                let n = (self.cols - j).min(I::LANES);
                // SAFETY: `finish_spilled` promises rows and columns of everything; `n` columns from `j` on exist.
                unsafe {
                    let (i, j) = (r as isize, j as isize);
                    let mut y = isa.load(self.acc.add(r * self.acc_row).offset(j));
                    if e.alpha != 1.0 {
                        y = isa.mul(alpha, y);
                    }
                    let c = e.c.offset(i * e.c_row + j * e.c_col);
                    if e.beta != 0.0 {
                        y = isa.fma(beta, gather(isa, c, e.c_col, n), y);
                    }
                    y = match e.bias {
                        Bias::None => y,
                        Bias::PerColumn(bias, _) => isa.add(y, gather(isa, bias.offset(j), 1, n)),
                        Bias::PerRow(bias, _) => isa.add(y, gather(isa, bias.offset(i), 0, I::LANES)),
                    };
                    y = e.activation.apply(isa, y);
                    if let Some(residual) = e.residual {
                        let p = residual.ptr.offset(i * residual.row + j * residual.col);
                        y = isa.add(y, gather(isa, p, residual.col, n));
                    }
                    scatter(isa, c, e.c_col, n, y);
                }
            }
        }
    }
}

/// Loads `n` values that are `stride` apart.
///
/// # Safety
/// They must be readable.
#[inline(always)]
unsafe fn gather<I: Isa>(isa: I, p: TypedPtr, stride: isize, n: usize) -> I::F32 {
    // SAFETY: the caller's promise.
    typed!(p.dtype(), T => unsafe { gather_as::<I, T>(isa, p.cast(), stride, n) })
}

#[inline(always)]
unsafe fn gather_as<I: Isa, T: Element>(isa: I, p: *const T, stride: isize, n: usize) -> I::F32 {
    // SAFETY: the caller's promise; `n <= LANES <= 16`.
    unsafe {
        if stride == 1 {
            return if n == I::LANES { T::load(isa, p) } else { T::load_tail(isa, p, isa.tail(n)) };
        }
        let mut lanes = [0.0; PANEL];
        for (l, lane) in lanes.iter_mut().enumerate().take(n) {
            *lane = (*p.offset(l as isize * stride)).to_f32();
        }
        isa.load(lanes.as_ptr())
    }
}

/// Stores the first `n` lanes `stride` apart.
///
/// # Safety
/// The places must be writable.
#[inline(always)]
unsafe fn scatter<I: Isa>(isa: I, p: TypedPtr, stride: isize, n: usize, y: I::F32) {
    // SAFETY: the caller's promise.
    typed!(p.dtype(), T => unsafe { scatter_as::<I, T>(isa, p.cast::<T>().cast_mut(), stride, n, y) })
}

#[inline(always)]
unsafe fn scatter_as<I: Isa, T: Element>(isa: I, p: *mut T, stride: isize, n: usize, y: I::F32) {
    // SAFETY: the caller's promise; `n <= LANES <= 16`.
    unsafe {
        if stride == 1 {
            return if n == I::LANES { T::store(isa, p, y) } else { T::store_tail(isa, p, y, isa.tail(n)) };
        }
        let mut lanes = [T::default(); PANEL];
        T::store(isa, lanes.as_mut_ptr(), y);
        for (l, lane) in lanes.into_iter().enumerate().take(n) {
            *p.offset(l as isize * stride) = lane;
        }
    }
}
