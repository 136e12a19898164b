//! The functions under test: on registers, in scalar code, in f64, and what is claimed of their error.

use gristmill_simd::{Isa, math, naive};

/// How an error is counted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Unit {
    /// Units in the last place of the exact result.
    Ulp,
    /// As it is.
    Absolute,
}

/// What the documentation says of the error for `low <= x <= high`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim {
    pub(crate) low: f32,
    pub(crate) high: f32,
    pub(crate) unit: Unit,
    pub(crate) fused: f64,
    pub(crate) unfused: f64,
}

/// A claim in ULP.
const fn ulp(low: f32, high: f32, fused: f64, unfused: f64) -> Claim {
    Claim { low, high, unit: Unit::Ulp, fused, unfused }
}

/// A claim in absolute terms.
const fn absolute(low: f32, high: f32, fused: f64, unfused: f64) -> Claim {
    Claim { low, high, unit: Unit::Absolute, fused, unfused }
}

/// A function of one variable.
pub(crate) trait Function: Copy + Sync + 'static {
    const NAME: &'static str;
    const CLAIMS: &'static [Claim];

    fn on_registers<I: Isa>(isa: I, x: I::F32) -> I::F32;
    fn naive<const FUSED: bool>(x: f32) -> f32;
    fn exact(x: f64) -> f64;
    /// `x`, or an argument for which the function is defined.
    fn argument(x: f32) -> f32 {
        x
    }
}

/// A unit struct and its impl.
macro_rules! function {
    ($type:ident, $name:ident, $exact:expr, $claims:expr $(, $argument:expr)?) => {
        #[derive(Clone, Copy)]
        pub(crate) struct $type;

        impl Function for $type {
            const NAME: &'static str = stringify!($name);
            const CLAIMS: &'static [Claim] = &$claims;

            #[inline(always)]
            fn on_registers<I: Isa>(isa: I, x: I::F32) -> I::F32 {
                math::$name(isa, x)
            }
            #[inline(always)]
            fn naive<const FUSED: bool>(x: f32) -> f32 {
                naive::$name::<FUSED>(x)
            }
            fn exact(x: f64) -> f64 {
                let exact: fn(f64) -> f64 = $exact;
                exact(x)
            }
            $(fn argument(x: f32) -> f32 {
                let argument: fn(f32) -> f32 = $argument;
                argument(x)
            })?
        }
    };
}

const INF: f32 = f32::INFINITY;

function!(Exp, exp, libm::exp, [ulp(-INF, INF, 0.99, 0.96)]);
function!(
    ExpNonpositive,
    exp_nonpositive,
    libm::exp,
    [ulp(-87.0, 0.0, 0.99, 0.96), absolute(-INF, -87.0, 2e-38, 2e-38)],
    |x| if x > 0.0 { -x } else { x }
);
function!(
    ExpCoarse,
    exp_coarse,
    libm::exp,
    // 7.6e-5 of the result.
    [ulp(-41.0, 0.0, 1280.0, 1280.0), absolute(-INF, -41.0, 1.6e-18, 1.6e-18)],
    |x| if x > 0.0 { -x } else { x }
);
function!(Ln, ln, libm::log, [ulp(-INF, INF, 0.84, 0.85)]);
function!(Tanh, tanh, libm::tanh, [ulp(-INF, INF, 1.34, 1.34)]);
function!(Erf, erf, libm::erf, [ulp(-INF, INF, 1.19, 1.46)]);
function!(Relu, relu, |x| if x < 0.0 { 0.0 } else { x }, [ulp(-INF, INF, 0.0, 0.0)]);
function!(
    Gelu,
    gelu,
    |x| 0.5 * x.max(-40.0) * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2),
    [ulp(0.0, INF, 2.5, 2.7), ulp(-1.0, 0.0, 4.4, 4.9), absolute(-INF, 0.0, 7.3e-8, 8.2e-8)]
);
function!(
    GeluTanh,
    gelu_tanh,
    |x| {
        let u = std::f64::consts::FRAC_2_PI.sqrt() * (x + 0.044715 * x * x * x);
        x.max(-40.0) / (1.0 + libm::exp(-2.0 * u))
    },
    [
        ulp(0.0, INF, 1.92, 1.91),
        ulp(-1.0, 0.0, 2.57, 2.57),
        ulp(-9.0, 0.0, 155.0, 184.0),
        absolute(-INF, 0.0, 4.7e-8, 4.7e-8)
    ]
);
function!(
    Silu,
    silu,
    |x| x.max(-1000.0) / (1.0 + libm::exp(-x)),
    [ulp(-88.0, INF, 2.41, 2.41), absolute(-INF, -88.0, 2.7e-37, 2.7e-37)]
);
