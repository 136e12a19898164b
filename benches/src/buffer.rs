//! Operands and outputs: cache-line aligned, filled with seeded values.

use aligned_vec::AVec;
use gristmill_simd::{Element, bf16, f16};
use gristmill_testkit::fill::Rng;
use std::ops::{Deref, DerefMut};

/// A block of values that starts at a cache line, as the buffers of engines do.
pub struct Buffer<T = f32>(AVec<T>);

impl<T: Element> Buffer<T> {
    /// `len` copies of `value`.
    pub fn filled(len: usize, value: f32) -> Self {
        Buffer(AVec::from_iter(64, std::iter::repeat_n(T::from_f32(value), len)))
    }

    /// `len` values spread evenly over [-1, 1), the same for the same seed, rounded to the type.
    pub fn uniform(len: usize, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        Buffer(AVec::from_iter(64, std::iter::repeat_with(|| T::from_f32(rng.uniform())).take(len)))
    }
}

impl<T: Stored> Buffer<T> {
    /// The values, if they are f32.
    pub fn f32s(&self) -> Option<&[f32]> {
        T::f32s(self)
    }
}

impl<T> Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.0
    }
}

/// What the contenders of a case write: a buffer of one of the storage types.
pub enum Output {
    /// Values of f32.
    F32(Buffer<f32>),
    /// Values of f16.
    F16(Buffer<f16>),
    /// Values of bf16.
    Bf16(Buffer<bf16>),
}

impl Output {
    /// `len` NaN of the type `T`.
    pub fn of<T: Stored>(len: usize) -> Output {
        T::output(Buffer::filled(len, f32::NAN))
    }

    /// Replaces every value.
    pub fn fill(&mut self, value: f32) {
        match self {
            Output::F32(values) => values.fill(value),
            Output::F16(values) => values.fill(f16::from_f32(value)),
            Output::Bf16(values) => values.fill(bf16::from_f32(value)),
        }
    }

    /// The values, widened, which is exact.
    pub fn values(&self) -> Vec<f32> {
        match self {
            Output::F32(values) => values.to_vec(),
            Output::F16(values) => values.iter().map(|x| x.to_f32()).collect(),
            Output::Bf16(values) => values.iter().map(|x| x.to_f32()).collect(),
        }
    }
}

/// A storage type that an [`Output`] can have.
pub trait Stored: Element {
    /// A buffer of the type as an output.
    fn output(buffer: Buffer<Self>) -> Output;

    /// The values of an output of the type.
    ///
    /// # Panics
    /// When the output has another type: a contender does not belong to its case.
    fn slice(output: &mut Output) -> &mut [Self];

    /// The same values, if the type is f32.
    fn f32s(_values: &[Self]) -> Option<&[f32]> {
        None
    }
}

/// One impl per variant of [`Output`].
macro_rules! stored {
    ($t:ty, $variant:ident $(, $more:item)?) => {
        impl Stored for $t {
            fn output(buffer: Buffer<Self>) -> Output {
                Output::$variant(buffer)
            }

            fn slice(output: &mut Output) -> &mut [Self] {
                match output {
                    Output::$variant(values) => values,
                    _ => panic!("the output of the case is not {}", Self::NAME),
                }
            }

            $($more)?
        }
    };
}

stored!(
    f32,
    F32,
    fn f32s(values: &[f32]) -> Option<&[f32]> {
        Some(values)
    }
);
stored!(f16, F16);
stored!(bf16, Bf16);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uniform_values_are_seeded_centred_and_aligned() {
        let (a, b) = (Buffer::<f32>::uniform(10_000, 1), Buffer::<f32>::uniform(10_000, 2));
        assert_eq!(a[..], Buffer::<f32>::uniform(10_000, 1)[..]);
        assert_ne!(a[..], b[..]);
        assert!(a.iter().all(|x| (-1.0..1.0).contains(x)));
        assert!(a.iter().sum::<f32>().abs() < 300.0);
        assert_eq!(a.as_ptr() as usize % 64, 0);
        let narrow = Buffer::<bf16>::uniform(10_000, 1);
        assert!(narrow.iter().zip(&*a).all(|(narrow, a)| *narrow == bf16::from_f32(*a)));
    }

    #[test]
    fn outputs_have_the_type_that_was_asked_for() {
        let mut output = Output::of::<f16>(3);
        assert!(output.values().iter().all(|x| x.is_nan()));
        output.fill(1.0 / 3.0);
        f16::slice(&mut output)[1] = f16::from_f32(-2.0);
        let third = f16::from_f32(1.0 / 3.0).to_f32();
        assert_eq!(output.values(), [third, -2.0, third]);
    }
}
