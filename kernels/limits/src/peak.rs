//! The arithmetic peak of the machine: independent multiply-adds that never leave the registers.

use crate::clock::{median, on_every_thread, turn};
use gristmill_simd::{Isa, Kernel, Level, Simd, bf16};
use std::hint::black_box;

/// Chains in flight: more than two units of four or five cycles need, and still within sixteen registers.
const CHAINS: usize = 12;
/// The same for the dot product: two units of up to six cycles, with room, in thirty-two registers.
const DOT_CHAINS: usize = 16;
/// Steps of every chain in one call.
const STEPS: usize = 10_000;
/// Turns whose median is taken.
const TURNS: usize = 51;

/// An instruction whose peak bounds a computation.
///
/// The peak is its rate when nothing else happens: no load, no store, every operand in a register. It is measured with
/// operands that vary from lane to lane and results that vary from step to step in sign and in all bits, as in real work,
/// so that a CPU whose frequency depends on what its multipliers switch does not show a rate that no product could have.
/// (On the Intel server core where this was checked it makes no difference: constants, zeros and random values ran at
/// the same rate within 1 %, in registers and from the caches alike.)
///
/// Clocks change in time: a peak that a time is compared with should be measured beside it, turn by turn.
#[derive(Clone, Copy, Debug)]
pub struct Arithmetic {
    simd: Simd,
    /// Whether it is the dot product of pairs.
    dot: bool,
}

impl Arithmetic {
    /// Multiply-adds of a level. Where it does not fuse, an operation pair is a multiplication and an addition.
    pub fn fma(simd: Simd) -> Self {
        Self { simd, dot: false }
    }

    /// The dot products of bf16 pairs, at the level that has an instruction for it.
    pub fn bf16_dot(simd: Simd) -> Option<Self> {
        (simd.level() == Level::Avx512Bf16).then_some(Self { simd, dot: true })
    }

    /// The fastest way to multiply values of bf16 at a level: the dot products where they pay, else multiply-adds.
    pub fn bf16(simd: Simd) -> Self {
        Self { simd, dot: simd.dot_pays() }
    }

    /// The median rate over many turns, in floating-point operations per nanosecond.
    pub fn peak(self) -> f64 {
        median(&mut (0..TURNS).map(|_| self.turn()).collect::<Vec<_>>())
    }

    /// One turn of every thread: what all do together, in floating-point operations per nanosecond.
    pub fn turn(self) -> f64 {
        let (simd, lanes) = (self.simd, self.simd.run(Lanes));
        if self.dot {
            rate(2 * 2 * lanes * DOT_CHAINS * STEPS, || simd.run(DotChains))
        } else {
            rate(2 * lanes * CHAINS * STEPS, || simd.run(FmaChains))
        }
    }
}

/// What all threads together do in one turn, when one call is `flops` operations.
fn rate(flops: usize, call: impl Fn() -> f32 + Sync) -> f64 {
    on_every_thread(|_| flops as f64 / turn(|| _ = black_box(call())))
}

/// Different for every lane of every chain, from 0.5 to 1, with all bits in use.
fn fraction(i: usize) -> f32 {
    ((i as f32 + 1.0) * 0.618_034).fract() * 0.5 + 0.5
}

struct Lanes;

impl Kernel for Lanes {
    type Output = usize;

    #[inline(always)]
    fn run<I: Isa>(self, _: I) -> usize {
        I::LANES
    }
}

/// `x = -f x + f` over and over, with f a little below 1 in every lane its own: x changes its sign at almost every
/// step, never comes to rest and never grows. Returns the sum over all chains and lanes.
struct FmaChains;

impl FmaChains {
    fn factor(lane: usize) -> f32 {
        -1.0 + fraction(lane) * 2.0_f32.powi(-13)
    }

    fn shift(lane: usize) -> f32 {
        fraction(lane + 16) * 0.125
    }
}

