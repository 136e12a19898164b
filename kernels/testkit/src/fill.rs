//! Seeded values, the same on every machine.

use gristmill_simd::{Dtype, Element};

/// A small generator of pseudo-random numbers (SplitMix64).
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The generator of this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..n`; 0 for `n = 0`.
    pub fn below(&mut self, n: usize) -> usize {
        ((self.bits() as u128 * n as u128) >> 64) as usize
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// Uniform in [-1, 1).
    pub fn uniform(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    /// Nearly normal, mean 0, variance 1, at most 6 in magnitude: twelve uniform numbers, added exactly.
    pub fn normal(&mut self) -> f32 {
        let sum: u64 = (0..3).map(|_| self.bits()).map(|x| (0..4).map(|i| x >> (16 * i) & 0xffff).sum::<u64>()).sum();
        (sum as f32 - 6.0 * 65535.0) / 65536.0
    }
}

/// What values are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// [`Rng::normal`].
    Normal,
    /// Integers from -8 to 8: products and sums of them are exact, whatever the order.
    Integers,
    /// Normal values of very different magnitude, from 2^-70 to 2^70.
    Scaled,
    /// Mostly normal values; one in eight is a zero of either sign, a subnormal, an extreme, an infinity or NaN.
    Special,
    /// Any bit pattern.
    Bits,
}

/// The values among which [`Fill::Special`] draws.
pub const SPECIAL: [f32; 16] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    f32::from_bits(1),
    -f32::from_bits(0x007f_ffff),
    f32::MIN_POSITIVE,
    f32::EPSILON,
    f32::MAX,
    f32::MIN,
    -87.5,
    88.9,
    16_777_216.0,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::NAN,
];

impl Fill {
    /// Every kind.
    pub const ALL: [Fill; 5] = [Fill::Normal, Fill::Integers, Fill::Scaled, Fill::Special, Fill::Bits];

    /// The next value.
    pub fn value(self, rng: &mut Rng) -> f32 {
        match self {
            Fill::Normal => rng.normal(),
            Fill::Integers => rng.below(17) as f32 - 8.0,
            Fill::Scaled => rng.normal() * f32::from_bits((rng.below(141) as u32 + 57) << 23),
            Fill::Special if rng.one_in(8) => SPECIAL[rng.below(SPECIAL.len())],
            Fill::Special => rng.normal(),
            Fill::Bits => f32::from_bits(rng.bits() as u32),
        }
    }

    /// The next value of a storage type: rounded to it, but for bit patterns and extremes, which are its own.
    pub fn element<T: Element>(self, rng: &mut Rng) -> T {
        let own = T::DTYPE != Dtype::F32;
        match self {
            Fill::Bits if own => T::from_bits(rng.bits() as u32),
            Fill::Special if own && rng.one_in(16) => extreme(rng),
            _ => T::from_f32(self.value(rng)),
        }
    }

    /// `len` values.
    pub fn vec<T: Element>(self, seed: u64, len: usize) -> Vec<T> {
        let mut rng = Rng::new(seed);
        (0..len).map(|_| self.element(&mut rng)).collect()
    }
}

/// An end of a 16-bit type's range: the smallest and the largest subnormal, the smallest normal and the largest number,
/// of either sign.
fn extreme<T: Element>(rng: &mut Rng) -> T {
    let infinity = T::from_f32(f32::INFINITY).to_bits();
    let normal = if T::DTYPE == Dtype::F16 { 1 << 10 } else { 1 << 7 };
    let magnitude = [1, normal - 1, normal, infinity - 1][rng.below(4)];
    T::from_bits(magnitude | (rng.below(2) as u32) << 15)
}

/// `len` normal values.
pub fn normal(seed: u64, len: usize) -> Vec<f32> {
    Fill::Normal.vec(seed, len)
}

/// `len` integers from -8 to 8.
pub fn integers(seed: u64, len: usize) -> Vec<f32> {
    Fill::Integers.vec(seed, len)
}

/// `len` values of which one in eight is special.
pub fn special(seed: u64, len: usize) -> Vec<f32> {
    Fill::Special.vec(seed, len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use gristmill_simd::{bf16, f16};

    #[test]
    fn seeds_decide() {
        for fill in Fill::ALL {
            fn bits<T: Element>(fill: Fill, seed: u64) -> Vec<u32> {
                fill.vec::<T>(seed, 100).into_iter().map(T::to_bits).collect()
            }
            for bits in [bits::<f32>, bits::<f16>, bits::<bf16>] {
                assert_eq!(bits(fill, 7), bits(fill, 7));
                assert_ne!(bits(fill, 7), bits(fill, 8));
            }
        }
        assert_eq!(Rng::new(0).bits(), 0xe220_a839_7b1d_cdaf);
    }

    #[test]
    fn fills_are_what_they_say() {
        let x = normal(1, 100_000);
        let mean = x.iter().map(|&x| f64::from(x)).sum::<f64>() / 1e5;
        let variance = x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / 1e5 - mean * mean;
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.02, "{mean} {variance}");
        let integers = integers(2, 1000);
        assert!((-8..=8).all(|n| integers.contains(&(n as f32))));
        assert!(integers.iter().all(|x| x.fract() == 0.0 && x.abs() <= 8.0));
        let special = special(3, 2000);
        let has = |x: f32| special.iter().any(|y| y.to_bits() == x.to_bits());
        assert!(SPECIAL.into_iter().all(has));
        let extremes: Vec<f16> = Fill::Special.vec(5, 2000);
        assert!([0x0001, 0x83ff, 0x0400, 0x7bff, 0xfc00].iter().all(|&bits| extremes.contains(&f16::from_bits(bits))));
        let scaled: Vec<f32> = Fill::Scaled.vec(4, 2000);
        assert!(scaled.iter().any(|x| x.abs() > 1e18) && scaled.iter().any(|x| x.abs() < 1e-18));
    }
}
