//! Comparing results: in bits, or within a bound of a reference in f64.

use gristmill_core::MatRef;
use gristmill_simd::{Dtype, Element, bf16, f16};
use std::fmt::{Display, Write};

/// Differences that a message lists.
const LISTED: usize = 8;

/// Equal: the same bits, or both NaN.
pub fn equal<T: Element>(a: T, b: T) -> bool {
    a.to_bits() == b.to_bits() || (a.to_f32().is_nan() && b.to_f32().is_nan())
}

/// The bits of values, to be compared where even NaNs must be the same.
pub fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Asserts that two slices have equal elements (see [`equal`]), or says where they differ.
///
/// # Panics
/// When they differ.
#[track_caller]
pub fn assert_bits_eq<T: Element>(got: &[T], want: &[T], context: impl Display) {
    assert_eq!(got.len(), want.len(), "{context}: lengths differ");
    let pairs = got.iter().zip(want).enumerate().map(|(i, (&got, &want))| (i, got, want));
    report(pairs, |i| format!("[{i}]"), context);
}

/// Asserts that two matrices have equal elements (see [`equal`]), or says where they differ.
///
/// # Panics
/// When they differ.
#[track_caller]
pub fn assert_mat_bits_eq<T: Element>(got: MatRef<T>, want: MatRef<T>, context: impl Display) {
    let shape = (got.rows(), got.cols());
    assert_eq!(shape, (want.rows(), want.cols()), "{context}: shapes differ");
    let indices = (0..shape.0).flat_map(|i| (0..shape.1).map(move |j| (i, j)));
    report(indices.map(|(i, j)| ((i, j), got.at(i, j), want.at(i, j))), |(i, j)| format!("({i}, {j})"), context);
}

/// Panics when a pair differs, naming the first ones and how many there are.
#[track_caller]
fn report<I: Copy, T: Element>(
    pairs: impl Iterator<Item = (I, T, T)>,
    name: impl Fn(I) -> String,
    context: impl Display,
) {
    let digits = 2 * size_of::<T>();
    let (mut total, mut different, mut list) = (0, 0, String::new());
    for (index, got, want) in pairs {
        total += 1;
        if equal(got, want) {
            continue;
        }
        if different < LISTED {
            let (got_bits, want_bits, name) = (got.to_bits(), want.to_bits(), name(index));
            let (got, want) = (got.to_f32(), want.to_f32());
            write!(list, "\n  {name}: got {got:e} ({got_bits:0digits$x}), want {want:e} ({want_bits:0digits$x})")
                .unwrap();
        }
        different += 1;
    }
    assert!(different == 0, "{context}: {different} of {total} elements differ in bits{list}");
}

/// Asserts that every element lies within its bound of the reference, and returns the largest error as a fraction
/// of its bound. `bound(i)` is the bound of element `i`; an error of zero is within any.
///
/// # Panics
/// When an element is outside, is NaN, or the lengths differ.
#[track_caller]
pub fn assert_within(got: &[f32], reference: &[f64], bound: impl Fn(usize) -> f64, context: impl Display) -> f64 {
    assert_eq!(got.len(), reference.len(), "{context}: lengths differ");
    let mut worst = 0.0f64;
    for (i, (&got, &want)) in got.iter().zip(reference).enumerate() {
        let (error, bound) = ((f64::from(got) - want).abs(), bound(i));
        assert!(error <= bound, "{context}: element {i} is {got:e}, want {want:e}: error {error:e}, bound {bound:e}");
        if error > 0.0 {
            worst = worst.max(error / bound);
        }
    }
    worst
}

/// How far a value moves at most when it is rounded to a storage type of 16 bits: half the distance between its
/// neighbours. Nothing for f32, whose bounds have the last rounding in them.
pub fn rounding<T: Element>(value: f64) -> f64 {
    let (digits, least) = match T::DTYPE {
        Dtype::F32 => return 0.0,
        Dtype::F16 => (f16::MANTISSA_DIGITS, f64::from(f16::MIN_POSITIVE)),
        Dtype::Bf16 => (bf16::MANTISSA_DIGITS, f64::from(bf16::MIN_POSITIVE)),
    };
    (value.abs().max(least).log2().floor() - f64::from(digits)).exp2()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(f: impl FnOnce() + std::panic::UnwindSafe) -> String {
        *std::panic::catch_unwind(f).unwrap_err().downcast().unwrap()
    }

    #[test]
    fn values_are_rounded_by_half_a_unit() {
        for value in [1.0, 1.3, 1.999, 3e-5, 1e-7, 40_000.0] {
            let nearest = (f64::from(f16::from_f64(value)) - value).abs();
            assert!(nearest <= rounding::<f16>(value), "{value}");
        }
        assert_eq!((rounding::<f16>(1.0), rounding::<bf16>(1.5)), (0.5 / 1024.0, 0.5 / 128.0));
        assert_eq!(rounding::<f32>(1.0), 0.0);
    }

    #[test]
    fn nan_equals_nan_and_zeros_have_signs() {
        assert_bits_eq(&[1.0, f32::NAN, -0.0], &[1.0, -f32::NAN, -0.0], "same");
        let text = message(|| assert_bits_eq(&[1.0, 0.0], &[1.0, -0.0], "sign"));
        assert_eq!(text, "sign: 1 of 2 elements differ in bits\n  [1]: got 0e0 (00000000), want -0e0 (80000000)");
    }

    #[test]
    fn matrices_compare_by_element() {
        let (a, b) = ([1.0, 2.0, 3.0, 4.0], [1.0, 3.0, 2.0, 4.0]);
        let (a, b) = (MatRef::new(&a, 2, 2).unwrap(), MatRef::new(&b, 2, 2).unwrap());
        assert_mat_bits_eq(a, b.transposed(), "transposed");
        let text = message(move || assert_mat_bits_eq(a, b, "plain"));
        assert!(text.starts_with("plain: 2 of 4 elements differ in bits\n  (0, 1): got 2e0"), "{text}");
    }

    #[test]
    fn bounds_hold_or_fail() {
        assert_eq!(assert_within(&[1.0, 2.0], &[1.0, 2.5], |_| 1.0, "within"), 0.5);
        let text = message(|| _ = assert_within(&[1.0], &[2.0], |_| 0.5, "outside"));
        assert_eq!(text, "outside: element 0 is 1e0, want 2e0: error 1e0, bound 5e-1");
        assert!(message(|| _ = assert_within(&[f32::NAN], &[2.0], |_| 0.5, "nan")).starts_with("nan: element 0"));
    }
}