impl Kernel for FmaChains {
    type Output = f32;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> f32 {
        let (factor, shift) = (register(isa, Self::factor), register(isa, Self::shift));
        let mut chains: [I::F32; CHAINS] =
            std::array::from_fn(|chain| register(isa, |lane| fraction(16 * chain + lane)));
        for _ in 0..STEPS {
            for chain in &mut chains {
                *chain = isa.fma(*chain, factor, shift);
            }
        }
        isa.reduce_add(chains.into_iter().fold(isa.splat(0.0), |sum, chain| isa.add(sum, chain)))
    }
}

/// Adds products of pairs at even steps and takes almost the same away at odd ones, so that sums vary and stay small.
/// Returns the sum over all chains and lanes.
struct DotChains;

impl Kernel for DotChains {
    type Output = f32;

    const DOT: bool = true;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> f32 {
        let pairs = |first: usize, sign: f32| {
            let half = |lane| u32::from(bf16::from_f32(sign * fraction(first + lane)).to_bits());
            isa.to_bits(register(isa, |lane| f32::from_bits(half(lane) | half(lane + 16) << 16)))
        };
        let (x, ups, downs) = (pairs(0, 1.0), pairs(32, 1.0), pairs(33, -1.0));
        let mut chains: [I::F32; DOT_CHAINS] =
            std::array::from_fn(|chain| register(isa, |lane| fraction(16 * chain + lane)));
        for _ in 0..STEPS / 2 {
            for y in [ups, downs] {
                for chain in &mut chains {
                    *chain = isa.dot_bf16(*chain, x, y);
                }
            }
        }
        isa.reduce_add(chains.into_iter().fold(isa.splat(0.0), |sum, chain| isa.add(sum, chain)))
    }
}

/// A value for each lane, which no compiler can know.
#[inline(always)]
fn register<I: Isa>(isa: I, value: impl Fn(usize) -> f32) -> I::F32 {
    let values: [f32; 16] = black_box(std::array::from_fn(value));
    debug_assert!(values.len() >= I::LANES);
    // SAFETY: a register has at most 16 lanes.
    unsafe { isa.load(values.as_ptr()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The chains in plain arithmetic.
    fn scalar(lanes: usize, fused: bool) -> f32 {
        let mut sums = vec![0.0_f32; lanes];
        for chain in 0..CHAINS {
            for (lane, sum) in sums.iter_mut().enumerate() {
                let (factor, shift) = (FmaChains::factor(lane), FmaChains::shift(lane));
                let step = |x: f32| if fused { x.mul_add(factor, shift) } else { x * factor + shift };
                *sum += (0..STEPS).fold(fraction(16 * chain + lane), |x, _| step(x));
            }
        }
        while sums.len() > 1 {
            let upper = sums.split_off(sums.len() / 2);
            sums.iter_mut().zip(upper).for_each(|(sum, upper)| *sum += upper);
        }
        sums[0]
    }

    #[test]
    fn chains_compute_what_they_should_at_every_level() {
        for level in Level::available() {
            let simd = Simd::choose(Some(level)).unwrap();
            assert_eq!(simd.run(FmaChains), scalar(simd.run(Lanes), level.fused()), "{level}");
        }
    }

    #[test]
    fn chains_neither_rest_nor_grow() {
        for lane in 0..16 {
            let (factor, shift) = (FmaChains::factor(lane), FmaChains::shift(lane));
            let mut x = fraction(lane);
            for step in 0..STEPS {
                let next = x.mul_add(factor, shift);
                assert!(next != x && next.abs() <= 2.0, "lane {lane}, step {step}: {x} to {next}");
                x = next;
            }
        }
    }

    #[test]
    fn the_dot_chains_stay_small() {
        if let Ok(simd) = Simd::choose(Some(Level::Avx512Bf16)) {
            let sum = simd.run(DotChains);
            // Chains that only grew would end at some 3e6.
            assert!(sum != 0.0 && sum.abs() < 1e5, "{sum}");
        }
    }
}
