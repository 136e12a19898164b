//! The elementwise functions in scalar code: the specification that [`math`](crate::math) equals bit for bit.
//!
//! `FUSED` says whether a multiply-add rounds once ([`Level::fused`](crate::Level::fused)); levels that agree on it
//! give the same bits. The coefficients are this crate's own fits, except those of `exp`.

/// `a * b + c`, rounded once iff `FUSED`.
#[inline(always)]
pub fn fma<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// `c[0] + c[1] x + c[2] x^2 + ..`, by Horner's rule.
#[inline(always)]
fn polynomial<const FUSED: bool>(x: f32, c: &[f32]) -> f32 {
    let mut y = c[c.len() - 1];
    for i in (0..c.len() - 1).rev() {
        y = fma::<FUSED>(y, x, c[i]);
    }
    y
}

/// 1.5 * 2^23: adding it to a float of magnitude below 2^22 rounds that to an integer, nearest even.
pub(crate) const MAGIC: f32 = 12582912.0;
/// ln 2 in two parts; integers up to 2^11 times the first are exact.
pub(crate) const LN2: [f32; 2] = [0.693359375, -2.12194440e-4];
/// `(e^r - 1 - r) / r^2` for `|r| <= ln 2 / 2`.
pub(crate) const EXP: [f32; 6] =
    [0.5, 0.1666666716337204, 0.041666463017463684, 0.00833331048488617, 0.0013933901209384203, 0.00019891270494554192];

/// `e^x`: NaN for NaN, 0 for -inf, 1 for zeros, inf above 88.72; subnormal results are rounded, not flushed.
pub fn exp<const FUSED: bool>(x: f32) -> f32 {
    // Not f32::clamp: a NaN has to pass.
    let x = if 89.0 < x { 89.0 } else { x };
    let x = if -104.0 > x { -104.0 } else { x };
    let (n, y) = exp_parts::<FUSED>(x);
    // 2^n itself may leave the range of f32; its two halves do not.
    let half = n >> 1;
    y * pow2(half) * pow2(n - half)
}

/// `e^x` for `x <= 0` as softmax needs it: the bits of [`exp`] down to -87, +0 below, NaN for NaN.
pub fn exp_nonpositive<const FUSED: bool>(x: f32) -> f32 {
    if x < -87.0 {
        return 0.0;
    }
    let (n, y) = exp_parts::<FUSED>(x);
    y * pow2(n)
}

/// `e^x = y * 2^n` with `n` the integer nearest to `x / ln 2`.
#[inline(always)]
fn exp_parts<const FUSED: bool>(x: f32) -> (i32, f32) {
    let t = fma::<FUSED>(x, std::f32::consts::LOG2_E, MAGIC);
    let n = t - MAGIC;
    let r = fma::<FUSED>(n, -LN2[0], x);
    let r = fma::<FUSED>(n, -LN2[1], r);
    let q = polynomial::<FUSED>(r, &EXP);
    (n as i32, fma::<FUSED>(q, r * r, r) + 1.0)
}

/// `2^n` for `n` in [-126, 127].
#[inline(always)]
fn pow2(n: i32) -> f32 {
    f32::from_bits(((n + 127) << 23) as u32)
}

/// `(ln(1 + f) - f + f^2 / 2) / f^3` for `1 + f` in [sqrt(1/2), sqrt(2)).
pub(crate) const LN: [f32; 7] = [
    0.33333829045295715,
    -0.25000885128974915,
    0.19966761767864227,
    -0.16594518721103668,
    0.14888504147529602,
    -0.14116139709949493,
    0.08584243059158325,
];
/// The bits of sqrt(1/2).
pub(crate) const SQRT_HALF_BITS: i32 = 0x3f35_04f3;

