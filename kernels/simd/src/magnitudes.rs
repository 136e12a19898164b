//! How large and how small the values of a bf16 operand are, which decides how products of pairs may be computed.

use crate::{Isa, Kernel, Simd, bf16};

/// The smallest and the largest magnitude among values, zeros aside, as bits of bf16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bf16Magnitudes {
    /// The bits of the smallest one that is not zero, less one; with nothing but zeros the largest number there is.
    least: u16,
    most: u16,
}

/// Where the exponent begins.
const FRACTION_BITS: u32 = 7;
const BIAS: i32 = 127;

impl Bf16Magnitudes {
    /// Those of nothing.
    pub const NONE: Self = Self { least: u16::MAX, most: 0 };

    /// Those of both.
    pub fn and(self, other: Self) -> Self {
        Self { least: self.least.min(other.least), most: self.most.max(other.most) }
    }

    /// Those of some values.
    pub fn of<I: Isa>(isa: I, values: &[bf16]) -> Self {
        isa.vectorize(Scan(values))
    }

    /// [`of`](Self::of), by whoever has no token.
    pub fn find(simd: Simd, values: &[bf16]) -> Self {
        simd.run(Scan(values))
    }

    /// Whether plain multiply-adds give the bits of the dot rule ([`naive::dot_pair`](crate::naive::dot_pair)),
    /// whatever the order of the products: no operand is subnormal, and every product is a multiple of 2^-126, so that no
    /// sum can come to lie between 0 and 2^-126. Where multiply-adds round twice, products must not overflow either; they are exact then.
    pub fn allow_plain(self, other: Self, fused: bool) -> bool {
        if self.most == 0 || other.most == 0 {
            return true;
        }
        let exponent = |bits: u16| i32::from(bits >> FRACTION_BITS) - BIAS;
        let normal = |bits: u16| bits >> FRACTION_BITS > 0;
        let (a, b) = (self.least.wrapping_add(1), other.least.wrapping_add(1));
        // A product of 8-bit significands has 14 places after the point.
        let exact = normal(a) && normal(b) && exponent(a) + exponent(b) >= -126 + 14;
        exact && (fused || exponent(self.most) + exponent(other.most) + 2 <= BIAS)
    }
}

struct Scan<'s>(&'s [bf16]);

impl Kernel for Scan<'_> {
    type Output = Bf16Magnitudes;

    #[inline(always)]
    fn run<I: Isa>(self, _: I) -> Bf16Magnitudes {
        // Two plain loops' worth of minima and maxima, which the compiler makes registers of.
        self.0.iter().fold(Bf16Magnitudes::NONE, |all, x| {
            let magnitude = x.to_bits() & 0x7fff;
            Bf16Magnitudes { least: all.least.min(magnitude.wrapping_sub(1)), most: all.most.max(magnitude) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Of(Vec<bf16>);

    impl Kernel for Of {
        type Output = Bf16Magnitudes;

        fn run<I: Isa>(self, isa: I) -> Bf16Magnitudes {
            Bf16Magnitudes::of(isa, &self.0)
        }
    }

    fn of(values: &[f32]) -> Bf16Magnitudes {
        Simd::choose(None).unwrap().run(Of(values.iter().map(|&x| bf16::from_f32(x)).collect()))
    }

    #[test]
    fn zeros_do_not_count() {
        assert_eq!(of(&[0.0, -0.0]), Bf16Magnitudes { least: u16::MAX, most: 0 });
        assert_eq!(of(&[0.0, -2.0, 0.5]), of(&[0.5, 2.0]));
        assert_eq!(of(&[1.0]).and(of(&[-4.0])), of(&[4.0, 1.0]));
    }

    #[test]
    fn the_edges_of_the_rule() {
        let power = |n: i32| 2f32.powi(n);
        let allow = |a: &[f32], b: &[f32]| [true, false].map(|fused| of(a).allow_plain(of(b), fused));
        assert_eq!(allow(&[power(-56)], &[power(-56)]), [true, true]);
        assert_eq!(allow(&[power(-56)], &[power(-57)]), [false, false]);
        assert_eq!(allow(&[0.0], &[power(-130)]), [true, true]);
        assert_eq!(allow(&[power(-127)], &[power(100)]), [false, false]);
        assert_eq!(allow(&[power(62)], &[power(63)]), [true, true]);
        assert_eq!(allow(&[power(63)], &[power(63)]), [true, false]);
        assert_eq!(allow(&[f32::INFINITY], &[1.0]), [true, false]);
    }
}
