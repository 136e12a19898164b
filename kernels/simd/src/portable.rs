//! The token over the crate `wide`: whatever 128-bit registers the target's baseline has (SSE2, NEON, WASM).

use crate::token::memory;
use crate::{Isa, Kernel, Level, bf16, f16};
use wide::{f32x4, i32x4};

/// The token that every CPU has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Portable(());

impl Portable {
    /// Always there.
    #[inline]
    pub(crate) fn detect() -> Option<Self> {
        Some(Self(()))
    }
}

/// `wide` fuses exactly where the target's baseline has a fused multiply-add.
const FUSED: bool = cfg!(any(target_feature = "fma", all(target_arch = "aarch64", target_feature = "neon")));

/// `2^n` for `n` in -126 ..= 127.
#[inline(always)]
fn pow2(n: i32x4) -> f32x4 {
    float((n + i32x4::splat(127)) << 23u32)
}

#[inline(always)]
fn float(bits: i32x4) -> f32x4 {
    // SAFETY: both are 16 bytes without padding, and any bits are a value of either.
    unsafe { std::mem::transmute(bits) }
}

#[inline(always)]
fn bits(v: f32x4) -> i32x4 {
    // SAFETY: both are 16 bytes without padding, and any bits are a value of either.
    unsafe { std::mem::transmute(v) }
}

/// The first `n` values at `p`, widened; zero elsewhere.
///
/// # Safety
/// `n <= 4` values at `p` must be readable.
#[inline(always)]
unsafe fn widen<T: Copy>(p: *const T, n: usize, to_f32: impl Fn(T) -> f32) -> f32x4 {
    let mut lanes = [0.0; 4];
    for (i, lane) in lanes.iter_mut().enumerate().take(n) {
        // SAFETY: the caller's promise.
        *lane = to_f32(unsafe { p.add(i).read() });
    }
    f32x4::new(lanes)
}

/// Narrows and stores the first `n` lanes at `p`.
///
/// # Safety
/// `n <= 4` values at `p` must be writable.
#[inline(always)]
unsafe fn narrow<L, T>(p: *mut T, lanes: [L; 4], n: usize, from_lane: impl Fn(L) -> T) {
    for (i, lane) in lanes.into_iter().enumerate().take(n) {
        // SAFETY: the caller's promise.
        unsafe { p.add(i).write(from_lane(lane)) };
    }
}

/// [`narrow`] to bf16: nearest even, subnormals kept. A NaN becomes one of all ones, which takes no choice.
///
/// # Safety
/// As `narrow`.
#[inline(always)]
unsafe fn narrow_bf16(p: *mut bf16, v: f32x4, n: usize) {
    let (x, one) = (bits(v), i32x4::splat(1));
    let rounded = x + i32x4::splat(0x7fff) + ((x >> 16u32) & one);
    let words = (rounded | bits(v.is_nan())) >> 16u32;
    // SAFETY: the caller's promise.
    unsafe { narrow(p, words.to_array(), n, |word| bf16::from_bits(word as u16)) }
}

/// [`widen`] of f16. A call and not inlined: where the baseline has no conversion it is long, and kernels have many.
///
/// # Safety
/// As `widen`.
#[inline(never)]
unsafe fn widen_f16(p: *const f16, n: usize) -> f32x4 {
    // SAFETY: the caller's promise.
    unsafe { widen(p, n, f16::to_f32) }
}

/// [`narrow`] to f16, not inlined either.
///
/// # Safety
/// As `narrow`.
#[inline(never)]
unsafe fn narrow_f16(p: *mut f16, v: f32x4, n: usize) {
    // SAFETY: the caller's promise.
    unsafe { narrow(p, v.to_array(), n, f16::from_f32) }
}

// SAFETY: only the target's baseline instructions are used; tails are copied by length.
unsafe impl Isa for Portable {
    const LEVEL: Level = Level::Portable;
    const FUSED: bool = FUSED;
    const LANES: usize = 4;
    const REGISTERS: usize = if cfg!(target_arch = "aarch64") { 32 } else { 16 };

    type F32 = f32x4;
    type I32 = i32x4;
    type Mask = f32x4;
    type Tail = usize;
    type Row = [f32x4; 4];
    type Lanes64 = [f32x4; 16];

    #[inline(always)]
    unsafe fn assume() -> Self {
        Self(())
    }

