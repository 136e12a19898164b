//! What the machine can do with a pool of threads, measured in this process.

use crate::cases::Dtype;
use gristmill_limits::{Arithmetic, Bandwidth, Footprint, Pattern, Rates};
use gristmill_simd::{Level, LevelError, Simd};
use std::{collections::HashMap, sync::Mutex};

/// The measured limits of one pool.
#[derive(Debug)]
pub struct Limits {
    /// Multiply-add peak of each level that the CPU has, lowest first, in operations per nanosecond.
    pub fma: Vec<(Level, f64)>,
    /// Peak of the bf16 dot instruction, where there is one.
    pub bf16_dot: Option<f64>,
    ours: Simd,
    patterns: Mutex<HashMap<Footprint, Pattern>>,
}

impl Limits {
    /// Measures the peaks on the current pool.
    ///
    /// # Errors
    /// [`LevelError`] when the process is pinned to a level that does not exist here.
    pub fn measure() -> Result<Limits, LevelError> {
        let ours = Simd::choose(None)?;
        let simds = || Level::available().filter_map(|level| Simd::choose(Some(level)).ok());
        Ok(Limits {
            fma: simds().map(|simd| (simd.level(), Arithmetic::fma(simd).peak())).collect(),
            bf16_dot: simds().find_map(Arithmetic::bf16_dot).map(Arithmetic::peak),
            ours,
            patterns: Mutex::default(),
        })
    }

    /// The level that our kernels run at.
    pub fn level(&self) -> Level {
        self.ours.level()
    }

    /// Whether our kernels are pinned below the best level, so that rivals may use wider registers.
    pub fn pinned(&self) -> bool {
        self.fma.last().is_some_and(|&(best, _)| best != self.level())
    }

    /// What bounds a case with operands of `dtype` at our level. The fastest way through a footprint is searched when
    /// it is first asked for.
    pub fn pace(&self, dtype: Dtype, footprint: Footprint) -> Pace {
        let arithmetic = match dtype {
            Dtype::Bf16 => Arithmetic::bf16(self.ours),
            _ => Arithmetic::fma(self.ours),
        };
        let bandwidth = Bandwidth::new(footprint);
        let mut patterns = self.patterns.lock().expect("no search panics");
        let pattern = *patterns.entry(footprint).or_insert_with(|| bandwidth.best().0);
        Pace { arithmetic, bandwidth, pattern }
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
    pub fn turn(&self) -> Rates {
        Rates { gflops: self.arithmetic.turn(), gbs: self.bandwidth.turn(self.pattern) }
    }
}
