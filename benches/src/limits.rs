//! What the machine can do with a pool of threads, measured in this process.

use crate::{
    bandwidth::{Bandwidth, Footprint, Pattern},
    cases::Dtype,
    clock::median,
    peak::Arithmetic,
};
use gristmill_simd::{Level, LevelError, Simd};
use rayon::ThreadPool;
use std::{cell::RefCell, collections::HashMap};

/// The measured limits of one pool.
#[derive(Debug)]
pub struct Limits {
    /// Multiply-add peak of each level that the CPU has, lowest first, in operations per nanosecond.
    pub fma: Vec<(Level, f64)>,
    /// Peak of the bf16 dot instruction, where there is one.
    pub bf16_dot: Option<f64>,
    ours: Level,
    patterns: RefCell<HashMap<Footprint, Pattern>>,
}

/// Two rates of the machine for one case.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// Floating-point operations per nanosecond.
    pub gflops: f64,
    /// Bytes per nanosecond.
    pub gbs: f64,
}

impl Rates {
    /// The median of each rate.
    pub fn medians(turns: &[Rates]) -> Rates {
        let of = |rate: fn(&Rates) -> f64| median(&mut turns.iter().map(rate).collect::<Vec<_>>());
        Rates { gflops: of(|rates| rates.gflops), gbs: of(|rates| rates.gbs) }
    }
}

impl Limits {
    /// Measures the peaks.
    ///
    /// # Errors
    /// [`LevelError`] when the process is pinned to a level that does not exist here.
    pub fn measure(pool: &ThreadPool) -> Result<Limits, LevelError> {
        let ours = Simd::choose(None)?.level();
        let fma = Level::available().filter_map(|level| Some((level, Arithmetic::Fma(level).peak(pool)?))).collect();
        Ok(Limits { fma, bf16_dot: Arithmetic::Bf16Dot.peak(pool), ours, patterns: RefCell::default() })
    }

    /// The level that our kernels run at.
    pub fn level(&self) -> Level {
        self.ours
    }

    /// Whether our kernels are pinned below the best level, so that rivals may use wider registers.
    pub fn pinned(&self) -> bool {
        self.fma.last().is_some_and(|&(best, _)| best != self.ours)
    }

    /// What bounds a case with operands of `dtype` at our level. The fastest way through a footprint is searched when
    /// it is first asked for.
    pub fn pace(&self, pool: &ThreadPool, dtype: Dtype, footprint: Footprint) -> Pace {
        let bandwidth = Bandwidth::new(pool, footprint);
        let search = || bandwidth.best(pool, footprint.traffic);
        let pattern = *self.patterns.borrow_mut().entry(footprint).or_insert_with(search);
        Pace { arithmetic: self.arithmetic(dtype), bandwidth, pattern }
    }

    fn arithmetic(&self, dtype: Dtype) -> Arithmetic {
        let fma = self.fma.iter().find(|(level, _)| *level == self.ours).map_or(f64::NAN, |&(_, peak)| peak);
        // Some CPUs do the dot instruction so slowly that widening to f32 is the faster way.
        match (dtype, self.bf16_dot) {
            (Dtype::Bf16, Some(dot)) if !self.pinned() && dot > fma => Arithmetic::Bf16Dot,
            _ => Arithmetic::Fma(self.ours),
        }
    }
}

/// The machine as it bounds one case, ready to show its rates again and again.
pub struct Pace {
    arithmetic: Arithmetic,
    bandwidth: Bandwidth,
    pattern: Pattern,
}

impl Pace {
    /// One turn of each rate.
    pub fn turn(&self, pool: &ThreadPool) -> Rates {
        let gflops = self.arithmetic.turn(pool).unwrap_or(f64::NAN);
        Rates { gflops, gbs: self.bandwidth.turn(pool, self.pattern) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_taken_of_each_rate() {
        let rates = |gflops, gbs| Rates { gflops, gbs };
        let turns = [rates(1.0, 30.0), rates(2.0, 10.0), rates(9.0, 20.0)];
        assert_eq!(Rates::medians(&turns), rates(2.0, 20.0));
    }
}
