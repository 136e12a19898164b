//! How large and how small the values of a bf16 operand are, which decides how products of pairs may be computed.

use gristmill_core::Operand;
use gristmill_simd::{Dtype, Isa, Kernel, bf16};

/// The smallest and the largest magnitude among values, zeros aside, as bits of bf16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Magnitudes {
    /// The bits of the smallest one that is not zero, less one; with nothing but zeros the largest number there is.
    least: u16,
    most: u16,
}

/// Where the exponent begins.
const FRACTION_BITS: u32 = 7;
const BIAS: i32 = 127;

impl Magnitudes {
    /// Those of nothing.
    pub(crate) const NONE: Self = Self { least: u16::MAX, most: 0 };

    /// Those of both.
    pub(crate) fn and(self, other: Self) -> Self {
        Self { least: self.least.min(other.least), most: self.most.max(other.most) }
    }

    /// Those of bf16 values.
    #[inline(always)]
    fn of(values: &[bf16]) -> Self {
        // Two plain loops' worth of minima and maxima, which the compiler makes registers of.
        values.iter().fold(Self::NONE, |all, x| {
            let magnitude = x.to_bits() & 0x7fff;
            Self { least: all.least.min(magnitude.wrapping_sub(1)), most: all.most.max(magnitude) }
        })
    }

    /// Whether plain multiply-adds give the bits of the dot rule, whatever the order of the products: no operand is
    /// subnormal, and every product is a multiple of 2^-126, so that no sum can come to lie between 0 and 2^-126.
    /// Where multiply-adds round twice, products must not overflow either; they are exact then.
    pub(crate) fn allow_plain(self, other: Self, fused: bool) -> bool {
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

/// The magnitudes of bf16 values that lie side by side.
pub(crate) fn magnitudes_of<I: Isa>(isa: I, values: &[bf16]) -> Magnitudes {
    isa.vectorize(Scan(values))
}

struct Scan<'s>(&'s [bf16]);

impl Kernel for Scan<'_> {
    type Output = Magnitudes;

    #[inline(always)]
    fn run<I: Isa>(self, _: I) -> Magnitudes {
        Magnitudes::of(self.0)
    }
}

/// The magnitudes of a bf16 matrix.
pub(crate) fn magnitudes<I: Isa>(isa: I, m: &Operand<'_>) -> Magnitudes {
    debug_assert_eq!(m.dtype(), Dtype::Bf16);
    let m = if m.strides()[0] == 1 { m.transposed() } else { *m };
    let [rows, cols] = m.shape();
    (0..rows).fold(Magnitudes::NONE, |all, i| {
        if m.strides()[1] == 1 {
            // SAFETY: the values of row i lie side by side.
            return all.and(magnitudes_of(isa, unsafe { std::slice::from_raw_parts(m.ptr_at(i, 0).cast(), cols) }));
        }
        (0..cols).fold(all, |all, j| {
            // SAFETY: (i, j) is an element.
            all.and(Magnitudes::of(&[unsafe { *m.ptr_at(i, j).cast() }]))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[f32]) -> Magnitudes {
        Magnitudes::of(&values.iter().map(|&x| bf16::from_f32(x)).collect::<Vec<_>>())
    }

    #[test]
    fn zeros_do_not_count() {
        assert_eq!(of(&[0.0, -0.0]), Magnitudes { least: u16::MAX, most: 0 });
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
