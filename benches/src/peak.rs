//! The arithmetic peak of the machine, measured: independent multiply-adds that never leave the registers.
//!
//! # What the peak is
//! The rate of a level's multiply-add when nothing else happens: no load, no store, every operand in a register. It is
//! measured with operands that vary from lane to lane and results that vary from step to step in sign and in all bits,
//! as in real work, so that a CPU whose frequency depends on what its multipliers switch does not show a rate that no
//! product could have. (On the Intel server core where this was checked it makes no difference: constants, zeros and
//! random values ran at the same rate within 1 %, in registers and from the caches alike.)
//!
//! Clocks change in time. So the peak is measured at the start, for the heading, and again in the rounds of every case,
//! where it shares the moment with the contenders; `limit_pct` uses the latter.

use crate::clock::{median, on_every_thread, turn};
use gristmill_simd::{Isa, Kernel, Level, Simd};
use rayon::ThreadPool;
use std::hint::black_box;

/// Chains in flight: more than two units of four or five cycles need, and still within sixteen registers.
const CHAINS: usize = 12;
/// Steps of every chain in one call.
const STEPS: usize = 10_000;
/// Turns whose median is taken.
const TURNS: usize = 51;

/// An instruction whose peak bounds a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    /// Multiply-adds of a level. Where it does not fuse, an operation pair is a multiplication and an addition.
    Fma(Level),
    /// The dot products of bf16 pairs of AVX512-BF16.
    Bf16Dot,
}

impl Arithmetic {
    /// The median rate over many turns, in floating-point operations per nanosecond; `None` where the CPU does not
    /// have the instruction.
    pub fn peak(self, pool: &ThreadPool) -> Option<f64> {
        let mut rates: Vec<f64> = (0..TURNS).map(|_| self.turn(pool)).collect::<Option<_>>()?;
        Some(median(&mut rates))
    }

    /// One turn of every thread of the pool: what all do together, in floating-point operations per nanosecond;
    /// `None` where the CPU does not have the instruction.
    pub fn turn(self, pool: &ThreadPool) -> Option<f64> {
        match self {
            Arithmetic::Fma(level) => {
                let simd = Simd::choose(Some(level)).ok()?;
                let flops = 2 * CHAINS * STEPS * simd.run(Lanes);
                Some(rate(pool, flops, || {
                    black_box(simd.run(FmaChains));
                }))
            }
            Arithmetic::Bf16Dot => {
                #[cfg(target_arch = "x86_64")]
                if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16") {
                    return Some(rate(pool, bf16_dot::FLOPS, || {
                        // SAFETY: both features were detected above.
                        black_box(unsafe { bf16_dot::chains() });
                    }));
                }
                None
            }
        }
    }
}

/// What all threads together do in one turn, when one call is `flops` operations.
fn rate(pool: &ThreadPool, flops: usize, call: impl Fn() + Sync) -> f64 {
    on_every_thread(pool, |_| flops as f64 / turn(&call))
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
        let load = |values: [f32; 16]| {
            let values = black_box(values);
            debug_assert!(values.len() >= I::LANES);
            // SAFETY: a register has at most 16 lanes.
            unsafe { isa.load(values.as_ptr()) }
        };
        let (factor, shift) = (load(std::array::from_fn(Self::factor)), load(std::array::from_fn(Self::shift)));
        let mut chains: [I::F32; CHAINS] =
            std::array::from_fn(|chain| load(std::array::from_fn(|lane| fraction(16 * chain + lane))));
        for _ in 0..STEPS {
            for chain in &mut chains {
                *chain = isa.fma(*chain, factor, shift);
            }
        }
        isa.reduce_add(chains.into_iter().fold(isa.splat(0.0), |sum, chain| isa.add(sum, chain)))
    }
}

/// The one instruction that this crate uses and the levels of `gristmill-simd` do not name.
#[cfg(target_arch = "x86_64")]
mod bf16_dot {
    use super::{STEPS, fraction};
    use std::{arch::x86_64::*, hint::black_box};

    /// Chains in flight: two units of up to six cycles, with room.
    const CHAINS: usize = 16;
    /// Operations of one call: sixteen lanes of two multiply-adds each.
    pub(super) const FLOPS: usize = 2 * 2 * 16 * CHAINS * STEPS;

    /// Adds products of pairs at even steps and takes almost the same away at odd ones, so that sums vary and stay
    /// small. Returns the sum over all chains and lanes.
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(super) fn chains() -> f32 {
        let load = |first: usize, sign: f32| {
            let values: [f32; 16] = black_box(std::array::from_fn(|lane| sign * fraction(first + lane)));
            // SAFETY: sixteen values are there.
            unsafe { _mm512_loadu_ps(values.as_ptr()) }
        };
        let pairs = |first: usize, sign: f32| _mm512_cvtne2ps_pbh(load(first, sign), load(first + 16, sign));
        let (x, ups, downs) = (pairs(0, 1.0), pairs(32, 1.0), pairs(33, -1.0));
        let mut chains: [__m512; CHAINS] = std::array::from_fn(|chain| load(16 * chain, 1.0));
        for _ in 0..STEPS / 2 {
            for y in [ups, downs] {
                for chain in &mut chains {
                    *chain = _mm512_dpbf16_ps(*chain, x, y);
                }
            }
        }
        _mm512_reduce_add_ps(chains.into_iter().fold(_mm512_setzero_ps(), |sum, chain| _mm512_add_ps(sum, chain)))
    }
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
    fn the_dot_chains_stay_finite() {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16") {
            // SAFETY: both features were detected above.
            let sum = unsafe { bf16_dot::chains() };
            assert!(sum.is_finite() && sum != 0.0, "{sum}");
        }
    }
}
