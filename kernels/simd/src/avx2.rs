//! The token over 256-bit registers: AVX2, FMA and F16C.

use crate::token::{intrinsics, memory, x86_token};
use crate::{Isa, Kernel, Level, bf16, f16};
use std::arch::x86_64::*;

x86_token! {
    /// Proof that the CPU has AVX2, FMA and F16C.
    Avx2, "avx2", "fma", "f16c"
}

/// Nearest even. F16C has no bit to keep exceptions quiet.
const ROUND: i32 = _MM_FROUND_TO_NEAREST_INT;

/// A mask of the first `n` lanes is the 8 words from `8 - n` on.
static TAIL_WORDS: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

/// The first `n` lanes: a mask for 32-bit lanes, and the number for 16-bit values, which AVX2 cannot mask.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tail {
    mask: __m256i,
    n: usize,
}

/// The sum by halving, once two halves of a wider register have met.
#[inline(always)]
pub(crate) fn reduce_add(a: __m256) -> f32 {
    // SAFETY: callers hold a token that proves AVX; registers only.
    unsafe {
        let a = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
        let a = _mm_add_ps(a, _mm_movehl_ps(a, a));
        _mm_cvtss_f32(_mm_add_ss(a, _mm_shuffle_ps::<1>(a, a)))
    }
}

/// The largest lane; there must be no NaN.
#[inline(always)]
pub(crate) fn reduce_max(a: __m256) -> f32 {
    // SAFETY: callers hold a token that proves AVX; registers only.
    unsafe {
        let a = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
        let a = _mm_max_ps(a, _mm_movehl_ps(a, a));
        _mm_cvtss_f32(_mm_max_ss(a, _mm_shuffle_ps::<1>(a, a)))
    }
}

impl Avx2 {
    /// Bits of bf16, nearest even, subnormals kept. A NaN becomes one of all ones, which takes no choice.
    #[inline(always)]
    fn narrow_bf16(self, v: __m256) -> __m128i {
        // SAFETY: the token proves AVX2; registers only.
        unsafe {
            let x = _mm256_castps_si256(v);
            let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(x), _mm256_set1_epi32(1));
            let rounded = _mm256_add_epi32(_mm256_add_epi32(x, _mm256_set1_epi32(0x7fff)), odd);
            let nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(v, v));
            // The high halves of four lanes side by side, then those of all eight.
            let high = _mm256_set1_epi64x(0x0f0e_0b0a_0706_0302);
            let words = _mm256_shuffle_epi8(_mm256_or_si256(rounded, nan), high);
            _mm256_castsi256_si128(_mm256_permute4x64_epi64::<0b10_00>(words))
        }
    }

    #[inline(always)]
    fn widen_bf16(self, v: __m128i) -> __m256 {
        // SAFETY: the token proves AVX2; registers only.
        unsafe { _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(v))) }
    }

    /// The first `n <= 8` 16-bit values at `p`, zero elsewhere.
    ///
    /// # Safety
    /// `n` values at `p` must be readable.
    #[inline(always)]
    unsafe fn load_words(self, p: *const u16, n: usize) -> __m128i {
        let mut words = [0u16; 8];
        // SAFETY: the caller's promise; `n <= 8`.
        unsafe {
            std::ptr::copy_nonoverlapping(p, words.as_mut_ptr(), n);
            _mm_loadu_si128(words.as_ptr().cast())
        }
    }

    /// Stores the first `n <= 8` 16-bit values at `p`.
    ///
    /// # Safety
    /// `n` values at `p` must be writable.
    #[inline(always)]
    unsafe fn store_words(self, p: *mut u16, v: __m128i, n: usize) {
        let mut words = [0u16; 8];
        // SAFETY: the caller's promise; `n <= 8`.
        unsafe {
            _mm_storeu_si128(words.as_mut_ptr().cast(), v);
            std::ptr::copy_nonoverlapping(words.as_ptr(), p, n);
        }
    }
}

// SAFETY: every instruction used is in the token's feature list, and each operation touches what its documentation
// names: masked loads and stores do not touch the lanes outside their mask, 16-bit tails are copied by length.
unsafe impl Isa for Avx2 {
    const LEVEL: Level = Level::Avx2;
    const FUSED: bool = true;
    const LANES: usize = 8;
    const REGISTERS: usize = 16;

    type F32 = __m256;
    type I32 = __m256i;
    type Mask = __m256;
    type Tail = Tail;
    type Row = [__m256; 2];
    type Lanes64 = [__m256; 8];

    #[inline(always)]
    unsafe fn assume() -> Self {
        Self(())
    }

    #[inline]
    fn vectorize<K: Kernel>(self, kernel: K) -> K::Output {
        // SAFETY: the token proves that the CPU has the features of `entry`.
        unsafe { self.entry(kernel) }
    }

