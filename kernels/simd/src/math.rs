//! The elementwise functions on registers, equal in bits to [`naive`](crate::naive), which states method, coefficients
//! and error of each.
//!
//! No branch on a value, no table, no approximate reciprocal: the order of operations is that of `naive` at every
//! level. Largest errors over all inputs, at levels that fuse:
//!
//! | function | error | instructions (AVX-512) |
//! |---|---|---|
//! | [`exp`] | 0.988 ULP | 15 |
//! | [`exp_nonpositive`] | 0.988 ULP down to -87, then +0 | 15 |
//! | [`exp_coarse`] | 7.6e-5 relative down to -41, then +0 | 9 |
//! | [`ln`] | 0.833 ULP | 32 |
//! | [`tanh`] | 1.331 ULP | 30, one a division |
//! | [`erf`] | 1.184 ULP | 24 |
//! | [`gelu`] | 2.50 ULP for `x >= 0`, 7.3e-8 absolute below | 18 |
//! | [`gelu_tanh`] | 1.92 ULP for `x >= 0`, 4.7e-8 absolute below | 21, one a division |
//! | [`silu`] | 2.41 ULP, 2.7e-37 absolute below -88 | 19, one a division |
//! | [`relu`] | exact | 1 |

use crate::Isa;
use crate::naive::{
    COARSE_LOWEST, ERF_LARGE, ERF_SMALL, EXP, EXP_COARSE, GELU, GELU_END, GELU_TANH, LN, LN2, MAGIC, SQRT_HALF_BITS,
    TANH,
};
use std::f32::consts::{LN_2, LOG2_E};

/// Horner's rule, as in `naive`.
#[inline(always)]
fn polynomial<I: Isa, const N: usize>(isa: I, x: I::F32, c: &[f32; N]) -> I::F32 {
    let mut y = isa.splat(c[N - 1]);
    for i in (0..N - 1).rev() {
        y = isa.fma(y, x, isa.splat(c[i]));
    }
    y
}

/// `e^x`; see [`naive::exp`](crate::naive::exp).
#[inline(always)]
pub fn exp<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    let x = isa.min(isa.splat(89.0), x);
    let x = isa.max(isa.splat(-104.0), x);
    let [_, [n], r] = exp_reduce_each(isa, [x], MAGIC);
    let [p] = exp_polynomial_each(isa, r);
    isa.scale_pow2(isa.add(p, isa.splat(1.0)), n)
}

/// `e^x` for `x` in [-87, 0], +0 below, NaN for NaN, unspecified for positive `x`; see
/// [`naive::exp_nonpositive`](crate::naive::exp_nonpositive).
#[inline(always)]
pub fn exp_nonpositive<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    let [y] = exp_nonpositive_each(isa, [x]);
    y
}

/// [`exp_nonpositive`] of several registers in step: a chain of 13 dependent operations leaves the units idle, and the
/// processor does not look far enough ahead to begin the next ones.
#[inline(always)]
pub fn exp_nonpositive_each<I: Isa, const N: usize>(isa: I, x: [I::F32; N]) -> [I::F32; N] {
    exp_cut_each(isa, x, exp_near_each(isa, x))
}

/// [`exp_nonpositive`] of some registers, of which [`exp_near`] is `y`.
#[inline(always)]
pub fn exp_cut_each<I: Isa, const N: usize>(isa: I, x: [I::F32; N], mut y: [I::F32; N]) -> [I::F32; N] {
    for (y, x) in y.iter_mut().zip(x) {
        *y = isa.select(isa.not_lt(x, isa.splat(-87.0)), *y, isa.splat(0.0));
    }
    y
}

/// `e^x` for `x` in [-41, 0] to a relative error of 7.6e-5, +0 below, NaN for NaN, unspecified for positive `x`; see
/// [`naive::exp_coarse`](crate::naive::exp_coarse).
#[inline(always)]
pub fn exp_coarse<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    let [y] = exp_coarse_each(isa, [x]);
    y
}

/// [`exp_coarse`] of several registers in step.
#[inline(always)]
pub fn exp_coarse_each<I: Isa, const N: usize>(isa: I, x: [I::F32; N]) -> [I::F32; N] {
    let (mut y, mut t, mut r) = ([isa.splat(EXP_COARSE[EXP_COARSE.len() - 1]); N], x, x);
    // As in `exp_near_each`.
    let biased = if I::FUSED { 127 } else { 0 };
    let magic = isa.splat(MAGIC + biased as f32);
    for (t, r) in t.iter_mut().zip(&mut r) {
        *t = isa.fma(*t, isa.splat(LOG2_E), magic);
        *r = isa.fma(isa.sub(*t, magic), isa.splat(-LN_2), *r);
    }
    for &c in EXP_COARSE[..EXP_COARSE.len() - 1].iter().rev() {
        for (y, &r) in y.iter_mut().zip(&r) {
            *y = isa.fma(*y, r, isa.splat(c));
        }
    }
    for ((y, t), x) in y.iter_mut().zip(t).zip(x) {
        let mut pow2 = isa.shl_i32::<23>(isa.to_bits(t));
        if biased == 0 {
            pow2 = isa.add_i32(pow2, isa.splat_i32(127 << 23));
        }
        let counts = isa.not_lt(x, isa.splat(COARSE_LOWEST));
        *y = isa.select(counts, isa.mul(*y, isa.from_bits(pow2)), isa.splat(0.0));
    }
    y
}

