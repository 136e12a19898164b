//! Bias and activation.

use crate::rows::{self, Apart, Buffers, InPlace, Input, Job, Row};
use crate::{RowOptions, check};
use gristmill_core::{Activation, Error, MatMut, MatRef};
use gristmill_simd::slices::{self, Map2};
use gristmill_simd::{Element, Isa, math};

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
    rows::divide(y, x.cols(), options, &BiasActivation { input: Apart(x), bias, activation })
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
    let n = x.cols();
    let bias = check::bias(n, bias)?;
    rows::divide(x, n, options, &BiasActivation { input: InPlace, bias, activation })
}

struct BiasActivation<'a, In> {
    input: In,
    /// One row.
    bias: Option<MatRef<'a, f32>>,
    activation: Activation,
}

impl<In: Input<Y>, Y: Element> Job<Y> for BiasActivation<'_, In> {
    #[inline(always)]
    fn run<I: Isa>(&self, isa: I, first: usize, y: MatMut<'_, Y>) {
        match self.activation {
            Activation::Identity => self.apply(isa, first, y, &Identity),
            Activation::Relu => self.apply(isa, first, y, &Relu),
            Activation::Gelu => self.apply(isa, first, y, &Gelu),
            Activation::GeluTanh => self.apply(isa, first, y, &GeluTanh),
            Activation::Silu => self.apply(isa, first, y, &Silu),
            other => self.apply(isa, first, y, &Other(other)),
        }
    }
}

impl<In> BiasActivation<'_, In> {
    #[inline(always)]
    fn apply<I: Isa, Y: Element>(&self, isa: I, first: usize, mut y: MatMut<'_, Y>, f: &impl Map2<I>)
    where
        In: Input<Y>,
    {
        let mut buffers = Buffers::default();
        let bias = self.bias.map(|matrix| Row { matrix, index: 0 });
        for i in 0..y.rows() {
            match (self.bias.and_then(|bias| bias.row(0)), self.input.slice(first + i), y.row_mut(i)) {
                (Some(bias), Some(x), Some(y)) => slices::map2(isa, x, bias, y, f),
                (Some(bias), None, Some(y)) if In::IN_PLACE => slices::map2_in_place(isa, y, bias, f),
                _ => rows::combine(isa, (&self.input, bias), (first, i), &mut y, &mut buffers, f),
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
