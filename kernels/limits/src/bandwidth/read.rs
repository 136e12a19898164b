//! Reading.

use super::{LINE, REGISTERS};
use gristmill_simd::{Isa, Kernel};
use std::hint::black_box;

/// Reads the data `passes` times and returns how many values were read; what does not fill a last step is left out.
pub(super) struct Read<'a> {
    pub(super) data: &'a [f32],
    pub(super) passes: usize,
    pub(super) streams: usize,
    pub(super) ahead: usize,
}

impl Kernel for Read<'_> {
    type Output = usize;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> usize {
        (0..self.passes)
            .map(|_| match (self.streams, self.ahead) {
                (1, 0) => walk::<I, 1, false>(isa, self.data, 0),
                (1, ahead) => walk::<I, 1, true>(isa, self.data, ahead),
                (_, 0) => walk::<I, 4, false>(isa, self.data, 0),
                (_, ahead) => walk::<I, 4, true>(isa, self.data, ahead),
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
    use crate::bandwidth::buffer;
    use gristmill_simd::{Level, Simd};

    #[test]
    fn every_pattern_reads_all_whole_steps() {
        for level in Level::available() {
            let simd = Simd::choose(Some(level)).unwrap();
            for (streams, ahead) in [(1, 0), (1, 16), (4, 0), (4, 16)] {
                let data = buffer(std::iter::repeat_n(1.0, 5 * REGISTERS * LINE + 3)).unwrap();
                let read = simd.run(Read { data: &data, passes: 2, streams, ahead });
                assert_eq!(read, 2 * 5 * REGISTERS * LINE);
            }
        }
    }
}