/// [`exp_nonpositive`] where `x` is known not to be below -87: unspecified there.
#[inline(always)]
pub fn exp_near<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    let [y] = exp_near_each(isa, [x]);
    y
}

/// [`exp_near`] of several registers in step.
#[inline(always)]
pub fn exp_near_each<I: Isa, const N: usize>(isa: I, x: [I::F32; N]) -> [I::F32; N] {
    ExpNear::begin(isa, x).end(isa)
}

/// [`exp_near`] of several registers in step, half way: what is left of each exponent, and the powers of two.
///
/// A loop that begins some registers before it ends the ones before them has two chains of operations side by side at any
/// time: one is too long for the processor to look past its end.
#[derive(Clone, Copy)]
pub struct ExpNear<I: Isa, const N: usize> {
    /// The exponents of the powers, as [`scale_pow2`](Isa::scale_pow2) takes them, or the powers.
    pow2: [I::F32; N],
    r: [I::F32; N],
}

impl<I: Isa, const N: usize> ExpNear<I, N> {
    /// What is added to the exponents before they are rounded: where the multiply-add fuses, x * log2(e) is never half way
    /// between two integers, and the bias of the format can be part of it.
    const BIAS: i32 = if I::FUSED && !I::SCALES { 127 } else { 0 };

    /// The first half.
    #[inline(always)]
    pub fn begin(isa: I, x: [I::F32; N]) -> Self {
        let [t, n, r] = exp_reduce_each(isa, x, MAGIC + Self::BIAS as f32);
        Self { pow2: if I::SCALES { n } else { t }, r }
    }

    /// The second half.
    #[inline(always)]
    pub fn end(self, isa: I) -> [I::F32; N] {
        let mut y = exp_polynomial_each(isa, self.r);
        for (p, t) in y.iter_mut().zip(self.pow2) {
            if I::SCALES {
                *p = isa.scale_pow2(isa.add(*p, isa.splat(1.0)), t);
                continue;
            }
            // The low bits of t are n, the rest leaves at the top.
            let mut pow2 = isa.shl_i32::<23>(isa.to_bits(t));
            if Self::BIAS == 0 {
                pow2 = isa.add_i32(pow2, isa.splat_i32(127 << 23));
            }
            let pow2 = isa.from_bits(pow2);
            *p = if I::FUSED {
                // The same bits as (p + 1) * 2^n in one operation, because the result is never subnormal.
                isa.fma(*p, pow2, pow2)
            } else {
                isa.mul(isa.add(*p, isa.splat(1.0)), pow2)
            };
        }
        y
    }
}

impl<I: Isa> ExpNear<I, 4> {
    /// The first half of `x`, and this second half behind it.
    #[inline(always)]
    pub fn end_behind(self, isa: I, x: [I::F32; 4]) -> ([I::F32; 4], Self) {
        let next = Self::begin(isa, x);
        let ([a, b, c, d], [e, f, g, h]) = (self.r, next.r);
        let [a, b, c, d, e, f, g, h] = isa.in_step([a, b, c, d, e, f, g, h]);
        (Self { r: [a, b, c, d], ..self }.end(isa), Self { r: [e, f, g, h], ..next })
    }
}

/// `e^x = (p + 1) * 2^n` of several registers in step: `t = n + magic`, n, and what is left of x. `magic` is [`MAGIC`] or
/// an integer close to it.
#[inline(always)]
fn exp_reduce_each<I: Isa, const N: usize>(isa: I, x: [I::F32; N], magic: f32) -> [[I::F32; N]; 3] {
    let (mut t, mut n, mut r) = (x, x, x);
    for t in &mut t {
        *t = isa.fma(*t, isa.splat(LOG2_E), isa.splat(magic));
    }
    t = isa.in_step(t);
    for (n, t) in n.iter_mut().zip(t) {
        *n = isa.sub(t, isa.splat(magic));
    }
    for c in LN2 {
        for (r, &n) in r.iter_mut().zip(&n) {
            *r = isa.fma(n, isa.splat(-c), *r);
        }
        r = isa.in_step(r);
    }
    [t, n, r]
}

