//! Bias and activation.

use crate::rows::{self, Buffers, Job, Row};
use crate::{RowOptions, check};
use gristmill_core::{Activation, Error, MatMut, MatRef};
use gristmill_simd::slices::Map2;
use gristmill_simd::{Isa, math};

/// `y = activation(x + bias)`, element by element; `x` and `y` are [rows, n], `bias` has a value per column, and
/// without one nothing is added.
///
/// The functions are those of [`gristmill_simd::math`]; NaN gives NaN.
///
/// # Errors
/// [`Error::ShapeMismatch`], [`Error::Level`]. Then `y` is untouched.
pub fn bias_activation(
    x: MatRef<'_, f32>,
    bias: Option<&[f32]>,
    activation: Activation,
    y: MatMut<'_, f32>,
    options: &RowOptions<'_>,
) -> Result<(), Error> {
    check::same_shape(x, &y)?;
    let bias = check::bias(x.cols(), bias)?;
    rows::divide(y, x.cols(), options, &BiasActivation { x: Some(x), bias, activation })
}

/// [`bias_activation`] of `x` into `x`.
///
/// # Errors
/// [`Error::ShapeMismatch`], [`Error::Level`]. Then `x` is untouched.
pub fn bias_activation_in_place(
    x: MatMut<'_, f32>,
    bias: Option<&[f32]>,
    activation: Activation,
    options: &RowOptions<'_>,
) -> Result<(), Error> {
    let n = x.cols();
    let bias = check::bias(n, bias)?;
    rows::divide(x, n, options, &BiasActivation { x: None, bias, activation })
}

struct BiasActivation<'a> {
    /// Without it, the values are in the output.
    x: Option<MatRef<'a, f32>>,
    /// One row.
    bias: Option<MatRef<'a, f32>>,
    activation: Activation,
}

impl Job<f32> for BiasActivation<'_> {
    #[inline(always)]
    fn run<I: Isa>(&self, isa: I, first: usize, y: MatMut<'_, f32>) {
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

impl BiasActivation<'_> {
    #[inline(always)]
    fn apply<I: Isa>(&self, isa: I, first: usize, mut y: MatMut<'_, f32>, f: &impl Map2<I>) {
        let mut buffers = Buffers::new();
        for i in 0..y.rows() {
            let x = self.x.map(|matrix| Row { matrix, index: first + i });
            let bias = self.bias.map(|matrix| Row { matrix, index: 0 });
            rows::combine(isa, (x, bias), &mut y, i, &mut buffers, f);
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
