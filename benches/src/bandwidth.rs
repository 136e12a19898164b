//! Read bandwidth for a footprint: the fastest way found to read a buffer of so many bytes again and again.

use crate::{
    buffer::Buffer,
    clock::{median, on_every_thread, turn},
};
use gristmill_simd::{Isa, Kernel, Level, Simd};
use rayon::ThreadPool;
use std::hint::black_box;

/// Registers loaded in one step: enough sums in flight to hide the addition.
const REGISTERS: usize = 8;
/// Values of f32 in a cache line.
const LINE: usize = 16;
/// Turns whose median is taken for each pattern.
const TURNS: usize = 7;
/// Values that one call reads at least, so that its fixed cost is lost beside them.
const CALL: usize = 64 * 1024;

/// A way to walk through a buffer.
#[derive(Clone, Copy, Debug)]
struct Pattern {
    /// Equal parts read side by side: one or four.
    streams: usize,
    /// Lines between a load and its software prefetch; none for zero.
    ahead: usize,
}

/// Bytes that all threads of the pool together read per nanosecond from buffers of `bytes` in all.
///
/// The best of the medians over one and four streams, each without software prefetch and with one of 16, 32 and 64
/// lines, with the widest loads of the CPU.
pub fn read_bandwidth(pool: &ThreadPool, bytes: u64) -> f64 {
    let threads = pool.current_num_threads();
    let share = (bytes as usize / size_of::<f32>()).div_ceil(threads).max(REGISTERS * LINE);
    let shares: Vec<Buffer> = (0..threads).map(|_| Buffer::filled(share, 1.0)).collect();
    let level = Level::available().last();
    let Ok(simd) = Simd::choose(level) else { return f64::NAN };

    let mut best = f64::NAN;
    for streams in [1, 4] {
        for ahead in [0, 16, 32, 64] {
            let pattern = Pattern { streams, ahead };
            let mut rates: Vec<f64> = (0..TURNS).map(|_| rate(pool, simd, &shares, pattern)).collect();
            best = median(&mut rates).max(best);
        }
    }
    best
}

fn rate(pool: &ThreadPool, simd: Simd, shares: &[Buffer], pattern: Pattern) -> f64 {
    on_every_thread(pool, |thread| {
        let data: &[f32] = &shares[thread];
        let passes = CALL.div_ceil(data.len());
        let mut read = 0;
        let time = turn(|| read = black_box(simd.run(Read { data, passes, pattern })));
        (read * size_of::<f32>()) as f64 / time
    })
}

/// Reads the data `passes` times and returns how many values were read; what does not fill a last step is left out.
struct Read<'a> {
    data: &'a [f32],
    passes: usize,
    pattern: Pattern,
}

impl Kernel for Read<'_> {
    type Output = usize;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> usize {
        (0..self.passes)
            .map(|_| match self.pattern {
                Pattern { streams: 1, ahead: 0 } => walk::<I, 1, false>(isa, self.data, 0),
                Pattern { streams: 1, ahead } => walk::<I, 1, true>(isa, self.data, ahead),
                Pattern { ahead: 0, .. } => walk::<I, 4, false>(isa, self.data, 0),
                Pattern { ahead, .. } => walk::<I, 4, true>(isa, self.data, ahead),
            })
            .sum()
    }
}

#[inline(always)]
fn walk<I: Isa, const STREAMS: usize, const PREFETCH: bool>(isa: I, data: &[f32], ahead: usize) -> usize {
    let per_stream = REGISTERS / STREAMS;
    let step = per_stream * I::LANES;
    let steps = data.len() / (STREAMS * step);
    let mut sums = [isa.splat(0.0); REGISTERS];
    for s in 0..steps {
        for stream in 0..STREAMS {
            let at = (stream * steps + s) * step;
            let p = data.as_ptr().wrapping_add(at);
            for r in 0..per_stream {
                debug_assert!(at + (r + 1) * I::LANES <= data.len());
                // SAFETY: `(stream * steps + s + 1) * step <= STREAMS * steps * step <= data.len()`.
                let v = unsafe { isa.load(p.add(r * I::LANES)) };
                let sum = &mut sums[stream * per_stream + r];
                *sum = isa.add(*sum, v);
            }
            if PREFETCH {
                for line in 0..step.div_ceil(LINE) {
                    isa.prefetch(p.wrapping_add((ahead + line) * LINE));
                }
            }
        }
    }
    black_box(isa.reduce_add(sums.into_iter().fold(isa.splat(0.0), |a, b| isa.add(a, b))));
    STREAMS * steps * step
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_reads_all_whole_steps() {
        for level in Level::available() {
            let simd = Simd::choose(Some(level)).unwrap();
            for streams in [1, 4] {
                for ahead in [0, 16] {
                    let data = Buffer::filled(5 * REGISTERS * LINE + 3, 1.0);
                    let read = simd.run(Read { data: &data, passes: 2, pattern: Pattern { streams, ahead } });
                    assert_eq!(read, 2 * 5 * REGISTERS * LINE);
                }
            }
        }
    }

    #[test]
    fn tiny_footprints_have_a_rate() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        assert!(read_bandwidth(&pool, 4) > 0.0);
    }
}
