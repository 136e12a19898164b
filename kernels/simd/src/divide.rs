//! Division of many values by one, correctly rounded, without a division each.

use crate::{Isa, Kernel};
use std::hint::black_box;

/// A divisor from 1 to 2^60, or NaN: the denominator of a softmax.
#[derive(Clone, Copy, Debug)]
pub struct Divisor<I: Isa> {
    value: I::F32,
    /// `1 / value`, correctly rounded.
    reciprocal: I::F32,
    /// What that leaves of `1 / value`, to some 24 bits.
    rest: I::F32,
}

/// Magnitudes for which no step of the short way leaves the normal range.
const SAFE: [f32; 2] = [f32::from_bits((127 - 60) << 23), f32::from_bits((127 + 60) << 23)];

impl<I: Isa> Divisor<I> {
    /// `value` is from 1 to 2^60, or NaN.
    #[inline(always)]
    pub fn new(isa: I, value: f32) -> Self {
        let (value, reciprocal) = (isa.splat(value), isa.splat(1.0 / value));
        Self { value, reciprocal, rest: rest_of(isa, value, reciprocal) }
    }

    /// `x / value`, correctly rounded, for any `x` but -0, which gives a zero of either sign.
    ///
    /// With a fused multiply-add a remainder `x - q * value` is exact when `q` is within one unit in the last place
    /// of the quotient, and adding its quotient to `q` then rounds as the division does (Markstein's theorem; it
    /// asks for a correctly rounded reciprocal). The product with the reciprocal alone may be two units off; with
    /// what the reciprocal leaves it is hardly more than half a unit off. Registers with a value that is neither zero
    /// nor in the safe range are divided.
    #[inline(always)]
    pub fn divide(&self, isa: I, x: I::F32) -> I::F32 {
        let size = isa.abs(x);
        let large = isa.mask_or(isa.le(isa.splat(SAFE[0]), size), isa.eq(x, isa.splat(0.0)));
        let safe = isa.mask_and(large, isa.le(size, isa.splat(SAFE[1])));
        if isa.mask_bits(safe) != u32::MAX >> (32 - I::LANES) {
            return isa.div(x, self.value);
        }
        self.divide_safe(isa, x)
    }

    /// [`divide`](Divisor::divide) for magnitudes from 2^-60 to 2^60, and NaN.
    #[inline(always)]
    pub fn divide_safe(&self, isa: I, x: I::F32) -> I::F32 {
        if !I::FUSED {
            return isa.div(x, self.value);
        }
        let q = isa.fma(x, self.reciprocal, isa.mul(x, self.rest));
        isa.fma(isa.fma(isa.neg(q), self.value, x), self.reciprocal, q)
    }

    /// [`divide_safe`](Divisor::divide_safe) of four registers; `beside` says to use the divider for two of them, beside the
    /// multiply-adds of the others, which gives the same bits: see [`Simd::divider_pays`](crate::Simd::divider_pays).
    #[inline(always)]
    pub fn divide_four(&self, isa: I, [a, b, c, d]: [I::F32; 4], beside: bool) -> [I::F32; 4] {
        let [a, c] = match beside {
            true => [isa.div(a, self.value), isa.div(c, self.value)],
            false => [self.divide_safe(isa, a), self.divide_safe(isa, c)],
        };
        [a, self.divide_safe(isa, b), c, self.divide_safe(isa, d)]
    }
}

/// Divides some values, some times, to be timed: some CPUs have a divider that is several times slower than that of others.
pub(crate) struct Quotients {
    pub(crate) beside: bool,
}

impl Kernel for Quotients {
    type Output = [f32; 512];

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> [f32; 512] {
        let (mut values, divisor) = (black_box([1.0; 512]), Divisor::new(isa, black_box(1.5)));
        for _ in 0..32 {
            for four in values.chunks_exact_mut(4 * I::LANES) {
                let p = four.as_mut_ptr();
                // SAFETY: four registers.
                unsafe {
                    let [a, b, c, d] = [p, p.add(I::LANES), p.add(2 * I::LANES), p.add(3 * I::LANES)];
                    let four = [isa.load(a), isa.load(b), isa.load(c), isa.load(d)];
                    let four = divisor.divide_four(isa, four, self.beside);
                    for (p, quotient) in [a, b, c, d].into_iter().zip(four) {
                        isa.store(p, quotient);
                    }
                }
            }
        }
        values
    }
}