    #[inline(always)]
    fn splat_row(self, x: f32) -> Self::Row {
        [self.splat(x); 2]
    }
    #[inline(always)]
    fn splat_lanes64(self, x: f32) -> Self::Lanes64 {
        [self.splat(x); 8]
    }
    #[inline(always)]
    fn tail(self, n: usize) -> Tail {
        let n = n.min(8);
        // SAFETY: the token proves AVX; 8 words from `8 - n <= 8` on are inside the 16.
        let mask = unsafe { _mm256_loadu_si256(TAIL_WORDS.as_ptr().add(8 - n).cast()) };
        Tail { mask, n }
    }
    #[inline(always)]
    fn tail_mask(self, tail: Tail) -> __m256 {
        self.from_bits(tail.mask)
    }

    memory! {
        fn load(self, p: *const f32) -> __m256 = _mm256_loadu_ps(p);
        fn store(self, p: *mut f32, v: __m256) = _mm256_storeu_ps(p, v);
        fn stream(self, p: *mut f32, v: __m256) = _mm256_stream_ps(p, v);
        fn load_tail(self, p: *const f32, tail: Tail) -> __m256 = _mm256_maskload_ps(p, tail.mask);
        fn store_tail(self, p: *mut f32, v: __m256, tail: Tail) = _mm256_maskstore_ps(p, tail.mask, v);
        fn load_f16(self, p: *const f16) -> __m256 = _mm256_cvtph_ps(_mm_loadu_si128(p.cast()));
        fn store_f16(self, p: *mut f16, v: __m256) = _mm_storeu_si128(p.cast(), _mm256_cvtps_ph::<ROUND>(v));
        fn load_tail_f16(self, p: *const f16, tail: Tail) -> __m256 = _mm256_cvtph_ps(self.load_words(p.cast(), tail.n));
        fn store_tail_f16(self, p: *mut f16, v: __m256, tail: Tail) = self.store_words(p.cast(), _mm256_cvtps_ph::<ROUND>(v), tail.n);
        fn load_bf16(self, p: *const bf16) -> __m256 = self.widen_bf16(_mm_loadu_si128(p.cast()));
        fn store_bf16(self, p: *mut bf16, v: __m256) = _mm_storeu_si128(p.cast(), self.narrow_bf16(v));
        fn load_tail_bf16(self, p: *const bf16, tail: Tail) -> __m256 = self.widen_bf16(self.load_words(p.cast(), tail.n));
        fn store_tail_bf16(self, p: *mut bf16, v: __m256, tail: Tail) = self.store_words(p.cast(), self.narrow_bf16(v), tail.n);
    }

    #[inline(always)]
    fn stream_fence(self) {
        // SAFETY: the token proves SSE.
        unsafe { _mm_sfence() }
    }

