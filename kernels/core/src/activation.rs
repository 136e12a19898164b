//! The functions that fused kernels apply element by element.

use gristmill_simd::{Isa, math, naive};

/// A function of one value. Its arithmetic is that of [`gristmill_simd::naive`], to the bit, at every level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Activation {
    /// `x`.
    #[default]
    Identity,
    /// `max(x, 0)`; NaN and -0 pass.
    Relu,
    /// `x * P(X <= x)` for a standard normal X, by the error function.
    Gelu,
    /// The approximation of GELU by the hyperbolic tangent.
    GeluTanh,
    /// `x / (1 + exp(-x))`.
    Silu,
}

impl Activation {
    /// Every activation.
    pub const ALL: [Activation; 5] =
        [Activation::Identity, Activation::Relu, Activation::Gelu, Activation::GeluTanh, Activation::Silu];

    /// Applies the function to a register.
    #[inline(always)]
    pub fn apply<I: Isa>(self, isa: I, x: I::F32) -> I::F32 {
        match self {
            Activation::Identity => x,
            Activation::Relu => math::relu(isa, x),
            Activation::Gelu => math::gelu(isa, x),
            Activation::GeluTanh => math::gelu_tanh(isa, x),
            Activation::Silu => math::silu(isa, x),
        }
    }

    /// Applies the function to one value, as levels whose multiply-add is fused, or is not, do.
    pub fn naive<const FUSED: bool>(self, x: f32) -> f32 {
        match self {
            Activation::Identity => x,
            Activation::Relu => naive::relu::<FUSED>(x),
            Activation::Gelu => naive::gelu::<FUSED>(x),
            Activation::GeluTanh => naive::gelu_tanh::<FUSED>(x),
            Activation::Silu => naive::silu::<FUSED>(x),
        }
    }
}