/// Some divisors, prepared together.
#[derive(Clone, Copy, Debug)]
pub struct Divisors {
    values: [f32; 16],
    reciprocals: [f32; 16],
    rests: [f32; 16],
}

impl Divisors {
    /// Each of `values` is from 1 to 2^60, or NaN.
    #[inline(always)]
    pub fn new<I: Isa>(isa: I, values: [f32; 16]) -> Self {
        let (mut reciprocals, mut rests) = ([0.0; 16], [0.0; 16]);
        for first in (0..16).step_by(I::LANES) {
            // SAFETY: a register has at most as many lanes as the arrays have values, and LANES divides that.
            unsafe {
                let value = isa.load(values.as_ptr().add(first));
                let reciprocal = isa.div(isa.splat(1.0), value);
                isa.store(reciprocals.as_mut_ptr().add(first), reciprocal);
                isa.store(rests.as_mut_ptr().add(first), rest_of(isa, value, reciprocal));
            }
        }
        Self { values, reciprocals, rests }
    }

    /// Divisor `i`.
    #[inline(always)]
    pub fn get<I: Isa>(&self, isa: I, i: usize) -> Divisor<I> {
        let [value, reciprocal, rest] = [&self.values, &self.reciprocals, &self.rests].map(|x| isa.splat(x[i]));
        Divisor { value, reciprocal, rest }
    }
}

/// What the correctly rounded `reciprocal` of `value` leaves of it.
#[inline(always)]
fn rest_of<I: Isa>(isa: I, value: I::F32, reciprocal: I::F32) -> I::F32 {
    isa.mul(isa.fma(isa.neg(reciprocal), value, isa.splat(1.0)), reciprocal)
}

/// Whether all of some values may be divided by [`Divisor::divide_safe`]: known when they have been.
#[derive(Clone, Copy, Debug)]
pub struct Magnitudes<I: Isa> {
    smallest: I::F32,
    total: I::F32,
}

impl<I: Isa> Magnitudes<I> {
    /// No values yet.
    #[inline(always)]
    pub fn new(isa: I) -> Self {
        Self { smallest: isa.splat(1.0), total: isa.splat(0.0) }
    }

    /// Takes note of a register of values.
    #[inline(always)]
    pub fn see(&mut self, isa: I, x: I::F32) {
        let size = isa.abs(x);
        self.smallest = isa.min(size, self.smallest);
        // A sum, which stays above the largest, and remembers a NaN.
        self.total = isa.add(self.total, size);
    }

    /// What both took note of.
    #[inline(always)]
    pub fn with(self, isa: I, other: Self) -> Self {
        Self { smallest: isa.min(self.smallest, other.smallest), total: isa.add(self.total, other.total) }
    }

    /// Whether no value was NaN or of a magnitude that is not safe. (Not whether some were: zeros pass for unsafe.)
    #[inline(always)]
    pub fn safe(&self, isa: I) -> bool {
        let large = isa.le(isa.splat(SAFE[0]), self.smallest);
        let safe = isa.mask_and(large, isa.le(self.total, isa.splat(SAFE[1])));
        isa.mask_bits(safe) == u32::MAX >> (32 - I::LANES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Level, Simd};

    /// Divides some values by each of some divisors.
    struct Check<'c>(&'c [f32], &'c [f32]);

    impl Kernel for Check<'_> {
        type Output = ();

        #[inline(always)]
        fn run<I: Isa>(self, isa: I) {
            for &divisor in self.1 {
                let divide = Divisor::new(isa, divisor);
                // Among others, in a lane of its own.
                let place = divisor.to_bits() as usize % 16;
                let mut divisors = [3.0; 16];
                divisors[place] = divisor;
                let prepared = Divisors::new(isa, divisors).get(isa, place);
                for block in self.0.chunks_exact(I::LANES) {
                    let mut got = [0.0f32; 16];
                    // SAFETY: a block has as many values as a register, and at most 16.
                    unsafe { isa.store(got.as_mut_ptr(), divide.divide(isa, isa.load(block.as_ptr()))) };
                    let mut safe = [0.0f32; 16];
                    // SAFETY: as above.
                    unsafe { isa.store(safe.as_mut_ptr(), prepared.divide_safe(isa, isa.load(block.as_ptr()))) };
                    let mut fours = [[[0.0f32; 16]; 4]; 2];
                    for (beside, four) in [false, true].into_iter().zip(&mut fours) {
                        // SAFETY: as above.
                        unsafe {
                            let quotients = divide.divide_four(isa, [isa.load(block.as_ptr()); 4], beside);
                            four.iter_mut().zip(quotients).for_each(|(to, v)| isa.store(to.as_mut_ptr(), v));
                        }
                    }
                    for (l, ((&x, got), safe)) in block.iter().zip(got).zip(safe).enumerate() {
                        if (SAFE[0]..=SAFE[1]).contains(&x.abs()) {
                            for quotient in fours.iter().flatten().map(|lanes| lanes[l]).chain([safe]) {
                                assert_eq!(quotient.to_bits(), got.to_bits(), "{}: {x:e} / {divisor:e}", I::LEVEL);
                            }
                        }
                        let same = got.to_bits() == (x / divisor).to_bits() || (got.is_nan() && (x / divisor).is_nan());
                        assert!(same, "{}: {x:e} / {divisor:e} gave {got:e}", I::LEVEL);
                    }
                }
            }
        }
    }