/// Natural logarithm: -inf for zeros, NaN for negative numbers and NaN, inf for inf; subnormals count in full.
pub fn ln<const FUSED: bool>(x: f32) -> f32 {
    if x == 0.0 {
        return f32::NEG_INFINITY;
    }
    if x == f32::INFINITY {
        return x;
    }
    if x < 0.0 || x.is_nan() {
        return f32::NAN;
    }
    let (normal, e0) = if x < f32::MIN_POSITIVE { (x * 16777216.0, -24) } else { (x, 0) };
    // x = m * 2^e with m in [sqrt(1/2), sqrt(2)).
    let shifted = normal.to_bits() as i32 - SQRT_HALF_BITS;
    let e = ((shifted >> 23) + e0) as f32;
    let m = f32::from_bits(((shifted & 0x007f_ffff) + SQRT_HALF_BITS) as u32);
    let f = m - 1.0;
    let q = polynomial::<FUSED>(f, &LN);
    let s = f * f;
    let y = fma::<FUSED>(q * f, s, e * LN2[1]);
    let y = fma::<FUSED>(-0.5, s, y);
    fma::<FUSED>(e, LN2[0], f + y)
}

/// `(tanh x / x - 1) / x^2` over `x^2`, for `|x| < 0.625`.
pub(crate) const TANH: [f32; 5] =
    [-0.3333333134651184, 0.13332900404930115, -0.05387009680271149, 0.02108512818813324, -0.006220727227628231];

/// Hyperbolic tangent: odd, ±1 in the limit, NaN for NaN.
pub fn tanh<const FUSED: bool>(x: f32) -> f32 {
    let a = x.abs();
    let s = a * a;
    let small = fma::<FUSED>(polynomial::<FUSED>(s, &TANH) * s, a, a);
    let large = 1.0 - 2.0 / (exp::<FUSED>(a + a) + 1.0);
    (if a < 0.625 { small } else { large }).copysign(x)
}

/// `erf x / x` over `x^2`, for `|x| < 0.93`.
pub(crate) const ERF_SMALL: [f32; 6] = [
    1.1283791065216064,
    -0.3761252462863922,
    0.11282134056091309,
    -0.026777558028697968,
    0.005008444655686617,
    -0.000606489076744765,
];
/// `-ln(1 - erf x)` for `x` in [0.93, 4].
pub(crate) const ERF_LARGE: [f32; 9] = [
    -0.00017050010501407087,
    1.1294896602630615,
    0.633412778377533,
    0.108183853328228,
    -0.02503327466547489,
    0.0041227517649531364,
    -0.0004179130482953042,
    1.7931926777237095e-05,
    2.580630393822503e-07,
];

/// Error function: odd, ±1 from 4 on, NaN for NaN.
pub fn erf<const FUSED: bool>(x: f32) -> f32 {
    let a = x.abs();
    let a = if 4.0 < a { 4.0 } else { a };
    let small = polynomial::<FUSED>(a * a, &ERF_SMALL) * a;
    let large = 1.0 - exp_nonpositive::<FUSED>(-polynomial::<FUSED>(a, &ERF_LARGE));
    (if a < 0.93 { small } else { large }).copysign(x)
}

/// `max(x, 0)`: +0 for negative numbers; -0 and NaN pass.
pub fn relu<const FUSED: bool>(x: f32) -> f32 {
    if 0.0 > x { 0.0 } else { x }
}

/// Exact GELU, `x Phi(x)`: `x / 2 * (1 + erf(x / sqrt 2))`.
pub fn gelu<const FUSED: bool>(x: f32) -> f32 {
    let x = if -16.0 > x { -16.0 } else { x };
    let h = 0.5 * x;
    fma::<FUSED>(h, erf::<FUSED>(x * std::f32::consts::FRAC_1_SQRT_2), h)
}

/// GELU by the tanh formula, `x / 2 * (1 + tanh(u))` with `u = sqrt(2 / pi) * (x + 0.044715 x^3)`, computed as
/// `x / (1 + exp(-2 u))`.
pub fn gelu_tanh<const FUSED: bool>(x: f32) -> f32 {
    let x = if -16.0 > x { -16.0 } else { x };
    let u = x * fma::<FUSED>(x * x, GELU_TANH[1], GELU_TANH[0]);
    x / (exp::<FUSED>(u) + 1.0)
}

/// `-2 sqrt(2 / pi)` times 1 and 0.044715.
pub(crate) const GELU_TANH: [f32; 2] = [-1.5957691216057308, -0.07135481627260025];

/// SiLU, `x / (1 + exp(-x))`.
pub fn silu<const FUSED: bool>(x: f32) -> f32 {
    let x = if -128.0 > x { -128.0 } else { x };
    x / (exp::<FUSED>(-x) + 1.0)
}
