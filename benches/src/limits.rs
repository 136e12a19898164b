//! What the machine can do with a pool of threads, measured in this process.

use crate::cases::{Dtype, Work};
use gristmill_core::Error;
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

    /// What bounds a piece of work at our level, on the current pool. The fastest way through a footprint is searched
    /// when it is first asked for.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] when the footprint cannot be held.
    pub fn pace(&self, work: &Work) -> Result<Pace, Error> {
        let footprint = work.footprint();
        let bandwidth = Bandwidth::new(footprint)?;
        let mut patterns = self.patterns.lock().expect("no search panics");
        let pattern = *patterns.entry(footprint).or_insert_with(|| bandwidth.best().0);
        Ok(Pace { arithmetic: arithmetic(self.ours, work), bandwidth, pattern, pinned: self.pinned() })
    }
}

/// The fastest instruction that the work can use: operations on rows of bf16 compute in f32.
fn arithmetic(simd: Simd, work: &Work) -> Arithmetic {
    match work {
        Work::Gemm(_) | Work::Attention(_) | Work::Model(_) if work.dtype() == Dtype::Bf16 => Arithmetic::bf16(simd),
        _ => Arithmetic::fma(simd),
    }
}

/// The machine as it bounds one case, ready to show its rates again and again.
pub struct Pace {
    arithmetic: Arithmetic,
    bandwidth: Bandwidth,
    pattern: Pattern,
    /// As [`Limits::pinned`].
    pub(crate) pinned: bool,
}

impl Pace {
    /// One turn of each rate.
    pub fn turn(&self) -> Rates {
        Rates { gflops: self.arithmetic.turn(), gbs: self.bandwidth.turn(self.pattern) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::Case;

    #[test]
    fn only_products_use_the_dot_product() {
        let simd = Simd::choose(Level::available().last()).unwrap();
        let of = |id: &str| format!("{:?}", arithmetic(simd, &id.parse::<Case>().unwrap().work));
        let [fma, bf16] = [Arithmetic::fma(simd), Arithmetic::bf16(simd)].map(|arithmetic| format!("{arithmetic:?}"));
        for id in ["gemm/bf16/nn/9x9x9/t1", "attention/bf16/1x1x9x9x9/none/t1", "model/encoder/bf16/base/1x9/t1"] {
            assert_eq!(of(id), bf16, "{id}");
        }
        for id in ["softmax/bf16/9x9/t1", "layernorm/bf16/9x9/t1", "gemm/bf16w/nn/9x9x9/t1", "gemm/f16/nn/9x9x9/t1"] {
            assert_eq!(of(id), fma, "{id}");
        }
    }
}
