//! Which of two ways to the same bits is the faster one on this CPU.

use crate::{Kernel, Simd};
use std::hint::black_box;
use std::time::Instant;

/// Whether `kernel(true)` takes less time than `kernel(false)`: the shortest of some turns of each.
pub(crate) fn pays<K: Kernel>(simd: Simd, kernel: impl Fn(bool) -> K) -> bool {
    let fastest = |way: bool| {
        let turn = |_| {
            let start = Instant::now();
            black_box(simd.run(kernel(black_box(way))));
            start.elapsed()
        };
        (0..16).map(turn).min()
    };
    fastest(true) < fastest(false)
}
