//! The elementwise functions in scalar code: the specification that [`math`](crate::math) equals bit for bit.
//!
//! `FUSED` says whether a multiply-add rounds once ([`Level::fused`](crate::Level::fused)); levels that agree on it
//! give the same bits.
//!
//! The coefficients are this crate's own, except those of `exp`: a minimax fit in f64 (Lawson's weights), rounded to
//! f32, then a random walk among neighbouring floats that kept what made the largest error of the f32 evaluation
//! smaller. Errors are the largest over all 2^32 inputs, in units in the last place of the exact result (ULP), as
//! `cargo test --release -p gristmill-simd -- --ignored exhaustive` measures them.

/// `a * b + c`, rounded once iff `FUSED`.
#[inline(always)]
pub fn fma<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// Half of a bf16 pair's dot product: `a * b + c`, rounded once at every level, with subnormal operands read as zeros
/// of their sign and with sums that round to less than 2^-126 replaced by zeros of their sign.
///
/// This is what the instruction of AVX512-BF16 computes. `a` and `b` are bf16 values, so that `t` has all that
/// decides whether the sum is flushed: a sum that would round to 2^-126, had its exponent no limit, is not.
#[inline]
pub fn dot_step(a: f32, b: f32, c: f32) -> f32 {
    let [a, b, c] = [a, b, c].map(|x| if x.is_subnormal() { 0f32.copysign(x) } else { x });
    let t = f64::from(a) * f64::from(b) + f64::from(c);
    // 2^-126 * (1 - 2^-25)
    const EDGE: f64 = f32::MIN_POSITIVE as f64 * (1.0 - f32::EPSILON as f64 / 4.0);
    if t != 0.0 && t.abs() < EDGE { 0f32.copysign(t as f32) } else { a.mul_add(b, c) }
}