    #[inline]
    fn vectorize<K: Kernel>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }

    #[inline(always)]
    fn splat(self, x: f32) -> f32x4 {
        f32x4::splat(x)
    }
    #[inline(always)]
    fn splat_row(self, x: f32) -> Self::Row {
        [f32x4::splat(x); 4]
    }
    #[inline(always)]
    fn splat_lanes64(self, x: f32) -> Self::Lanes64 {
        [f32x4::splat(x); 16]
    }
    #[inline(always)]
    fn tail(self, n: usize) -> usize {
        n.min(4)
    }
    #[inline(always)]
    fn tail_mask(self, tail: usize) -> f32x4 {
        self.mask_from_bits((1 << tail) - 1)
    }

    memory! {
        fn load(self, p: *const f32) -> f32x4 = p.cast::<f32x4>().read_unaligned();
        fn store(self, p: *mut f32, v: f32x4) = p.cast::<f32x4>().write_unaligned(v);
        fn load_tail(self, p: *const f32, tail: usize) -> f32x4 = widen(p, tail, |x| x);
        fn store_tail(self, p: *mut f32, v: f32x4, tail: usize) = narrow(p, v.to_array(), tail, |x| x);
        fn load_f16(self, p: *const f16) -> f32x4 = widen_f16(p, 4);
        fn store_f16(self, p: *mut f16, v: f32x4) = narrow_f16(p, v, 4);
        fn load_tail_f16(self, p: *const f16, tail: usize) -> f32x4 = widen_f16(p, tail);
        fn store_tail_f16(self, p: *mut f16, v: f32x4, tail: usize) = narrow_f16(p, v, tail);
        fn load_bf16(self, p: *const bf16) -> f32x4 = widen(p, 4, bf16::to_f32);
        fn store_bf16(self, p: *mut bf16, v: f32x4) = narrow_bf16(p, v, 4);
        fn load_tail_bf16(self, p: *const bf16, tail: usize) -> f32x4 = widen(p, tail, bf16::to_f32);
        fn store_tail_bf16(self, p: *mut bf16, v: f32x4, tail: usize) = narrow_bf16(p, v, tail);
    }

    #[inline(always)]
    unsafe fn stream(self, p: *mut f32, v: f32x4) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: SSE is x86-64's baseline; the caller promises four aligned values and the fence.
        unsafe {
            use std::arch::x86_64::{_mm_loadu_ps, _mm_stream_ps};
            _mm_stream_ps(p, _mm_loadu_ps(v.to_array().as_ptr()));
        }
        #[cfg(not(target_arch = "x86_64"))]
        // SAFETY: the caller's promise.
        unsafe {
            self.store(p, v);
        }
    }
    #[inline(always)]
    fn stream_fence(self) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: SSE is x86-64's baseline.
        unsafe {
            std::arch::x86_64::_mm_sfence();
        }
    }

    #[inline(always)]
    unsafe fn load_columns(self, src: *const u8, stride: isize) -> [f32x4; 4] {
        // SAFETY: the caller promises four words in each of 4 rows.
        f32x4::transpose(std::array::from_fn(|r| unsafe { self.load(src.offset(r as isize * stride).cast()) }))
    }

    #[inline(always)]
    fn prefetch<T>(self, p: *const T) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a prefetch never faults, whatever the address.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(p.cast());
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = p;
    }

    #[inline(always)]
    fn add(self, a: f32x4, b: f32x4) -> f32x4 {
        a + b
    }
    #[inline(always)]
    fn sub(self, a: f32x4, b: f32x4) -> f32x4 {
        a - b
    }
    #[inline(always)]
    fn mul(self, a: f32x4, b: f32x4) -> f32x4 {
        a * b
    }
    #[inline(always)]
    fn div(self, a: f32x4, b: f32x4) -> f32x4 {
        a / b
    }
    #[inline(always)]
    fn sqrt(self, a: f32x4) -> f32x4 {
        a.sqrt()
    }
    #[inline(always)]
    fn fma(self, a: f32x4, b: f32x4, c: f32x4) -> f32x4 {
        a.mul_add(b, c)
    }
    #[inline(always)]
    fn max(self, a: f32x4, b: f32x4) -> f32x4 {
        // Not `wide`'s own: it differs by target for NaN and signed zeros.
        self.select(a.simd_gt(b), a, b)
    }
    #[inline(always)]
    fn min(self, a: f32x4, b: f32x4) -> f32x4 {
        self.select(a.simd_lt(b), a, b)
    }
    #[inline(always)]
    fn abs(self, a: f32x4) -> f32x4 {
        float(bits(a) & i32x4::splat(i32::MAX))
    }
    #[inline(always)]
    fn neg(self, a: f32x4) -> f32x4 {
        float(bits(a) ^ i32x4::splat(i32::MIN))
    }
    #[inline(always)]
    fn copysign(self, a: f32x4, sign: f32x4) -> f32x4 {
        float((bits(a) & i32x4::splat(i32::MAX)) | (bits(sign) & i32x4::splat(i32::MIN)))
    }
    #[inline(always)]
    fn scale_pow2(self, y: f32x4, n: f32x4) -> f32x4 {
        // Adding the constant leaves the integer in the low bits; `wide` rounds differently by target.
        let magic = 12_582_912.0f32;
        let n = bits(n + f32x4::splat(magic)) - i32x4::splat(magic.to_bits() as i32);
        let half = self.shr_i32::<1>(n);
        // A NaN `n` comes with a NaN `y`; its power of two is arbitrary, but must be harmless: NaN * x is NaN.
        y * pow2(half) * pow2(n - half)
    }

    #[inline(always)]
    fn lt(self, a: f32x4, b: f32x4) -> f32x4 {
        a.simd_lt(b)
    }
    #[inline(always)]
    fn not_lt(self, a: f32x4, b: f32x4) -> f32x4 {
        !a.simd_lt(b)
    }
    #[inline(always)]
    fn le(self, a: f32x4, b: f32x4) -> f32x4 {
        a.simd_le(b)
    }
    #[inline(always)]
    fn eq(self, a: f32x4, b: f32x4) -> f32x4 {
        a.simd_eq(b)
    }
    #[inline(always)]
    fn is_nan(self, a: f32x4) -> f32x4 {
        a.is_nan()
    }
    #[inline(always)]
    fn select(self, mask: f32x4, a: f32x4, b: f32x4) -> f32x4 {
        mask.bitselect(a, b)
    }
    #[inline(always)]
    fn mask_and(self, a: f32x4, b: f32x4) -> f32x4 {
        a & b
    }
    #[inline(always)]
    fn mask_or(self, a: f32x4, b: f32x4) -> f32x4 {
        a | b
    }
    #[inline(always)]
    fn mask_bits(self, mask: f32x4) -> u32 {
        mask.to_bitmask()
    }
    #[inline(always)]
    fn mask_from_bits(self, bits: u32) -> f32x4 {
        let lane = i32x4::new([1, 2, 4, 8]);
        float((i32x4::splat(bits as i32) & lane).simd_eq(lane))
    }

    #[inline(always)]
    fn splat_i32(self, x: i32) -> i32x4 {
        i32x4::splat(x)
    }
    #[inline(always)]
    fn add_i32(self, a: i32x4, b: i32x4) -> i32x4 {
        a + b
    }
    #[inline(always)]
    fn sub_i32(self, a: i32x4, b: i32x4) -> i32x4 {
        a - b
    }
    #[inline(always)]
    fn and_i32(self, a: i32x4, b: i32x4) -> i32x4 {
        a & b
    }
    #[inline(always)]
    fn or_i32(self, a: i32x4, b: i32x4) -> i32x4 {
        a | b
    }
    #[inline(always)]
    fn shl_i32<const N: u32>(self, a: i32x4) -> i32x4 {
        a << N
    }
    #[inline(always)]
    fn shr_i32<const N: u32>(self, a: i32x4) -> i32x4 {
        a >> N
    }
    #[inline(always)]
    fn to_f32(self, a: i32x4) -> f32x4 {
        f32x4::from_i32x4(a)
    }
    #[inline(always)]
    fn to_bits(self, a: f32x4) -> i32x4 {
        bits(a)
    }
    #[inline(always)]
    fn from_bits(self, a: i32x4) -> f32x4 {
        float(a)
    }

    #[inline(always)]
    fn reduce_add(self, a: f32x4) -> f32 {
        let [a, b, c, d] = a.to_array();
        (a + c) + (b + d)
    }
    #[inline(always)]
    fn reduce_max(self, a: f32x4) -> f32 {
        a.to_array().into_iter().fold(f32::NEG_INFINITY, |max, x| if x > max { x } else { max })
    }
}
