//! The storage types of matrices and how they meet f32 registers.

use crate::{Isa, bf16, f16};

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for super::f16 {}
    impl Sealed for super::bf16 {}
}

/// A storage type: f32, f16 or bf16. Arithmetic is always f32: values widen exactly when loaded and are rounded
/// once, to nearest even, when stored.
pub trait Element: sealed::Sealed + Copy + Default + Send + Sync + PartialEq + std::fmt::Debug + 'static {
    /// The type's name as it stands in benchmark ids: `f32`, `f16`, `bf16`.
    const NAME: &'static str;

    /// The same value as f32.
    fn to_f32(self) -> f32;
    /// `x` rounded to nearest even; NaN stays NaN.
    fn from_f32(x: f32) -> Self;

    /// Loads and widens a register.
    ///
    /// # Safety
    /// `I::LANES` values at `p` must be readable.
    unsafe fn load<I: Isa>(isa: I, p: *const Self) -> I::F32;
    /// Rounds and stores a register.
    ///
    /// # Safety
    /// `I::LANES` values at `p` must be writable.
    unsafe fn store<I: Isa>(isa: I, p: *mut Self, v: I::F32);
    /// Loads and widens the lanes of `tail`, zero elsewhere.
    ///
    /// # Safety
    /// The values of the tail at `p` must be readable.
    unsafe fn load_tail<I: Isa>(isa: I, p: *const Self, tail: I::Tail) -> I::F32;
    /// Rounds and stores the lanes of `tail`.
    ///
    /// # Safety
    /// The values of the tail at `p` must be writable.
    unsafe fn store_tail<I: Isa>(isa: I, p: *mut Self, v: I::F32, tail: I::Tail);
}

/// One impl per storage type; the four memory operations are the token's own.
macro_rules! element {
    ($t:ty, $name:literal, $to:expr, $from:expr, $load:ident, $store:ident, $load_tail:ident, $store_tail:ident) => {
        impl Element for $t {
            const NAME: &'static str = $name;

            #[inline(always)]
            fn to_f32(self) -> f32 {
                let to: fn($t) -> f32 = $to;
                to(self)
            }
            #[inline(always)]
            fn from_f32(x: f32) -> Self {
                let from: fn(f32) -> $t = $from;
                from(x)
            }
            #[inline(always)]
            unsafe fn load<I: Isa>(isa: I, p: *const Self) -> I::F32 {
                // SAFETY: the caller's promise is the token's.
                unsafe { isa.$load(p) }
            }
            #[inline(always)]
            unsafe fn store<I: Isa>(isa: I, p: *mut Self, v: I::F32) {
                // SAFETY: the caller's promise is the token's.
                unsafe { isa.$store(p, v) }
            }
            #[inline(always)]
            unsafe fn load_tail<I: Isa>(isa: I, p: *const Self, tail: I::Tail) -> I::F32 {
                // SAFETY: the caller's promise is the token's.
                unsafe { isa.$load_tail(p, tail) }
            }
            #[inline(always)]
            unsafe fn store_tail<I: Isa>(isa: I, p: *mut Self, v: I::F32, tail: I::Tail) {
                // SAFETY: the caller's promise is the token's.
                unsafe { isa.$store_tail(p, v, tail) }
            }
        }
    };
}

element!(f32, "f32", |x| x, |x| x, load, store, load_tail, store_tail);
element!(f16, "f16", f16::to_f32, f16::from_f32, load_f16, store_f16, load_tail_f16, store_tail_f16);
element!(bf16, "bf16", bf16::to_f32, bf16::from_f32, load_bf16, store_bf16, load_tail_bf16, store_tail_bf16);
