//! Bias and activation.

use crate::rows::{self, Buffers, Job, Row};
use crate::{RowOptions, check};
use gristmill_core::{Activation, Error, MatMut, MatRef, Operand};
use gristmill_simd::slices::{self, Map2};
use gristmill_simd::{Element, Isa, math, typed};
use std::ops::Range;

/// `y = activation(x + bias)`, element by element; `x` and `y` are [rows, n], `bias` has a value per column, and
/// without one nothing is added.
///
/// The functions are those of [`gristmill_simd::math`]; NaN gives NaN.
///
/// # Errors
/// [`Error::ShapeMismatch`], [`Error::Level`]. Then `y` is untouched.
pub fn bias_activation<X: Element, Y: Element>(
    x: MatRef<'_, X>,
    bias: Option<&[f32]>,
    activation: Activation,
    y: MatMut<'_, Y>,
    options: &RowOptions<'_>,
) -> Result<(), Error> {
    check::same_shape(x, &y)?;
    let bias = check::bias(x.cols(), bias)?;
    // SAFETY: shapes agree; y is borrowed exclusively.
    unsafe { run(BiasActivation { x: x.into(), y: y.into(), bias: bias.map(Operand::from), activation }, options) }
}

/// [`bias_activation`] of `x` into `x`.
///
/// # Errors
/// [`Error::ShapeMismatch`], [`Error::Level`]. Then `x` is untouched.
pub fn bias_activation_in_place<T: Element>(
    x: MatMut<'_, T>,
    bias: Option<&[f32]>,
    activation: Activation,
    options: &RowOptions<'_>,
) -> Result<(), Error> {
    let bias = check::bias(x.cols(), bias)?;
    let x = Operand::from(x);
    // SAFETY: one matrix, borrowed exclusively, is input and output.
    unsafe { run(BiasActivation { x, y: x, bias: bias.map(Operand::from), activation }, options) }
}

struct BiasActivation<'a> {
    x: Operand<'a>,
    y: Operand<'a>,
    /// One row.
    bias: Option<Operand<'a>>,
    activation: Activation,
}

/// # Safety
/// (Job).
unsafe fn run(job: BiasActivation<'_>, options: &RowOptions<'_>) -> Result<(), Error> {
    // SAFETY: the caller's promise.
    unsafe { rows::divide(job.y.shape(), job.y.cols(), options, &job) }
}

impl Job for BiasActivation<'_> {
    #[inline(always)]
    unsafe fn run<I: Isa>(&self, isa: I, rows: Range<usize>) {
        // SAFETY: the caller's promise.
        unsafe {
            match self.activation {
                Activation::Identity => self.apply(isa, rows, &Identity),
                Activation::Relu => self.apply(isa, rows, &Relu),
                Activation::Gelu => self.apply(isa, rows, &Gelu),
                Activation::GeluTanh => self.apply(isa, rows, &GeluTanh),
                Activation::Silu => self.apply(isa, rows, &Silu),
                other => self.apply(isa, rows, &Other(other)),
            }
        }
    }
}

impl BiasActivation<'_> {
    /// # Safety
    /// As [`Job::run`].
    #[inline(always)]
    unsafe fn apply<I: Isa>(&self, isa: I, rows: Range<usize>, f: &impl Map2<I>) {
        let mut buffers = Buffers::default();
        let bias = self.bias.map(|bias| Row::of(&bias, 0));
        for i in rows {
            let [x, y] = [&self.x, &self.y].map(|matrix| Row::of(matrix, i));
            // SAFETY: (Job).
            unsafe {
                match bias {
                    // One type, side by side: one pass.
                    Some(bias) if x.is_dense() && y.is_dense() && x.dtype() == y.dtype() => typed!(x.dtype(), T => {
                        let y = y.start().cast::<T>().cast_mut();
                        slices::map2_raw(isa, x.len(), x.start().cast::<T>(), bias.start().cast::<f32>(), y, f);
                    }),
                    _ => rows::combine(isa, [x, y], bias, &mut buffers, f),
                }
            }
        }
    }
}

/// One function of `x + bias` each.
struct Identity;
struct Relu;
struct Gelu;
struct GeluTanh;
struct Silu;
struct Other(Activation);

impl<I: Isa> Map2<I> for Identity {
    #[inline(always)]
    fn map(&self, isa: I, x: I::F32, bias: I::F32) -> I::F32 {
        isa.add(x, bias)
    }
}

impl<I: Isa> Map2<I> for Relu {
    #[inline(always)]
    fn map(&self, isa: I, x: I::F32, bias: I::F32) -> I::F32 {
        math::relu(isa, isa.add(x, bias))
    }
}

impl<I: Isa> Map2<I> for Gelu {
    #[inline(always)]
    fn map(&self, isa: I, x: I::F32, bias: I::F32) -> I::F32 {
        math::gelu(isa, isa.add(x, bias))
    }
}

impl<I: Isa> Map2<I> for GeluTanh {
    #[inline(always)]
    fn map(&self, isa: I, x: I::F32, bias: I::F32) -> I::F32 {
        math::gelu_tanh(isa, isa.add(x, bias))
    }
}

impl<I: Isa> Map2<I> for Silu {
    #[inline(always)]
    fn map(&self, isa: I, x: I::F32, bias: I::F32) -> I::F32 {
        math::silu(isa, isa.add(x, bias))
    }
}

impl<I: Isa> Map2<I> for Other {
    #[inline(always)]
    fn map(&self, isa: I, x: I::F32, bias: I::F32) -> I::F32 {
        self.0.apply(isa, isa.add(x, bias))
    }
}
