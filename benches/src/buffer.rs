//! Operands: cache-line aligned, filled with seeded values.

use aligned_vec::AVec;
use gristmill_testkit::fill::Rng;
use std::ops::{Deref, DerefMut};

/// A block of f32 that starts at a cache line, as the buffers of engines do.
pub struct Buffer(AVec<f32>);

impl Buffer {
    /// `len` copies of `value`.
    pub fn filled(len: usize, value: f32) -> Buffer {
        Buffer(AVec::from_iter(64, std::iter::repeat_n(value, len)))
    }

    /// `len` values spread evenly over [-1, 1), the same for the same seed.
    pub fn uniform(len: usize, seed: u64) -> Buffer {
        let mut rng = Rng::new(seed);
        Buffer(AVec::from_iter(64, std::iter::repeat_with(|| rng.uniform()).take(len)))
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.0
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uniform_values_are_seeded_centred_and_aligned() {
        let (a, b) = (Buffer::uniform(10_000, 1), Buffer::uniform(10_000, 2));
        assert_eq!(a[..], Buffer::uniform(10_000, 1)[..]);
        assert_ne!(a[..], b[..]);
        assert!(a.iter().all(|x| (-1.0..1.0).contains(x)));
        assert!(a.iter().sum::<f32>().abs() < 300.0);
        assert_eq!(a.as_ptr() as usize % 64, 0);
    }
}
