//! The arithmetic peak of the machine, measured: independent multiply-adds that never leave the registers.

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

/// Multiply-adds of `level` on all threads of the pool, in floating-point operations per nanosecond; `None` where the
/// CPU does not have the level.
///
/// Where the level does not fuse, an operation pair is a multiplication and an addition.
pub fn fma_peak(pool: &ThreadPool, level: Level) -> Option<f64> {
    let simd = Simd::choose(Some(level)).ok()?;
    let flops = 2 * CHAINS * STEPS * simd.run(Lanes);
    Some(rate(pool, flops, || {
        black_box(simd.run(FmaChains));
    }))
}

/// The dot products of bf16 pairs of AVX512-BF16, on all threads of the pool, in floating-point operations per
/// nanosecond; `None` where the CPU does not have them.
pub fn bf16_dot_peak(pool: &ThreadPool) -> Option<f64> {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16") {
        return Some(rate(pool, bf16_dot::FLOPS, || {
            // SAFETY: both features were detected above.
            black_box(unsafe { bf16_dot::chains() });
        }));
    }
    let _ = pool;
    None
}

/// The median over turns of what all threads together do, when one call is `flops` operations.
fn rate(pool: &ThreadPool, flops: usize, call: impl Fn() + Sync) -> f64 {
    let mut rates: Vec<f64> = (0..TURNS).map(|_| on_every_thread(pool, |_| flops as f64 / turn(&call))).collect();
    median(&mut rates)
}

struct Lanes;

impl Kernel for Lanes {
    type Output = usize;

    #[inline(always)]
    fn run<I: Isa>(self, _: I) -> usize {
        I::LANES
    }
}

struct FmaChains;

impl Kernel for FmaChains {
    type Output = f32;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> f32 {
        // x / 2 + 1 tends to 2: no subnormal, no overflow, and nothing that a compiler could know.
        let (half, one) = (isa.splat(black_box(0.5)), isa.splat(black_box(1.0)));
        let mut chains: [I::F32; CHAINS] = std::array::from_fn(|i| isa.splat(i as f32));
        for _ in 0..STEPS {
            for chain in &mut chains {
                *chain = isa.fma(*chain, half, one);
            }
        }
        isa.reduce_add(chains.into_iter().fold(one, |sum, chain| isa.add(sum, chain)))
    }
}

/// The one instruction that this crate uses and the levels of `gristmill-simd` do not name.
#[cfg(target_arch = "x86_64")]
mod bf16_dot {
    use super::STEPS;
    use std::{arch::x86_64::*, hint::black_box};

    /// Chains in flight: two units of up to six cycles, with room.
    const CHAINS: usize = 16;
    /// Operations of one call: sixteen lanes of two multiply-adds each.
    pub(super) const FLOPS: usize = 2 * 2 * 16 * CHAINS * STEPS;

    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(super) fn chains() -> f32 {
        let quarter = _mm512_set1_ps(black_box(0.25));
        let pairs = _mm512_cvtne2ps_pbh(quarter, quarter);
        let mut chains = [_mm512_set1_ps(1.0); CHAINS];
        for _ in 0..STEPS {
            for chain in &mut chains {
                *chain = _mm512_dpbf16_ps(*chain, pairs, pairs);
            }
        }
        _mm512_reduce_add_ps(chains.into_iter().fold(quarter, |sum, chain| _mm512_add_ps(sum, chain)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_reach_their_fixed_point_at_every_level() {
        for level in Level::available() {
            let simd = Simd::choose(Some(level)).unwrap();
            let lanes = simd.run(Lanes) as f32;
            assert_eq!(simd.run(FmaChains), lanes * (2 * CHAINS + 1) as f32);
        }
    }

    #[test]
    fn the_dot_chains_add_an_eighth_per_step() {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16") {
            // SAFETY: both features were detected above.
            let sum = unsafe { bf16_dot::chains() };
            assert_eq!(sum, 16.0 * (16.0 * (1.0 + STEPS as f32 / 8.0) + 0.25));
        }
    }
}