    /// Puts one value into each place among ones.
    struct Judge<'c>(&'c [(f32, bool)]);

    impl Kernel for Judge<'_> {
        type Output = ();

        #[inline(always)]
        fn run<I: Isa>(self, isa: I) {
            for (place, &(value, safe)) in (0..2 * I::LANES).flat_map(|place| self.0.iter().map(move |v| (place, v))) {
                let mut values = [1.0f32; 32];
                values[place] = value;
                let (mut sizes, mut apart) = (Magnitudes::new(isa), [Magnitudes::new(isa); 2]);
                for (block, apart) in values[..2 * I::LANES].chunks_exact(I::LANES).zip(&mut apart) {
                    // SAFETY: a block has as many values as a register.
                    let x = unsafe { isa.load(block.as_ptr()) };
                    sizes.see(isa, x);
                    apart.see(isa, x);
                }
                for sizes in [sizes, apart[0].with(isa, apart[1])] {
                    assert_eq!(sizes.safe(isa), safe, "{}: {value:e} in place {place}", I::LEVEL);
                }
            }
        }
    }

    #[test]
    fn unsafe_magnitudes_are_seen_in_every_place() {
        let below = |x: f32| f32::from_bits(x.to_bits() - 1);
        let judged = [(SAFE[0], true), (below(SAFE[0]), false), (below(SAFE[1]), true), (2.0 * SAFE[1], false)];
        let signed = judged.into_iter().flat_map(|(x, safe)| [(x, safe), (-x, safe)]);
        let special = [0.0, -0.0, f32::MIN_POSITIVE, f32::MAX, f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
        let all: Vec<_> = signed.chain(special.map(|x| (x, false))).collect();
        for level in Level::available() {
            Simd::choose(Some(level)).unwrap().run(Judge(&all));
        }
    }

    #[test]
    fn quotients_are_correctly_rounded() {
        // Significands near the ends and the middle of their range, where ties and near-ties are, and spread ones.
        let significands: Vec<u32> =
            (0..48u32).flat_map(|n| [n, (1 << 23) - 1 - n, (1 << 22) + n, n.wrapping_mul(0x9e37_79b9) >> 9]).collect();
        let divisors: Vec<f32> = significands.iter().map(|s| f32::from_bits(127 << 23 | s)).collect();
        let divisors: Vec<f32> = divisors.iter().copied().chain(divisors.iter().map(|x| x * 731.0)).collect();
        // The whole range of exponents, and the edges of the safe range.
        let exponents = [0, 1, 60, 66, 67, 68, 100, 126, 127, 128, 150, 186, 187, 188, 254, 255];
        let values: Vec<f32> = exponents
            .iter()
            .flat_map(|e| significands.iter().map(move |s| f32::from_bits(e << 23 | s)))
            .flat_map(|x| [x, -x])
            .map(|x| if x == 0.0 { 0.0 } else { x })
            .collect();
        for level in Level::available() {
            Simd::choose(Some(level)).unwrap().run(Check(&values, &divisors));
        }
    }
}
