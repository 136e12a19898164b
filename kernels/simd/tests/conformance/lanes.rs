//! The operations that act lane by lane.

use super::{lanes, register};
use gristmill_simd::{Isa, Kernel, naive};
use gristmill_testkit::{Rng, compare};

pub(crate) struct Lanes;

/// Zeros, ones, subnormals, extremes, infinities, NaN of both kinds, and integers around the ends of their range.
const VALUES: [f32; 26] = [
    0.0,
    1.0,
    0.5,
    1.0000001,
    0.99999994,
    3.0,
    12582912.0,
    16777217.0,
    f32::from_bits(1),
    f32::from_bits(0x007f_ffff),
    f32::MIN_POSITIVE,
    f32::MAX,
    f32::INFINITY,
    f32::NAN,
    f32::from_bits(0x7f80_0001),
    f32::from_bits(0x7fff_ffff),
    f32::from_bits(0x4b00_0001),
    1e-20,
    1e20,
    1e-38,
    0.1,
    -7.25,
    2.0,
    8388607.5,
    2147483600.0,
    1.8446744e19,
];

/// Three operands per lane.
struct Operands(Vec<[f32; 3]>);

impl Operands {
    /// All triples of the values in both signs, and random bits.
    fn new() -> Self {
        let signed: Vec<f32> = VALUES.into_iter().flat_map(|x| [x, -x]).collect();
        let mut all = Vec::new();
        for &a in &signed {
            for &b in &signed {
                all.extend(signed.iter().map(|&c| [a, b, c]));
            }
        }
        let mut rng = Rng::new(7);
        all.extend((0..100_000).map(|_| [(); 3].map(|()| f32::from_bits(rng.bits() as u32))));
        // Cancellation, where a second rounding shows.
        all.extend((0..100_000).map(|_| {
            let (a, b) = (rng.normal(), rng.normal());
            [a, b, -a * b]
        }));
        Self(all)
    }

    /// Compares `f` on registers with `scalar`, in bits; where `nan` holds, any NaN is as good as another.
    #[inline(always)]
    fn check<I: Isa>(
        &self,
        isa: I,
        name: &str,
        nan: bool,
        f: impl Fn([I::F32; 3]) -> I::F32,
        scalar: impl Fn([f32; 3]) -> f32,
    ) {
        for chunk in self.0.chunks(I::LANES) {
            let operand = |k: usize| {
                let mut x = [0.0; 16];
                x.iter_mut().zip(chunk).for_each(|(x, operands)| *x = operands[k]);
                register(isa, &x)
            };
            let got = lanes(isa, f([operand(0), operand(1), operand(2)]));
            for (&operands, got) in chunk.iter().zip(got) {
                let want = scalar(operands);
                let same = if nan { compare::equal(got, want) } else { got.to_bits() == want.to_bits() };
                assert!(same, "{name} at {} of {operands:?}: got {got:e}, want {want:e}", I::LEVEL);
            }
        }
    }

    /// Compares a mask with `scalar`.
    #[inline(always)]
    fn check_mask<I: Isa>(
        &self,
        isa: I,
        name: &str,
        f: impl Fn([I::F32; 3]) -> I::Mask,
        scalar: impl Fn([f32; 3]) -> bool,
    ) {
        let (yes, no) = (isa.splat(1.0), isa.splat(0.0));
        self.check(isa, name, false, |x| isa.select(f(x), yes, no), |x| if scalar(x) { 1.0 } else { 0.0 });
    }

    /// Compares an operation on the bits with `scalar`.
    #[inline(always)]
    fn check_bits<I: Isa>(
        &self,
        isa: I,
        name: &str,
        f: impl Fn(I::I32, I::I32) -> I::I32,
        scalar: impl Fn(i32, i32) -> i32,
    ) {
        let bits = |x: f32| x.to_bits() as i32;
        self.check(
            isa,
            name,
            false,
            |[a, b, _]| isa.from_bits(f(isa.to_bits(a), isa.to_bits(b))),
            |[a, b, _]| f32::from_bits(scalar(bits(a), bits(b)) as u32),
        );
    }
}

impl Kernel for Lanes {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let all = Operands::new();
        arithmetic(isa, &all);
        signs_and_order(isa, &all);
        comparisons(isa, &all);
        integers(isa, &all);
        scale_pow2(isa);
    }
}

#[inline(always)]
fn arithmetic<I: Isa>(isa: I, all: &Operands) {
    all.check(isa, "add", true, |[a, b, _]| isa.add(a, b), |[a, b, _]| a + b);
    all.check(isa, "sub", true, |[a, b, _]| isa.sub(a, b), |[a, b, _]| a - b);
    all.check(isa, "mul", true, |[a, b, _]| isa.mul(a, b), |[a, b, _]| a * b);
    all.check(isa, "div", true, |[a, b, _]| isa.div(a, b), |[a, b, _]| a / b);
    all.check(isa, "sqrt", true, |[a, _, _]| isa.sqrt(a), |[a, _, _]| a.sqrt());
    let fma = |[a, b, c]: [f32; 3]| if I::FUSED { naive::fma::<true>(a, b, c) } else { naive::fma::<false>(a, b, c) };
    all.check(isa, "fma", true, |[a, b, c]| isa.fma(a, b, c), fma);
}