    #[inline(always)]
    unsafe fn load_columns(self, src: *const u8, stride: isize) -> [__m256; 4] {
        // SAFETY: the token proves AVX; the caller that four words of each of 8 rows are readable.
        unsafe {
            // Four rows share a pointer: with 8 of them every address would be computed anew.
            let groups = [src, self.opaque(src.wrapping_offset(4 * stride))];
            // Rows r and r + 4 side by side: the loads place them, which leaves 8 shuffles.
            let row = |g: usize, r: isize| _mm_loadu_ps(groups[g].offset(r * stride).cast());
            let pair = |r| _mm256_insertf128_ps::<1>(_mm256_castps128_ps256(row(0, r)), row(1, r));
            let (a, b, c, d) = (pair(0), pair(1), pair(2), pair(3));
            let (ab_lo, ab_hi) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
            let (cd_lo, cd_hi) = (_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
            [
                _mm256_shuffle_ps::<0x44>(ab_lo, cd_lo),
                _mm256_shuffle_ps::<0xee>(ab_lo, cd_lo),
                _mm256_shuffle_ps::<0x44>(ab_hi, cd_hi),
                _mm256_shuffle_ps::<0xee>(ab_hi, cd_hi),
            ]
        }
    }

    #[inline(always)]
    fn widen_f16_pairs(self, pairs: __m256) -> [__m256; 2] {
        // SAFETY: the token proves AVX2 and F16C; registers only.
        unsafe {
            // The low halves of each half of the register side by side, then those of both.
            let lane = _mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
            let words = _mm256_shuffle_epi8(_mm256_castps_si256(pairs), _mm256_broadcastsi128_si256(lane));
            let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(words);
            [_mm256_cvtph_ps(_mm256_castsi256_si128(words)), _mm256_cvtph_ps(_mm256_extracti128_si256::<1>(words))]
        }
    }

    #[inline(always)]
    fn prefetch<T>(self, p: *const T) {
        // SAFETY: a prefetch never faults, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
    }

    intrinsics! {
        fn splat(x: f32) -> __m256 = _mm256_set1_ps(x);
        fn add(a: __m256, b: __m256) -> __m256 = _mm256_add_ps(a, b);
        fn sub(a: __m256, b: __m256) -> __m256 = _mm256_sub_ps(a, b);
        fn mul(a: __m256, b: __m256) -> __m256 = _mm256_mul_ps(a, b);
        fn div(a: __m256, b: __m256) -> __m256 = _mm256_div_ps(a, b);
        fn sqrt(a: __m256) -> __m256 = _mm256_sqrt_ps(a);
        fn fma(a: __m256, b: __m256, c: __m256) -> __m256 = _mm256_fmadd_ps(a, b, c);
        fn max(a: __m256, b: __m256) -> __m256 = _mm256_max_ps(a, b);
        fn min(a: __m256, b: __m256) -> __m256 = _mm256_min_ps(a, b);
        fn abs(a: __m256) -> __m256 = _mm256_andnot_ps(_mm256_set1_ps(-0.0), a);
        fn neg(a: __m256) -> __m256 = _mm256_xor_ps(a, _mm256_set1_ps(-0.0));
        fn copysign(a: __m256, sign: __m256) -> __m256 = {
            let bit = _mm256_set1_ps(-0.0);
            _mm256_or_ps(_mm256_andnot_ps(bit, a), _mm256_and_ps(bit, sign))
        };
        fn scale_pow2(y: __m256, n: __m256) -> __m256 = {
            let n = _mm256_cvtps_epi32(n);
            let half = _mm256_srai_epi32::<1>(n);
            let pow2 = |n| _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(n, _mm256_set1_epi32(127))));
            _mm256_mul_ps(_mm256_mul_ps(y, pow2(half)), pow2(_mm256_sub_epi32(n, half)))
        };
        fn lt(a: __m256, b: __m256) -> __m256 = _mm256_cmp_ps::<_CMP_LT_OQ>(a, b);
        fn not_lt(a: __m256, b: __m256) -> __m256 = _mm256_cmp_ps::<_CMP_NLT_UQ>(a, b);
        fn le(a: __m256, b: __m256) -> __m256 = _mm256_cmp_ps::<_CMP_LE_OQ>(a, b);
        fn eq(a: __m256, b: __m256) -> __m256 = _mm256_cmp_ps::<_CMP_EQ_OQ>(a, b);
        fn is_nan(a: __m256) -> __m256 = _mm256_cmp_ps::<_CMP_UNORD_Q>(a, a);
        fn select(mask: __m256, a: __m256, b: __m256) -> __m256 = _mm256_blendv_ps(b, a, mask);
        fn mask_and(a: __m256, b: __m256) -> __m256 = _mm256_and_ps(a, b);
        fn mask_or(a: __m256, b: __m256) -> __m256 = _mm256_or_ps(a, b);
        fn mask_bits(mask: __m256) -> u32 = _mm256_movemask_ps(mask) as u32;
        fn mask_from_bits(bits: u32) -> __m256 = {
            let lane = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
            _mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(bits as i32), lane), lane))
        };
        fn splat_i32(x: i32) -> __m256i = _mm256_set1_epi32(x);
        fn add_i32(a: __m256i, b: __m256i) -> __m256i = _mm256_add_epi32(a, b);
        fn sub_i32(a: __m256i, b: __m256i) -> __m256i = _mm256_sub_epi32(a, b);
        fn and_i32(a: __m256i, b: __m256i) -> __m256i = _mm256_and_si256(a, b);
        fn or_i32(a: __m256i, b: __m256i) -> __m256i = _mm256_or_si256(a, b);
        fn to_f32(a: __m256i) -> __m256 = _mm256_cvtepi32_ps(a);
        fn to_bits(a: __m256) -> __m256i = _mm256_castps_si256(a);
        fn from_bits(a: __m256i) -> __m256 = _mm256_castsi256_ps(a);
    }

    #[inline(always)]
    fn shl_i32<const N: u32>(self, a: __m256i) -> __m256i {
        // SAFETY: the token proves AVX2; registers only. The variable shift takes the count as a value, since a
        // const parameter of another type cannot be passed on.
        unsafe { _mm256_sllv_epi32(a, _mm256_set1_epi32(N as i32)) }
    }
    #[inline(always)]
    fn shr_i32<const N: u32>(self, a: __m256i) -> __m256i {
        // SAFETY: as for `shl_i32`.
        unsafe { _mm256_srav_epi32(a, _mm256_set1_epi32(N as i32)) }
    }

    #[inline(always)]
    fn reduce_add(self, a: __m256) -> f32 {
        reduce_add(a)
    }
    #[inline(always)]
    fn reduce_max(self, a: __m256) -> f32 {
        reduce_max(self.select(self.is_nan(a), self.splat(f32::NEG_INFINITY), a))
    }
}
