//! Random weights that are the same everywhere: for timing and for tests.

use crate::{Result, TensorSource};

/// Weights drawn from a seed: uniform, scaled like Xavier's for matrices, like `1 / sqrt(width)` for embeddings, near 1
/// for the factors of norms and near 0 for biases.
///
/// A tensor's values depend on the seed, its name and its shape alone, and are the same bits on every platform.
#[derive(Clone, Debug)]
pub struct SeededWeights {
    seed: u64,
    /// Of the open tensor: values are `middle` plus or minus up to `spread`.
    random: SplitMix,
    middle: f32,
    spread: f32,
}

impl SeededWeights {
    /// The weights of `seed`.
    pub fn new(seed: u64) -> Self {
        Self { seed, random: SplitMix(seed), middle: 0.0, spread: 0.0 }
    }
}

impl TensorSource for SeededWeights {
    /// Nothing optional: no `generator.bias`, and tied tensors once.
    fn has(&self, _name: &str) -> bool {
        false
    }

    fn open(&mut self, name: &str, shape: &[usize]) -> Result {
        let width = *shape.last().unwrap_or(&1) as f64;
        let (middle, spread) = match shape {
            _ if name.ends_with("bias") => (0.0, 0.02),
            [_] => (1.0, 0.1),
            _ if name.contains("embed") || name.contains("positions") => (0.0, (3.0 / width).sqrt()),
            _ => (0.0, (6.0 / shape.iter().map(|&size| size as f64).sum::<f64>()).sqrt()),
        };
        (self.middle, self.spread) = (middle, spread as f32);
        self.random = SplitMix(self.seed ^ fnv(name));
        Ok(())
    }

    fn read(&mut self, values: &mut [f32]) -> Result {
        values.iter_mut().for_each(|value| *value = self.random.uniform() * self.spread + self.middle);
        Ok(())
    }
}

/// SplitMix64 by Steele, Lea and Flood.
#[derive(Clone, Debug)]
pub(crate) struct SplitMix(pub(crate) u64);

impl SplitMix {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in [-1, 1), a multiple of 2^-23: exact in f32.
    fn uniform(&mut self) -> f32 {
        (self.next() >> 40) as f32 * (1.0 / (1 << 23) as f32) - 1.0
    }
}

/// FNV-1a, to give every tensor a stream of its own.
fn fnv(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_the_published_one() {
        let mut random = SplitMix(1234567);
        assert_eq!([random.next(), random.next()], [6457827717110365317, 3203168211198807973]);
    }

    #[test]
    fn values_depend_on_seed_and_name_alone() {
        let draw = |seed, name| {
            let (mut source, mut values) = (SeededWeights::new(seed), vec![9.0; 1200]);
            source.open(name, &[40, 30]).unwrap();
            // In portions, as the model reads.
            let (first, rest) = values.split_at_mut(7);
            source.read(first).unwrap();
            source.read(rest).unwrap();
            values
        };
        assert_eq!(draw(1, "a.weight"), draw(1, "a.weight"));
        assert_ne!(draw(1, "a.weight"), draw(2, "a.weight"));
        assert_ne!(draw(1, "a.weight"), draw(1, "b.weight"));
        let limit = (6.0f32 / 70.0).sqrt();
        let values = draw(1, "a.weight");
        assert!(values.iter().all(|value| value.abs() <= limit));
        assert!(values.iter().any(|&value| value > 0.9 * limit) && values.iter().any(|&value| value < -0.9 * limit));
    }
}
