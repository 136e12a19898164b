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

#[cfg(test)]
mod tests {
    use super::*;
    use gristmill_simd::{Kernel, Level, Simd};

    /// Applies an activation to a register that holds `x` in every lane.
    struct Apply(Activation, f32);

    impl Kernel for Apply {
        type Output = f32;

        #[inline(always)]
        fn run<I: Isa>(self, isa: I) -> f32 {
            let mut lanes = [0.0; 16];
            // SAFETY: no register has more than 16 lanes.
            unsafe { isa.store(lanes.as_mut_ptr(), self.0.apply(isa, isa.splat(self.1))) };
            lanes[0]
        }
    }

    #[test]
    fn every_level_gives_the_naive_bits() {
        for level in Level::available() {
            let simd = Simd::choose(Some(level)).unwrap();
            for activation in Activation::ALL {
                for x in [-3.5, -0.25, -0.0, 0.0, 1e-3, 0.7, 12.0, f32::INFINITY, f32::NAN] {
                    let got = simd.run(Apply(activation, x));
                    let want = if level.fused() { activation.naive::<true>(x) } else { activation.naive::<false>(x) };
                    let equal = got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan();
                    assert!(equal, "{level} {activation:?}({x}): {got} is not {want}");
                }
            }
        }
    }
}