#[inline(always)]
fn signs_and_order<I: Isa>(isa: I, all: &Operands) {
    all.check(isa, "max", false, |[a, b, _]| isa.max(a, b), |[a, b, _]| if a > b { a } else { b });
    all.check(isa, "min", false, |[a, b, _]| isa.min(a, b), |[a, b, _]| if a < b { a } else { b });
    let (sign, rest) = (1u32 << 31, u32::MAX >> 1);
    all.check(isa, "abs", false, |[a, _, _]| isa.abs(a), |[a, _, _]| f32::from_bits(a.to_bits() & rest));
    all.check(isa, "neg", false, |[a, _, _]| isa.neg(a), |[a, _, _]| f32::from_bits(a.to_bits() ^ sign));
    all.check(
        isa,
        "copysign",
        false,
        |[a, b, _]| isa.copysign(a, b),
        |[a, b, _]| f32::from_bits(a.to_bits() & rest | b.to_bits() & sign),
    );
}

#[inline(always)]
fn comparisons<I: Isa>(isa: I, all: &Operands) {
    all.check_mask(isa, "lt", |[a, b, _]| isa.lt(a, b), |[a, b, _]| a < b);
    all.check_mask(isa, "not_lt", |[a, b, _]| isa.not_lt(a, b), |[a, b, _]| a >= b || a.is_nan() || b.is_nan());
    all.check_mask(isa, "le", |[a, b, _]| isa.le(a, b), |[a, b, _]| a <= b);
    all.check_mask(isa, "eq", |[a, b, _]| isa.eq(a, b), |[a, b, _]| a == b);
    all.check_mask(isa, "is_nan", |[a, _, _]| isa.is_nan(a), |[a, _, _]| a.is_nan());
    all.check_mask(isa, "mask_and", |[a, b, c]| isa.mask_and(isa.lt(a, b), isa.lt(b, c)), |[a, b, c]| a < b && b < c);
    all.check_mask(isa, "mask_or", |[a, b, c]| isa.mask_or(isa.lt(a, b), isa.lt(b, c)), |[a, b, c]| a < b || b < c);
    all.check(isa, "select", false, |[a, b, c]| isa.select(isa.lt(a, c), a, b), |[a, b, c]| if a < c { a } else { b });
}

#[inline(always)]
fn integers<I: Isa>(isa: I, all: &Operands) {
    all.check_bits(isa, "add_i32", |a, b| isa.add_i32(a, b), i32::wrapping_add);
    all.check_bits(isa, "sub_i32", |a, b| isa.sub_i32(a, b), i32::wrapping_sub);
    all.check_bits(isa, "and_i32", |a, b| isa.and_i32(a, b), |a, b| a & b);
    all.check_bits(isa, "or_i32", |a, b| isa.or_i32(a, b), |a, b| a | b);
    all.check_bits(isa, "splat_i32", |_, _| isa.splat_i32(-123_456_789), |_, _| -123_456_789);
    all.check_bits(isa, "shl_i32", |a, _| isa.shl_i32::<1>(a), |a, _| a << 1);
    all.check_bits(isa, "shl_i32", |a, _| isa.shl_i32::<23>(a), |a, _| a << 23);
    all.check_bits(isa, "shl_i32", |a, _| isa.shl_i32::<31>(a), |a, _| a << 31);
    all.check_bits(isa, "shr_i32", |a, _| isa.shr_i32::<1>(a), |a, _| a >> 1);
    all.check_bits(isa, "shr_i32", |a, _| isa.shr_i32::<23>(a), |a, _| a >> 23);
    all.check_bits(isa, "shr_i32", |a, _| isa.shr_i32::<31>(a), |a, _| a >> 31);
    all.check(isa, "to_f32", false, |[a, _, _]| isa.to_f32(isa.to_bits(a)), |[a, _, _]| a.to_bits() as i32 as f32);
}

/// Every exponent, mantissas over the documented range, and NaN.
#[inline(always)]
fn scale_pow2<I: Isa>(isa: I) {
    let pow2 = |n: i32| 2f32.powi(n);
    let mut rng = Rng::new(11);
    let mut ys = vec![0.5, 0.99999994, 1.0, 1.0000001, 1.5, 1.9999999, 2.0, -0.75, -1.25];
    ys.extend((0..91).map(|_| 1.25 + 0.75 * rng.uniform()));
    for n in -150..=129 {
        for y in ys.chunks(I::LANES) {
            let got = lanes(isa, isa.scale_pow2(register(isa, y), isa.splat(n as f32)));
            for (&y, got) in y.iter().zip(got) {
                let want = y * pow2(n >> 1) * pow2(n - (n >> 1));
                assert_eq!(got.to_bits(), want.to_bits(), "scale_pow2 at {} of {y:e}, {n}", I::LEVEL);
            }
        }
    }
    for n in VALUES {
        for n in [n, -n] {
            let got = lanes(isa, isa.scale_pow2(isa.splat(f32::NAN), isa.splat(n)));
            // The contract is for exponents in range, or NaN.
            if n.is_nan() || (-150.0..=129.0).contains(&n) {
                assert!(got[..I::LANES].iter().all(|y| y.is_nan()), "scale_pow2 at {} of NaN, {n}", I::LEVEL);
            }
        }
    }
}