/// The dot product of bf16 pairs, added to `acc`: the odd elements first, then the even ones. The bits of a pair's even
/// element are the lower half.
#[inline]
pub fn dot_pair(a: u32, b: u32, acc: f32) -> f32 {
    let odd = |pair: u32| f32::from_bits(pair & 0xffff_0000);
    let even = |pair: u32| f32::from_bits(pair << 16);
    dot_step(even(a), even(b), dot_step(odd(a), odd(b), acc))
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
pub(crate) const LN2: [f32; 2] = [355.0 / 512.0, -0.00021219444];
/// `(e^r - 1 - r) / r^2` for `|r| <= ln 2 / 2`.
pub(crate) const EXP: [f32; 6] = [0.5, 0.16666667, 0.041666463, 0.0083333105, 0.0013933901, 0.0001989127];

/// `e^x`: NaN for NaN, 0 for -inf, 1 for zeros, inf above 88.72; subnormal results are rounded, not flushed.
///
/// Method: `x = n ln 2 + r` with the integer `n` nearest to `x / ln 2`, so that `|r| < 0.35`;
/// `e^r = 1 + (r + r^2 q(r))`; times `2^n`. Largest error 0.988 ULP fused, 0.957 unfused; monotonic on [-87, 0].
#[inline]
pub fn exp<const FUSED: bool>(x: f32) -> f32 {
    // Not f32::clamp: a NaN has to pass.
    let x = if 89.0 < x { 89.0 } else { x };
    let x = if -104.0 > x { -104.0 } else { x };
    let n = fma::<FUSED>(x, std::f32::consts::LOG2_E, MAGIC) - MAGIC;
    let r = fma::<FUSED>(n, -LN2[0], x);
    let r = fma::<FUSED>(n, -LN2[1], r);
    let q = polynomial::<FUSED>(r, &EXP);
    let y = fma::<FUSED>(q, r * r, r) + 1.0;
    // 2^n itself may leave the range of f32; its two halves do not.
    let n = n as i32;
    y * pow2(n >> 1) * pow2(n - (n >> 1))
}

/// `e^x` for `x <= 0` as softmax needs it: [`exp`] down to -87, +0 below, NaN for NaN. Positive arguments are outside
/// the contract of [`math::exp_nonpositive`](crate::math::exp_nonpositive).
#[inline]
pub fn exp_nonpositive<const FUSED: bool>(x: f32) -> f32 {
    if x < -87.0 { 0.0 } else { exp::<FUSED>(x) }
}

/// `e^r` for `|r| <= ln 2 / 2`, to 2^-13.7 of itself.
pub(crate) const EXP_COARSE: [f32; 4] = [0.99992806, 1.0001642, 0.504_963_3, 0.16566843];
/// Where [`exp_coarse`] ends.
pub(crate) const COARSE_LOWEST: f32 = -41.0;

/// `e^x` for `x <= 0` that is to be rounded to bf16: +0 below -41, NaN for NaN.
///
/// Method: that of [`exp`], with one constant for ln 2 and a polynomial of degree 3. Largest relative error 7.6e-5, which is
/// 4 % of that of the rounding to bf16; 0 gives 0.99992806, which is 1 in bf16. Positive arguments are outside the contract.
#[inline]
pub fn exp_coarse<const FUSED: bool>(x: f32) -> f32 {
    if x < COARSE_LOWEST {
        return 0.0;
    }
    let n = fma::<FUSED>(x, std::f32::consts::LOG2_E, MAGIC) - MAGIC;
    let r = fma::<FUSED>(n, -std::f32::consts::LN_2, x);
    polynomial::<FUSED>(r, &EXP_COARSE) * pow2(n as i32)
}

/// `2^n` for `n` in [-126, 127].
#[inline(always)]
fn pow2(n: i32) -> f32 {
    f32::from_bits(((n + 127) << 23) as u32)
}

/// `(ln(1 + f) - f + f^2 / 2) / f^3` for `1 + f` in [sqrt(1/2), sqrt(2)).
pub(crate) const LN: [f32; 8] =
    [0.33333337, -0.250008, 0.20001051, -0.16623595, 0.14202341, -0.13160188, 0.12766403, -0.07638686];
/// The bits of sqrt(1/2).
pub(crate) const SQRT_HALF_BITS: i32 = 0x3f35_04f3;

/// Natural logarithm: -inf for zeros, NaN for negative numbers and NaN, inf for inf; subnormals count in full.
///
/// Method: `x = 2^e (1 + f)` with `1 + f` in [sqrt(1/2), sqrt(2)); `ln x = e ln 2 + (f - f^2 / 2 + f^3 q(f))`, small
/// terms first. Largest error 0.833 ULP fused, 0.842 unfused.
#[inline]
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
pub(crate) const TANH: [f32; 5] = [-0.33333278, 0.13331331, -0.053730007, 0.020606177, -0.0056669856];

/// Hyperbolic tangent: odd, ±1 in the limit, NaN for NaN.
///
/// Method: `x + x^3 q(x^2)` below 0.625, else `1 - 2 / (e^2x + 1)`. Largest error 1.331 ULP, fused or not.
#[inline]
pub fn tanh<const FUSED: bool>(x: f32) -> f32 {
    let a = x.abs();
    let s = a * a;
    let small = fma::<FUSED>(polynomial::<FUSED>(s, &TANH) * s, a, a);
    let large = 1.0 - 2.0 / (exp::<FUSED>(a + a) + 1.0);
    (if a < 0.625 { small } else { large }).copysign(x)
}

/// `erf x / x - 1` over `x^2`, for `|x| < 1.085`.
pub(crate) const ERF_SMALL: [f32; 7] =
    [0.12837918, -0.37612608, 0.112833776, -0.026844649, 0.0051701483, -0.0007846489, 7.307023e-5];
/// The cube root of `1 - erf x`, for `x` in [1.085, 4].
pub(crate) const ERF_LARGE: [f32; 10] = [
    1.0068271,
    -0.4113686,
    -0.06266831,
    -0.062676035,
    0.10417044,
    -0.040023997,
    0.005433826,
    0.00024360514,
    -0.00013604251,
    1.0068577e-5,
];

/// Error function: odd, ±1 from 4 on, NaN for NaN.
///
/// Method: `x + x q(x^2)` below 1.085, else `1 - r(x)^3`: the cube root of `1 - erf x` is smooth enough for a
/// polynomial of degree 9, which replaces the exponential function, and below 1/2, where floats are closer, wherever it
/// is used. Largest error 1.184 ULP fused, 1.457 unfused.
#[inline]
pub fn erf<const FUSED: bool>(x: f32) -> f32 {
    let a = x.abs();
    let a = if 4.0 < a { 4.0 } else { a };
    let small = fma::<FUSED>(polynomial::<FUSED>(a * a, &ERF_SMALL), a, a);
    let r = polynomial::<FUSED>(a, &ERF_LARGE);
    let large = fma::<FUSED>(-(r * r), r, 1.0);
    (if a < 1.085 { small } else { large }).copysign(x)
}

/// `max(x, 0)`: +0 for negative numbers; -0 and NaN pass.
///
/// `FUSED` makes no difference; it is there so that all activations have one shape.
#[inline]
pub fn relu<const FUSED: bool>(x: f32) -> f32 {
    if 0.0 > x { 0.0 } else { x }
}

/// `(r - 1) / x` with `r` the eighth root of `2 Phi(-x)`, for `x` in [0, 8.4065].
pub(crate) const GELU: [f32; 8] =
    [-0.0997355, -0.03481607, -0.0007357599, 0.0016433132, 3.5905716e-5, -6.526137e-5, 8.085849e-6, -3.1817243e-7];
/// Where the polynomial for `r` is 0: `x Phi(-x)` ends here.
pub(crate) const GELU_END: f32 = 8.4065;

/// Exact GELU, `x Phi(x)`: 0 for -inf, inf for inf, NaN for NaN; the sign of zero is kept.
///
/// Method: `max(x, 0) - |x| Phi(-|x|)`, which does not cancel, with `Phi(-a) = r(a)^8 / 2`: the eighth root is smooth
/// and nearly straight, so a polynomial of degree 8 does what would take two and an exponential function. Its argument
/// ends where `r` does; the result is 0 below.
///
/// Largest error fused: 2.50 ULP for `x >= 0`, 4.40 ULP on [-1, 0], 7.3e-8 absolute for all negative `x` (unfused
/// 2.67, 4.83, 8.2e-8). Far below -1 the error is small beside 1, not beside the result.
#[inline]
pub fn gelu<const FUSED: bool>(x: f32) -> f32 {
    let a = x.abs();
    let a = if GELU_END < a { GELU_END } else { a };
    // r = 1 + z; its powers minus 1 keep the precision that r itself would lose near 1.
    let z = polynomial::<FUSED>(a, &GELU) * a;
    let y = fma::<FUSED>(z, z, z + z);
    let r4 = fma::<FUSED>(y, y + 2.0, 1.0);
    let h = 0.5 * a;
    fma::<FUSED>(-(h * r4), r4, relu::<FUSED>(x))
}

/// `-2 sqrt(2 / pi)` times 1 and 0.044715.
pub(crate) const GELU_TANH: [f32; 2] = [-1.5957692, -0.071354814];

/// GELU by the tanh formula, `x / 2 * (1 + tanh(u))` with `u = sqrt(2 / pi) * (x + 0.044715 x^3)`, computed as
/// `x / (1 + e^-2u)`, which does not cancel: 0 for -inf, inf for inf, NaN for NaN; the sign of zero is kept.
///
/// Largest error fused: 1.92 ULP for `x >= 0`, 2.57 ULP on [-1, 0], 155 ULP on [-9, 0], 4.7e-8 absolute for all
/// negative `x` (unfused 1.91, 2.57, 184, 4.7e-8).
#[inline]
pub fn gelu_tanh<const FUSED: bool>(x: f32) -> f32 {
    let x = if -16.0 > x { -16.0 } else { x };
    let u = x * fma::<FUSED>(x * x, GELU_TANH[1], GELU_TANH[0]);
    x / (exp::<FUSED>(u) + 1.0)
}

/// SiLU, `x / (1 + e^-x)`: 0 for -inf, inf for inf, NaN for NaN; the sign of zero is kept.
///
/// Largest error 2.41 ULP for `x >= -88`, fused or not. Below -88.72 the result is -0 and the error 2.7e-37.
#[inline]
pub fn silu<const FUSED: bool>(x: f32) -> f32 {
    let x = if -128.0 > x { -128.0 } else { x };
    x / (exp::<FUSED>(-x) + 1.0)
}
