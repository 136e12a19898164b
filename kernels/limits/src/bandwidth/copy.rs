//! Copying, and adding two operands into a third.

use super::{LINE, REGISTERS};
use gristmill_simd::{Isa, Kernel};
use std::hint::black_box;

/// Writes the first source, or the sum of both if the second is not empty, `passes` times, and returns how many values
/// were read and written; what does not fill a last step is left out.
pub(super) struct Copy<'a> {
    pub(super) sources: [&'a [f32]; 2],
    /// Starts at a cache line; as long as the first source.
    pub(super) target: &'a mut [f32],
    pub(super) passes: usize,
    pub(super) streaming: bool,
    pub(super) ahead: usize,
}

impl Kernel for Copy<'_> {
    type Output = usize;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> usize {
        let Copy { sources: [a, b], target, passes, streaming, ahead } = self;
        assert!(a.len() == target.len() && (b.is_empty() || b.len() == a.len()), "operands of one size");
        assert_eq!(target.as_ptr() as usize % 64, 0, "streaming stores need whole lines");
        (0..passes)
            .map(|_| match (b.is_empty(), streaming) {
                (true, false) => pass::<I, 1, false>(isa, [a], target, ahead),
                (true, true) => pass::<I, 1, true>(isa, [a], target, ahead),
                (false, false) => pass::<I, 2, false>(isa, [a, b], target, ahead),
                (false, true) => pass::<I, 2, true>(isa, [a, b], target, ahead),
            })
            .sum()
    }
}

/// One pass over operands of one size, `target` at a cache line.
#[inline(always)]
fn pass<I: Isa, const SOURCES: usize, const STREAMING: bool>(
    isa: I,
    sources: [&[f32]; SOURCES],
    target: &mut [f32],
    ahead: usize,
) -> usize {
    let step = REGISTERS * I::LANES;
    let steps = target.len() / step;
    for s in 0..steps {
        for r in 0..REGISTERS {
            let at = s * step + r * I::LANES;
            debug_assert!(at + I::LANES <= target.len());
            // SAFETY: `at + LANES <= steps * step <= target.len()`, which is the length of every source; `at` is a
            // multiple of LANES and the target starts at a line, so the store is aligned; the fence follows below.
            unsafe {
                let mut v = isa.load(sources[0].as_ptr().add(at));
                for source in &sources[1..] {
                    v = isa.add(v, isa.load(source.as_ptr().add(at)));
                }
                let p = target.as_mut_ptr().add(at);
                if STREAMING { isa.stream(p, v) } else { isa.store(p, v) }
            }
        }
        if ahead > 0 {
            for line in 0..step.div_ceil(LINE) {
                for source in &sources {
                    isa.prefetch(source.as_ptr().wrapping_add(s * step + (ahead + line) * LINE));
                }
            }
        }
    }
    if STREAMING {
        isa.stream_fence();
    }
    (SOURCES + 1) * steps * step
}

/// The standard library's copy, `passes` times; returns how many values were read and written.
pub(super) fn memcpy(source: &[f32], target: &mut [f32], passes: usize) -> usize {
    for _ in 0..passes {
        black_box(&mut *target).copy_from_slice(black_box(source));
    }
    2 * passes * source.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bandwidth::buffer;
    use gristmill_simd::{Level, Simd};

    #[test]
    fn all_whole_steps_are_copied_or_added() {
        let len = 5 * REGISTERS * LINE + 3;
        let whole = len - 3;
        let sevens = || buffer(std::iter::repeat_n(7.0, len)).unwrap();
        let a = buffer((0..len).map(|i| i as f32)).unwrap();
        let b = buffer((0..len).map(|i| (i * i % 97) as f32)).unwrap();
        for level in Level::available() {
            let simd = Simd::choose(Some(level)).unwrap();
            for (streaming, ahead) in [(false, 0), (false, 16), (true, 0), (true, 16)] {
                let mut target = sevens();
                let copy = Copy { sources: [&a, &[]], target: &mut target, passes: 2, streaming, ahead };
                assert_eq!(simd.run(copy), 2 * 2 * whole);
                assert!(target[..whole] == a[..whole] && target[whole..] == [7.0; 3]);

                let add = Copy { sources: [&a, &b], target: &mut target, passes: 1, streaming, ahead };
                assert_eq!(simd.run(add), 3 * whole);
                assert!((0..whole).all(|i| target[i] == a[i] + b[i]) && target[whole..] == [7.0; 3]);
            }
        }
        let mut target = sevens();
        assert_eq!(memcpy(&a, &mut target, 2), 2 * 2 * len);
        assert_eq!(target[..], a[..]);
    }
}
