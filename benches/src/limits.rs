//! What the machine can do with a pool of threads, measured in this process.

use crate::{bandwidth::read_bandwidth, cases::Dtype, peak};
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
    bandwidths: RefCell<HashMap<u64, f64>>,
}

/// Two rates of the machine for one case.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// Floating-point operations per nanosecond.
    pub gflops: f64,
    /// Bytes per nanosecond.
    pub gbs: f64,
}

impl Limits {
    /// Measures the peaks.
    ///
    /// # Errors
    /// [`LevelError`] when the process is pinned to a level that does not exist here.
    pub fn measure(pool: &ThreadPool) -> Result<Limits, LevelError> {
        let ours = Simd::choose(None)?.level();
        let fma = Level::available().filter_map(|level| Some((level, peak::fma_peak(pool, level)?))).collect();
        Ok(Limits { fma, bf16_dot: peak::bf16_dot_peak(pool), ours, bandwidths: RefCell::default() })
    }

    /// The level that our kernels run at.
    pub fn level(&self) -> Level {
        self.ours
    }

    /// Whether our kernels are pinned below the best level, so that rivals may use wider registers.
    pub fn pinned(&self) -> bool {
        self.fma.last().is_some_and(|&(best, _)| best != self.ours)
    }

    /// The rates for operands of `dtype` at our level, with a footprint of `bytes`. Bandwidths are measured when they
    /// are first asked for.
    pub fn rates(&self, pool: &ThreadPool, dtype: Dtype, bytes: u64) -> Rates {
        let fma = self.fma.iter().find(|(level, _)| *level == self.ours).map_or(f64::NAN, |&(_, peak)| peak);
        // Some CPUs do the dot instruction so slowly that widening to f32 is the faster way.
        let gflops = match (dtype, self.bf16_dot) {
            (Dtype::Bf16, Some(dot)) if !self.pinned() => dot.max(fma),
            _ => fma,
        };
        let gbs = *self.bandwidths.borrow_mut().entry(bytes).or_insert_with(|| read_bandwidth(pool, bytes));
        Rates { gflops, gbs }
    }
}
