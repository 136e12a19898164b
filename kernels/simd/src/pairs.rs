//! The dot product of bf16 pairs: its rule on registers that have no instruction for it, whether the CPU's instruction
//! follows the rule, and what tells whether it is worth using.

use crate::{Isa, Kernel, naive};
use std::hint::black_box;

/// The rule lane by lane, for levels without the instruction. Pairs lie in lanes of 32 bits, the even element low.
///
/// Not inlined: it is the slow way, and there is one call in every tile that has it.
#[inline(never)]
pub(crate) fn dot_lanes(acc: &mut [f32; 16], a: &[f32; 16], b: &[f32; 16]) {
    for ((acc, a), b) in acc.iter_mut().zip(a).zip(b) {
        *acc = naive::dot_pair(a.to_bits(), b.to_bits(), *acc);
    }
}

/// Whether [`Isa::dot_bf16`] follows [`naive::dot_pair`], on pairs of any bits and on pairs whose sums lie at the edge
/// of underflow, which random bits hardly ever meet.
pub(crate) struct Probe;

/// Registers of each kind that the probe compares.
const PROBES: u64 = 64;

impl Kernel for Probe {
    type Output = bool;

    const DOT: bool = true;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> bool {
        (0..2 * PROBES).all(|n| {
            let mut lanes = [[0.0; 16]; 3];
            for l in 0..16 {
                let random = scramble(16 * n + l);
                let [acc, a, b] = if n % 2 == 0 { aimed(random) } else { any(random) };
                let l = l as usize;
                [lanes[0][l], lanes[1][l], lanes[2][l]] = [acc, a, b].map(f32::from_bits);
            }
            let [acc, a, b] = lanes;
            let mut want = acc;
            dot_lanes(&mut want, &a, &b);
            let mut got = [0.0; 16];
            // SAFETY: a register has at most 16 lanes.
            unsafe {
                let [a, b] = [a, b].map(|x| isa.to_bits(isa.load(x.as_ptr())));
                isa.store(got.as_mut_ptr(), isa.dot_bf16(isa.load(acc.as_ptr()), a, b));
            }
            let same = |(got, want): (&f32, &f32)| got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan();
            got.iter().zip(&want).take(I::LANES).all(same)
        })
    }
}

/// Well mixed bits (the last steps of SplitMix64).
fn scramble(n: u64) -> u64 {
    let mut z = (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Accumulator and pairs of any bits.
fn any(random: u64) -> [u32; 3] {
    let more = scramble(random);
    [random as u32, (random >> 32) as u32, more as u32]
}

/// An accumulator just above 2^-126 and a product of the other sign that brings the sum within a few 2^-150 of it.
fn aimed(random: u64) -> [u32; 3] {
    let take = |shift: u32, n: u64| ((random >> shift) % n) as u32;
    let (fraction_a, fraction_b, shift, nudge) = (take(0, 128), take(7, 128), take(14, 19), take(24, 5));
    // Magnitudes (128 + fraction_a) 2^-87 and (128 + fraction_b) 2^-(62 + shift).
    let (a, b) = (47 << 7 | fraction_a, (72 - shift) << 7 | fraction_b);
    let product = ((128 + fraction_a) * (128 + fraction_b)) >> shift;
    let acc = 0x0080_0000 + product + nudge - 2;
    let negative = take(30, 2);
    // As the odd element, as the even one, or with a tiny product beside it.
    let (a, b) = match take(32, 3) {
        0 => ((a | (negative ^ 1) << 15) << 16, b << 16),
        1 => (a | (negative ^ 1) << 15, b),
        _ => ((a | (negative ^ 1) << 15) << 16 | take(40, 1 << 13), b << 16 | take(53, 1 << 11)),
    };
    [acc | negative << 31, a, b]
}

/// Independent chains of pairs in registers, to be timed: the dot operation, or the multiply-adds of f32 that replace it,
/// with the widening that they take. Some CPUs have the instruction at a quarter of the rate of others.
pub(crate) struct Chains {
    pub(crate) dot: bool,
}

impl Kernel for Chains {
    type Output = f32;

    const DOT: bool = true;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> f32 {
        let (half, pairs) = (isa.splat(black_box(0.5)), isa.splat_i32(black_box(0x3e80_3e80)));
        let mut chains = [isa.splat(1.0); 12];
        for _ in 0..200 {
            for chain in &mut chains {
                *chain = if self.dot {
                    isa.dot_bf16(*chain, pairs, pairs)
                } else {
                    isa.fma(isa.fma(*chain, half, half), half, half)
                };
            }
        }
        isa.reduce_add(chains.into_iter().fold(half, |sum, chain| isa.add(sum, chain)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Level, Simd};

    #[test]
    fn every_level_passes_the_probe() {
        for level in Level::available() {
            assert!(Simd::choose(Some(level)).unwrap().run(Probe), "{level}");
        }
    }

    #[test]
    fn aimed_pairs_meet_both_sides_of_the_edge() {
        let sums = (0..1000).map(|n| aimed(scramble(n))).map(|[acc, a, b]| {
            let exact = |x: u32, y: u32| f64::from(f32::from_bits(x)) * f64::from(f32::from_bits(y));
            let products = exact(a & 0xffff_0000, b & 0xffff_0000) + exact(a << 16, b << 16);
            ((f64::from(f32::from_bits(acc)) + products).abs() / f64::from(f32::MIN_POSITIVE) - 1.0) * 2f64.powi(24)
        });
        let (mut below, mut within, mut above) = (0, 0, 0);
        for distance in sums {
            below += usize::from(distance < -0.5);
            within += usize::from((-0.5..0.0).contains(&distance));
            above += usize::from((0.0..4.0).contains(&distance));
        }
        assert!(below > 50 && within > 10 && above > 50, "{below} {within} {above}");
    }
}