/// The `p` of [`exp_reduce_each`].
#[inline(always)]
fn exp_polynomial_each<I: Isa, const N: usize>(isa: I, r: [I::F32; N]) -> [I::F32; N] {
    let mut q = [isa.splat(EXP[EXP.len() - 1]); N];
    for &c in EXP[..EXP.len() - 1].iter().rev() {
        for (q, &r) in q.iter_mut().zip(&r) {
            *q = isa.fma(*q, r, isa.splat(c));
        }
        q = isa.in_step(q);
    }
    for (q, &r) in q.iter_mut().zip(&r) {
        *q = isa.fma(*q, isa.mul(r, r), r);
    }
    isa.in_step(q)
}

/// Natural logarithm; see [`naive::ln`](crate::naive::ln).
#[inline(always)]
pub fn ln<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    let subnormal = isa.lt(x, isa.splat(f32::MIN_POSITIVE));
    let normal = isa.select(subnormal, isa.mul(x, isa.splat(16777216.0)), x);
    let e0 = isa.select(subnormal, isa.splat(-24.0), isa.splat(0.0));
    let shifted = isa.sub_i32(isa.to_bits(normal), isa.splat_i32(SQRT_HALF_BITS));
    let e = isa.add(isa.to_f32(isa.shr_i32::<23>(shifted)), e0);
    let m = isa.add_i32(isa.and_i32(shifted, isa.splat_i32(0x007f_ffff)), isa.splat_i32(SQRT_HALF_BITS));
    let f = isa.sub(isa.from_bits(m), isa.splat(1.0));
    let q = polynomial(isa, f, &LN);
    let s = isa.mul(f, f);
    let y = isa.fma(isa.mul(q, f), s, isa.mul(e, isa.splat(LN2[1])));
    let y = isa.fma(isa.splat(-0.5), s, y);
    let y = isa.fma(e, isa.splat(LN2[0]), isa.add(f, y));
    let y = isa.select(isa.eq(x, isa.splat(0.0)), isa.splat(f32::NEG_INFINITY), y);
    let y = isa.select(isa.eq(x, isa.splat(f32::INFINITY)), x, y);
    let invalid = isa.mask_or(isa.lt(x, isa.splat(0.0)), isa.is_nan(x));
    isa.select(invalid, isa.splat(f32::NAN), y)
}

/// Hyperbolic tangent; see [`naive::tanh`](crate::naive::tanh).
#[inline(always)]
pub fn tanh<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    let one = isa.splat(1.0);
    let a = isa.abs(x);
    let s = isa.mul(a, a);
    let small = isa.fma(isa.mul(polynomial(isa, s, &TANH), s), a, a);
    let large = isa.sub(one, isa.div(isa.splat(2.0), isa.add(exp(isa, isa.add(a, a)), one)));
    isa.copysign(isa.select(isa.lt(a, isa.splat(0.625)), small, large), x)
}

/// Error function; see [`naive::erf`](crate::naive::erf).
#[inline(always)]
pub fn erf<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    let a = isa.min(isa.splat(4.0), isa.abs(x));
    let small = isa.fma(polynomial(isa, isa.mul(a, a), &ERF_SMALL), a, a);
    let r = polynomial(isa, a, &ERF_LARGE);
    let large = isa.fma(isa.neg(isa.mul(r, r)), r, isa.splat(1.0));
    isa.copysign(isa.select(isa.lt(a, isa.splat(1.085)), small, large), x)
}

/// `max(x, 0)`; see [`naive::relu`](crate::naive::relu).
#[inline(always)]
pub fn relu<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    isa.max(isa.splat(0.0), x)
}

/// Exact GELU, `x Phi(x)`; see [`naive::gelu`](crate::naive::gelu).
#[inline(always)]
pub fn gelu<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    let a = isa.min(isa.splat(GELU_END), isa.abs(x));
    let z = isa.mul(polynomial(isa, a, &GELU), a);
    let y = isa.fma(z, z, isa.add(z, z));
    let r4 = isa.fma(y, isa.add(y, isa.splat(2.0)), isa.splat(1.0));
    let h = isa.mul(isa.splat(0.5), a);
    isa.fma(isa.neg(isa.mul(h, r4)), r4, relu(isa, x))
}

/// GELU by the tanh formula; see [`naive::gelu_tanh`](crate::naive::gelu_tanh).
#[inline(always)]
pub fn gelu_tanh<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    let x = isa.max(isa.splat(-16.0), x);
    let u = isa.mul(x, isa.fma(isa.mul(x, x), isa.splat(GELU_TANH[1]), isa.splat(GELU_TANH[0])));
    isa.div(x, isa.add(exp(isa, u), isa.splat(1.0)))
}

/// SiLU, `x / (1 + e^-x)`; see [`naive::silu`](crate::naive::silu).
#[inline(always)]
pub fn silu<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    let x = isa.max(isa.splat(-128.0), x);
    isa.div(x, isa.add(exp(isa, isa.neg(x)), isa.splat(1.0)))
}
