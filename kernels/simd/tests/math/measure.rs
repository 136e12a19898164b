//! Running a function at every level over many arguments, and measuring its error.

use crate::functions::{Claim, Function, Unit};
use gristmill_simd::slices::{self, Map};
use gristmill_simd::{Isa, Kernel, Level, Simd};
use gristmill_testkit::compare;
use std::marker::PhantomData;

/// `F` on registers.
struct OnRegisters<'a, F>(&'a [f32], &'a mut [f32], PhantomData<F>);

/// `F` in scalar code. As a kernel, because a fused multiply-add is slow without its instruction.
struct Naive<'a, F, const FUSED: bool>(&'a [f32], &'a mut [f32], PhantomData<F>);

struct Apply<F>(PhantomData<F>);

impl<F: Function, I: Isa> Map<I> for Apply<F> {
    #[inline(always)]
    fn map(&self, isa: I, x: I::F32) -> I::F32 {
        F::on_registers(isa, x)
    }
}

impl<F: Function> Kernel for OnRegisters<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        slices::map(isa, self.0, self.1, &Apply::<F>(PhantomData));
    }
}

impl<F: Function, const FUSED: bool> Kernel for Naive<'_, F, FUSED> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, _: I) {
        for (&x, y) in self.0.iter().zip(self.1) {
            *y = F::naive::<FUSED>(x);
        }
    }
}

/// The largest error within one claim, and where it is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Worst {
    pub(crate) error: f64,
    pub(crate) x: f32,
}

impl Worst {
    fn add(&mut self, error: f64, x: f32) {
        if error > self.error {
            *self = Worst { error, x };
        }
    }

    /// The worse of two.
    pub(crate) fn merge(&mut self, other: Worst) {
        self.add(other.error, other.x);
    }
}

/// The largest errors of the fused and the unfused form, per claim.
pub(crate) type Errors = Vec<[Worst; 2]>;

/// Asserts that `F` equals its naive form in bits at every level, and measures the naive form over `x`.
///
/// # Panics
/// When bits differ, or when a result is NaN and should not be, or the other way round.
pub(crate) fn measure<F: Function>(x: &[f32]) -> Errors {
    let x: Vec<f32> = x.iter().map(|&x| F::argument(x)).collect();
    let best = Simd::choose(Level::available().last()).expect("an available level");
    let (mut fused, mut unfused, mut got) = (vec![0.0; x.len()], vec![0.0; x.len()], vec![0.0; x.len()]);
    best.run(Naive::<F, true>(&x, &mut fused, PhantomData));
    best.run(Naive::<F, false>(&x, &mut unfused, PhantomData));
    for level in Level::available() {
        Simd::choose(Some(level)).expect("an available level").run(OnRegisters::<F>(&x, &mut got, PhantomData));
        let want = if level.fused() { &fused } else { &unfused };
        if let Some(i) = (0..x.len()).find(|&i| !compare::equal(got[i], want[i])) {
            panic!("{} at {level}: {:e} gives {:e}, naive {:e}", F::NAME, x[i], got[i], want[i]);
        }
    }
    let mut errors = vec![[Worst::default(); 2]; F::CLAIMS.len()];
    for (i, &x) in x.iter().enumerate() {
        let exact = F::exact(x.into());
        for (form, got) in [fused[i], unfused[i]].into_iter().enumerate() {
            assert_eq!(got.is_nan(), exact.is_nan(), "{} of {x:e} is {got:e}, exactly {exact:e}", F::NAME);
            for (claim, worst) in F::CLAIMS.iter().zip(&mut errors) {
                if claim.low <= x && x <= claim.high {
                    worst[form].add(error(got, exact, claim.unit), x);
                }
            }
        }
    }
    errors
}

/// 2^128.
const BEYOND: f64 = f64::from_bits((1023 + 128) << 52);

/// The distance of `got` from `exact` in `unit`. An infinity stands for the power of two after the largest float.
fn error(got: f32, exact: f64, unit: Unit) -> f64 {
    if f64::from(got) == exact || (got.is_infinite() && got == exact as f32) {
        return 0.0;
    }
    let got = if got.is_infinite() { BEYOND.copysign(got.into()) } else { got.into() };
    let error = (got - exact).abs();
    match unit {
        Unit::Absolute => error,
        Unit::Ulp => {
            // Times 2^(23 - e), for an exponent e of at least that of the smallest normal f32.
            let biased = (exact.to_bits() >> 52 & 0x7ff).max(1023 - 126);
            error * f64::from_bits((2046 + 23 - biased) << 52)
        }
    }
}

/// Prints the errors beside their bounds, past the test harness, and asserts the bounds.
///
/// # Panics
/// When an error exceeds its bound.
pub(crate) fn report(name: &str, claims: &[Claim], errors: &Errors) {
    for (claim, worst) in claims.iter().zip(errors) {
        for (form, bound, worst) in [("fused", claim.fused, worst[0]), ("unfused", claim.unfused, worst[1])] {
            let Claim { low, high, unit, .. } = claim;
            let Worst { error, x } = worst;
            let bits = x.to_bits();
            eprintln!(
                "{name:16} {form:8} [{low}, {high}]: {error:.4e} {unit:?} at {x:e} ({bits:08x}), bound {bound:e}"
            );
        }
    }
    for (claim, worst) in claims.iter().zip(errors) {
        assert!(worst[0].error <= claim.fused, "{name}, fused: {:?} exceeds {claim:?}", worst[0]);
        assert!(worst[1].error <= claim.unfused, "{name}, unfused: {:?} exceeds {claim:?}", worst[1]);
    }
}
