//! The storage types of matrices and how they meet f32 registers.

use crate::{Isa, bf16, f16};

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for super::f16 {}
    impl Sealed for super::bf16 {}
}

/// The name of a storage type, for code that learns the type at run time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
// As wide as a pointer, beside which it lies in `TypedPtr`: bytes without a value would be copied by two moves that
// overlap, and a load of them waits until both stores have left the processor.
#[repr(usize)]
pub enum Dtype {
    /// 32 bits: 8 of exponent, 23 of fraction.
    F32,
    /// 16 bits: 5 of exponent, 10 of fraction.
    F16,
    /// 16 bits: 8 of exponent, 7 of fraction.
    Bf16,
}

impl Dtype {
    /// Every storage type.
    pub const ALL: [Dtype; 3] = [Dtype::F32, Dtype::F16, Dtype::Bf16];

    /// Bytes of a value.
    pub const fn size(self) -> usize {
        match self {
            Dtype::F32 => 4,
            Dtype::F16 | Dtype::Bf16 => 2,
        }
    }
}

/// A storage type: f32, f16 or bf16. Arithmetic is always f32: values widen exactly when loaded and are rounded
/// once, to nearest even, when stored.
pub trait Element: sealed::Sealed + Copy + Default + Send + Sync + PartialEq + std::fmt::Debug + 'static {
    /// The type's name as it stands in benchmark ids: `f32`, `f16`, `bf16`.
    const NAME: &'static str;
    /// The type as a value.
    const DTYPE: Dtype;
    /// Ones, for loops that multiply by a row of factors: a product with 1 is exact.
    const ONES: &'static [Self; 64];
    /// Negative zeros, for loops that add a row: a sum with -0 is exact, whatever the sign of a zero.
    const NEG_ZEROS: &'static [Self; 64];

    /// Values in 32 bits.
    const PER_WORD: usize = size_of::<u32>() / Self::DTYPE.size();

    /// The same value as f32.
    fn to_f32(self) -> f32;
    /// `x` rounded to nearest even; NaN stays NaN.
    fn from_f32(x: f32) -> Self;
    /// The bits, in the low ones of the result.
    fn to_bits(self) -> u32;
    /// The value of the lowest bits.
    fn from_bits(bits: u32) -> Self;
    /// The same slice, if the type is f32.
    #[inline(always)]
    fn as_f32s(values: &[Self]) -> Option<&[f32]> {
        let (p, len) = (values.as_ptr(), values.len());
        // SAFETY: only f32 has this name, because nobody else can implement the trait.
        (Self::DTYPE == Dtype::F32).then(|| unsafe { std::slice::from_raw_parts(p.cast(), len) })
    }
    /// The same slice, if the type is f32.
    #[inline(always)]
    fn as_f32s_mut(values: &mut [Self]) -> Option<&mut [f32]> {
        let (p, len) = (values.as_mut_ptr(), values.len());
        // SAFETY: only f32 has this name, because nobody else can implement the trait.
        (Self::DTYPE == Dtype::F32).then(|| unsafe { std::slice::from_raw_parts_mut(p.cast(), len) })
    }
    /// What a register of 32-bit words holds, widened: the first value of each, then the second, where there are two.
    #[inline(always)]
    fn split<I: Isa>(isa: I, words: I::F32) -> [I::F32; 2] {
        match Self::DTYPE {
            Dtype::F32 => [words; 2],
            Dtype::F16 => isa.widen_f16_pairs(words),
            Dtype::Bf16 => {
                let (bits, upper) = (isa.to_bits(words), isa.splat_i32(0xffff_0000_u32 as i32));
                [isa.from_bits(isa.shl_i32::<16>(bits)), isa.from_bits(isa.and_i32(bits, upper))]
            }
        }
    }

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
    ($t:ty, $bits:ty, $name:literal, $dtype:ident, $one:expr, $neg_zero:expr, $to:expr, $from:expr,
     $load:ident, $store:ident, $load_tail:ident, $store_tail:ident) => {
        impl Element for $t {
            const NAME: &'static str = $name;
            const DTYPE: Dtype = Dtype::$dtype;
            const ONES: &'static [Self; 64] = &[$one; 64];
            const NEG_ZEROS: &'static [Self; 64] = &[$neg_zero; 64];

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
            fn to_bits(self) -> u32 {
                <$t>::to_bits(self).into()
            }
            #[inline(always)]
            fn from_bits(bits: u32) -> Self {
                <$t>::from_bits(bits as $bits)
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

element!(f32, u32, "f32", F32, 1.0, -0.0, |x| x, |x| x, load, store, load_tail, store_tail);
element!(
    f16,
    u16,
    "f16",
    F16,
    f16::ONE,
    f16::NEG_ZERO,
    f16::to_f32,
    f16::from_f32,
    load_f16,
    store_f16,
    load_tail_f16,
    store_tail_f16
);
element!(
    bf16,
    u16,
    "bf16",
    Bf16,
    bf16::ONE,
    bf16::NEG_ZERO,
    bf16::to_f32,
    bf16::from_f32,
    load_bf16,
    store_bf16,
    load_tail_bf16,
    store_tail_bf16
);
