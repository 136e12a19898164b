//! The tokens over 512-bit registers: AVX-512 F, BW, DQ and VL, without and with AVX512-BF16.

use crate::token::{intrinsics, memory, x86_features};
use crate::{Isa, Kernel, Level, bf16, f16};
use std::arch::{asm, x86_64::*};

/// Proof that the CPU has AVX-512 F, BW, DQ and VL, and with them AVX2, FMA and F16C; with `BF16`, that it has
/// AVX512-BF16 too. The two levels differ in the dot product of pairs, and in how values are rounded to them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512<const BF16: bool>(());

x86_features! { Avx512<false>, "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx2", "fma", "f16c" }
x86_features! { Avx512<true>, "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx2", "fma", "f16c", "avx512bf16" }

/// Nearest even, no exceptions raised.
const ROUND: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;

impl<const BF16: bool> Avx512<BF16> {
    /// Sixteen values of bf16, in the low half: nearest even, subnormals kept, NaN quiet. The conversion instruction would
    /// flush subnormals.
    #[inline(always)]
    fn narrow_bf16(self, v: __m512) -> __m512i {
        /// The high half of each lane.
        const HIGH: [u16; 32] = {
            let mut halves = [0; 32];
            let mut i = 0;
            while i < 32 {
                halves[i] = (2 * i + 1) as u16 % 32;
                i += 1;
            }
            halves
        };
        // SAFETY: the token proves AVX-512 BW; registers only, and a constant of 64 bytes.
        unsafe {
            let x = _mm512_castps_si512(v);
            // Half a unit of the result; just less where a tie must go down, to an even one.
            let even = _mm512_testn_epi32_mask(x, _mm512_set1_epi32(1 << 16));
            let half = _mm512_mask_blend_epi32(even, _mm512_set1_epi32(0x8000), _mm512_set1_epi32(0x7fff));
            let number = _mm512_cmp_ps_mask::<_CMP_ORD_Q>(v, v);
            let nan = _mm512_castps_si512(_mm512_set1_ps(f32::NAN));
            let rounded = _mm512_mask_add_epi32(nan, number, x, half);
            _mm512_permutexvar_epi16(_mm512_loadu_si512(HIGH.as_ptr().cast()), rounded)
        }
    }

    #[inline(always)]
    fn widen_bf16(self, v: __m256i) -> __m512 {
        // SAFETY: the token proves AVX-512 F; registers only.
        unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(v))) }
    }

    /// The two halves.
    #[inline(always)]
    fn halves(self, v: __m512) -> (__m256, __m256) {
        // SAFETY: the token proves AVX-512 DQ; registers only.
        unsafe { (_mm512_castps512_ps256(v), _mm512_extractf32x8_ps::<1>(v)) }
    }

    /// The sum, or the largest, of the lanes of each register by halving, in a quarter of the result each.
    #[inline(always)]
    fn fold_each<const MAX: bool>(self, [a, b, c, d]: [__m512; 4]) -> __m512 {
        // SAFETY: the token proves AVX-512 F; registers only.
        unsafe {
            // Halves of two registers side by side, then quarters of four.
            let ab = self.fold::<MAX>(_mm512_shuffle_f32x4::<0x44>(a, b), _mm512_shuffle_f32x4::<0xee>(a, b));
            let cd = self.fold::<MAX>(_mm512_shuffle_f32x4::<0x44>(c, d), _mm512_shuffle_f32x4::<0xee>(c, d));
            let all = self.fold::<MAX>(_mm512_shuffle_f32x4::<0x88>(ab, cd), _mm512_shuffle_f32x4::<0xdd>(ab, cd));
            let all = self.fold::<MAX>(all, _mm512_permute_ps::<0x4e>(all));
            self.fold::<MAX>(all, _mm512_permute_ps::<0xb1>(all))
        }
    }

    #[inline(always)]
    fn fold<const MAX: bool>(self, a: __m512, b: __m512) -> __m512 {
        if MAX { self.max(a, b) } else { self.add(a, b) }
    }

    /// The first lane of each quarter.
    #[inline(always)]
    fn firsts(self, v: __m512) -> [f32; 4] {
        let mut firsts = [0.0; 4];
        // SAFETY: the token proves AVX-512 F; the array has room for four lanes.
        unsafe {
            let quarters = _mm512_setr_epi32(0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12);
            let all = _mm512_permutexvar_ps(quarters, v);
            _mm_storeu_ps(firsts.as_mut_ptr(), _mm512_castps512_ps128(all));
        }
        firsts
    }
}

// SAFETY: every instruction used is in the token's feature list, and each operation touches what its documentation
// names: masked loads and stores do not touch the lanes outside their mask.
unsafe impl<const BF16: bool> Isa for Avx512<BF16> {
    const LEVEL: Level = if BF16 { Level::Avx512Bf16 } else { Level::Avx512 };
    const FUSED: bool = true;
    const DOT: bool = BF16;
    const SCALES: bool = true;
    const LANES: usize = 16;
    const REGISTERS: usize = 32;

    type F32 = __m512;
    type I32 = __m512i;
    type Mask = __mmask16;
    type Tail = __mmask16;
    type Row = [__m512; 1];
    type Lanes64 = [__m512; 4];

    #[inline(always)]
    unsafe fn assume() -> Self {
        Self(())
    }

    #[inline]
    fn vectorize<K: Kernel>(self, kernel: K) -> K::Output {
        // SAFETY: the token proves that the CPU has the features of the one entry or the other.
        unsafe { if BF16 && K::DOT { Avx512::<true>(()).entry(kernel) } else { Avx512::<false>(()).entry(kernel) } }
    }

    #[inline(always)]
    fn splat_row(self, x: f32) -> Self::Row {
        [self.splat(x); 1]
    }
    #[inline(always)]
    fn splat_lanes64(self, x: f32) -> Self::Lanes64 {
        [self.splat(x); 4]
    }
    #[inline(always)]
    fn tail(self, n: usize) -> __mmask16 {
        ((1u32 << n.min(16)) - 1) as __mmask16
    }
    #[inline(always)]
    fn tail_mask(self, tail: __mmask16) -> __mmask16 {
        tail
    }

    memory! {
        fn load(self, p: *const f32) -> __m512 = _mm512_loadu_ps(p);
        fn store(self, p: *mut f32, v: __m512) = _mm512_storeu_ps(p, v);
        fn stream(self, p: *mut f32, v: __m512) = _mm512_stream_ps(p, v);
        fn load_tail(self, p: *const f32, tail: __mmask16) -> __m512 = _mm512_maskz_loadu_ps(tail, p);
        fn store_tail(self, p: *mut f32, v: __m512, tail: __mmask16) = _mm512_mask_storeu_ps(p, tail, v);
        fn load_f16(self, p: *const f16) -> __m512 = _mm512_cvtph_ps(_mm256_loadu_si256(p.cast()));
        fn store_f16(self, p: *mut f16, v: __m512) = _mm256_storeu_si256(p.cast(), _mm512_cvtps_ph::<ROUND>(v));
        fn load_tail_f16(self, p: *const f16, tail: __mmask16) -> __m512 = _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(tail, p.cast()));
        fn store_tail_f16(self, p: *mut f16, v: __m512, tail: __mmask16) = _mm256_mask_storeu_epi16(p.cast(), tail, _mm512_cvtps_ph::<ROUND>(v));
        fn load_bf16(self, p: *const bf16) -> __m512 = self.widen_bf16(_mm256_loadu_si256(p.cast()));
        fn store_bf16(self, p: *mut bf16, v: __m512) = _mm256_storeu_si256(p.cast(), _mm512_castsi512_si256(self.narrow_bf16(v)));
        fn load_tail_bf16(self, p: *const bf16, tail: __mmask16) -> __m512 = self.widen_bf16(_mm256_maskz_loadu_epi16(tail, p.cast()));
        fn store_tail_bf16(self, p: *mut bf16, v: __m512, tail: __mmask16) = _mm512_mask_storeu_epi16(p.cast(), tail.into(), self.narrow_bf16(v));
    }

    #[inline(always)]
    unsafe fn store_bf16_pairs(self, p: *mut bf16, [a, b]: [__m512; 2]) -> __m512i {
        // SAFETY: the token proves AVX-512 F, and AVX512-BF16 where it is used; the caller that there is room.
        unsafe {
            let pairs = if BF16 {
                std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(b, a))
            } else {
                let [a, b] = [self.narrow_bf16(a), self.narrow_bf16(b)];
                _mm512_inserti64x4::<1>(a, _mm512_castsi512_si256(b))
            };
            _mm512_storeu_si512(p.cast(), pairs);
            pairs
        }
    }

    #[inline(always)]
    fn stream_fence(self) {
        // SAFETY: the token proves SSE.
        unsafe { _mm_sfence() }
    }

    #[inline(always)]
    unsafe fn load_columns(self, src: *const u8, stride: isize) -> [__m512; 4] {
        // SAFETY: the token proves AVX-512 F; the caller that four words of each of 16 rows are readable.
        unsafe {
            // Four rows share a pointer: with 16 of them every address would be computed anew.
            let group = |g: isize| self.opaque(src.wrapping_offset(4 * g * stride));
            let groups = [group(0), group(1), group(2), group(3)];
            // Rows r, r + 4, r + 8 and r + 12 side by side: the loads place them, which leaves 8 shuffles.
            let row = |g: usize, r: isize| _mm512_broadcast_f32x4(_mm_loadu_ps(groups[g].offset(r * stride).cast()));
            let four = |r| {
                let v = _mm512_mask_mov_ps(row(0, r), 0x00f0, row(1, r));
                let v = _mm512_mask_mov_ps(v, 0x0f00, row(2, r));
                _mm512_mask_mov_ps(v, 0xf000, row(3, r))
            };
            transpose_in_lanes(four(0), four(1), four(2), four(3))
        }
    }

    #[inline(always)]
    unsafe fn load_eight_columns(self, src: *const u8, stride: isize) -> [__m512; 8] {
        // SAFETY: the token proves AVX-512 F; the caller that eight words of each of 16 rows are readable.
        unsafe {
            // Rows r and r + 4 side by side, and r + 8 and r + 12: half the loads of four columns at a time, for one
            // shuffle more per column.
            let [first, second] = [src, src.wrapping_offset(8 * stride)];
            let (upper, lower) = (eight_rows(self, first, stride), eight_rows(self, second, stride));
            let mut columns = [_mm512_setzero_ps(); 8];
            for c in 0..4 {
                columns[c] = _mm512_shuffle_f32x4::<0b10_00_10_00>(upper[c], lower[c]);
                columns[c + 4] = _mm512_shuffle_f32x4::<0b11_01_11_01>(upper[c], lower[c]);
            }
            columns
        }
    }

    #[inline(always)]
    unsafe fn load_sixteen_columns(self, src: *const u8, stride: isize) -> [__m512; 16] {
        // SAFETY: the token proves AVX-512 F; the caller that sixteen words of each of 16 rows are readable.
        unsafe {
            let mut lanes = [[_mm512_setzero_ps(); 4]; 4];
            for (g, four) in lanes.iter_mut().enumerate() {
                let group = self.opaque(src.wrapping_offset(4 * g as isize * stride));
                let row = |r: isize| _mm512_loadu_ps(group.wrapping_offset(r * stride).cast());
                *four = transpose_in_lanes(row(0), row(1), row(2), row(3));
            }
            let mut columns = [_mm512_setzero_ps(); 16];
            for c in 0..4 {
                let [a, b, d, e] = [lanes[0][c], lanes[1][c], lanes[2][c], lanes[3][c]];
                let (ab_lo, ab_hi) =
                    (_mm512_shuffle_f32x4::<0b01_00_01_00>(a, b), _mm512_shuffle_f32x4::<0b11_10_11_10>(a, b));
                let (de_lo, de_hi) =
                    (_mm512_shuffle_f32x4::<0b01_00_01_00>(d, e), _mm512_shuffle_f32x4::<0b11_10_11_10>(d, e));
                columns[c] = _mm512_shuffle_f32x4::<0b10_00_10_00>(ab_lo, de_lo);
                columns[c + 4] = _mm512_shuffle_f32x4::<0b11_01_11_01>(ab_lo, de_lo);
                columns[c + 8] = _mm512_shuffle_f32x4::<0b10_00_10_00>(ab_hi, de_hi);
                columns[c + 12] = _mm512_shuffle_f32x4::<0b11_01_11_01>(ab_hi, de_hi);
            }
            columns
        }
    }

    #[inline(always)]
    fn widen_f16_pairs(self, pairs: __m512) -> [__m512; 2] {
        // SAFETY: the token proves AVX-512 F and BW; registers only.
        unsafe {
            // Words 0, 2, 4 .. 30, then 1, 3, 5 .. 31.
            let order = _mm512_setr_epi32(
                0x00020000, 0x00060004, 0x000a0008, 0x000e000c, 0x00120010, 0x00160014, 0x001a0018, 0x001e001c,
                0x00030001, 0x00070005, 0x000b0009, 0x000f000d, 0x00130011, 0x00170015, 0x001b0019, 0x001f001d,
            );
            let words = _mm512_permutexvar_epi16(order, _mm512_castps_si512(pairs));
            [_mm512_cvtph_ps(_mm512_castsi512_si256(words)), _mm512_cvtph_ps(_mm512_extracti64x4_epi64::<1>(words))]
        }
    }

    #[inline(always)]
    fn prefetch<T>(self, p: *const T) {
        // SAFETY: a prefetch never faults, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
    }

    #[inline(always)]
    fn in_step<const N: usize>(self, mut x: [__m512; N]) -> [__m512; N] {
        // SAFETY: the token proves AVX-512 F.
        unsafe {
            if let Ok(all) = x.as_mut_slice().try_into() {
                four_in_step(all);
            } else if let Ok(all) = x.as_mut_slice().try_into() {
                eight_in_step(all);
            }
        }
        x
    }

    intrinsics! {
        fn splat(x: f32) -> __m512 = _mm512_set1_ps(x);
        fn add(a: __m512, b: __m512) -> __m512 = _mm512_add_ps(a, b);
        fn sub(a: __m512, b: __m512) -> __m512 = _mm512_sub_ps(a, b);
        fn mul(a: __m512, b: __m512) -> __m512 = _mm512_mul_ps(a, b);
        fn div(a: __m512, b: __m512) -> __m512 = _mm512_div_ps(a, b);
        fn sqrt(a: __m512) -> __m512 = _mm512_sqrt_ps(a);
        fn fma(a: __m512, b: __m512, c: __m512) -> __m512 = _mm512_fmadd_ps(a, b, c);
        fn max(a: __m512, b: __m512) -> __m512 = _mm512_max_ps(a, b);
        fn min(a: __m512, b: __m512) -> __m512 = _mm512_min_ps(a, b);
        fn abs(a: __m512) -> __m512 = _mm512_abs_ps(a);
        fn neg(a: __m512) -> __m512 = _mm512_xor_ps(a, _mm512_set1_ps(-0.0));
        fn copysign(a: __m512, sign: __m512) -> __m512 = _mm512_or_ps(
            _mm512_abs_ps(a), _mm512_and_ps(sign, _mm512_set1_ps(-0.0)));
        fn scale_pow2(y: __m512, n: __m512) -> __m512 = _mm512_scalef_ps(y, n);
        fn lt(a: __m512, b: __m512) -> __mmask16 = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b);
        fn not_lt(a: __m512, b: __m512) -> __mmask16 = _mm512_cmp_ps_mask::<_CMP_NLT_UQ>(a, b);
        fn le(a: __m512, b: __m512) -> __mmask16 = _mm512_cmp_ps_mask::<_CMP_LE_OQ>(a, b);
        fn eq(a: __m512, b: __m512) -> __mmask16 = _mm512_cmp_ps_mask::<_CMP_EQ_OQ>(a, b);
        fn is_nan(a: __m512) -> __mmask16 = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(a, a);
        fn select(mask: __mmask16, a: __m512, b: __m512) -> __m512 = _mm512_mask_blend_ps(mask, b, a);
        fn splat_i32(x: i32) -> __m512i = _mm512_set1_epi32(x);
        fn add_i32(a: __m512i, b: __m512i) -> __m512i = _mm512_add_epi32(a, b);
        fn sub_i32(a: __m512i, b: __m512i) -> __m512i = _mm512_sub_epi32(a, b);
        fn and_i32(a: __m512i, b: __m512i) -> __m512i = _mm512_and_si512(a, b);
        fn or_i32(a: __m512i, b: __m512i) -> __m512i = _mm512_or_si512(a, b);
        fn to_f32(a: __m512i) -> __m512 = _mm512_cvtepi32_ps(a);
        fn to_bits(a: __m512) -> __m512i = _mm512_castps_si512(a);
        fn from_bits(a: __m512i) -> __m512 = _mm512_castsi512_ps(a);
    }

    #[inline(always)]
    fn shl_i32<const N: u32>(self, a: __m512i) -> __m512i {
        // SAFETY: the token proves AVX-512 F; registers only.
        unsafe { _mm512_slli_epi32::<N>(a) }
    }
    #[inline(always)]
    fn shr_i32<const N: u32>(self, a: __m512i) -> __m512i {
        // SAFETY: the token proves AVX-512 F; registers only.
        unsafe { _mm512_srai_epi32::<N>(a) }
    }

    #[inline(always)]
    fn mask_and(self, a: __mmask16, b: __mmask16) -> __mmask16 {
        a & b
    }
    #[inline(always)]
    fn mask_or(self, a: __mmask16, b: __mmask16) -> __mmask16 {
        a | b
    }
    #[inline(always)]
    fn mask_bits(self, mask: __mmask16) -> u32 {
        mask.into()
    }
    #[inline(always)]
    fn mask_from_bits(self, bits: u32) -> __mmask16 {
        bits as __mmask16
    }

    #[inline(always)]
    fn dot_bf16(self, c: __m512, a: __m512i, b: __m512i) -> __m512 {
        if BF16 {
            // SAFETY: the token proves AVX512-BF16; registers only, reinterpreted between types of the same size.
            return unsafe {
                _mm512_dpbf16_ps(
                    c,
                    std::mem::transmute::<__m512i, __m512bh>(a),
                    std::mem::transmute::<__m512i, __m512bh>(b),
                )
            };
        }
        let mut lanes = [c, self.from_bits(a), self.from_bits(b)].map(|register| {
            let mut lanes = [0.0; 16];
            // SAFETY: there is room for the register.
            unsafe { self.store(lanes.as_mut_ptr(), register) };
            lanes
        });
        let [c, a, b] = &mut lanes;
        crate::pairs::dot_lanes(c, a, b);
        // SAFETY: the array holds a register.
        unsafe { self.load(c.as_ptr()) }
    }

    #[inline(always)]
    fn reduce_add(self, a: __m512) -> f32 {
        let (low, high) = self.halves(a);
        // SAFETY: the token proves AVX; registers only.
        crate::avx2::reduce_add(unsafe { _mm256_add_ps(low, high) })
    }
    #[inline(always)]
    fn reduce_max(self, a: __m512) -> f32 {
        let a = self.select(self.is_nan(a), self.splat(f32::NEG_INFINITY), a);
        let (low, high) = self.halves(a);
        // SAFETY: the token proves AVX; registers only.
        crate::avx2::reduce_max(unsafe { _mm256_max_ps(low, high) })
    }

    #[inline(always)]
    fn reduce_add_each(self, registers: [__m512; 4]) -> [f32; 4] {
        self.firsts(self.fold_each::<false>(registers))
    }
    #[inline(always)]
    fn reduce_max_each(self, registers: [__m512; 4]) -> [f32; 4] {
        self.firsts(self.fold_each::<true>(registers))
    }
}

/// [`Isa::in_step`] of four registers.
#[inline]
#[target_feature(enable = "avx512f")]
fn four_in_step([a, b, c, d]: &mut [__m512; 4]) {
    // SAFETY: no instruction is emitted.
    unsafe {
        asm!(
            "/* {} {} {} {} */",
            inout(zmm_reg) * a,
            inout(zmm_reg) * b,
            inout(zmm_reg) * c,
            inout(zmm_reg) * d,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
}

/// [`Isa::in_step`] of eight registers.
#[inline]
#[target_feature(enable = "avx512f")]
fn eight_in_step([a, b, c, d, e, f, g, h]: &mut [__m512; 8]) {
    // SAFETY: no instruction is emitted.
    unsafe {
        asm!(
            "/* {} {} {} {} {} {} {} {} */",
            inout(zmm_reg) * a,
            inout(zmm_reg) * b,
            inout(zmm_reg) * c,
            inout(zmm_reg) * d,
            inout(zmm_reg) * e,
            inout(zmm_reg) * f,
            inout(zmm_reg) * g,
            inout(zmm_reg) * h,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
}

/// Eight words of each of eight rows: word c of rows 0 to 3, word c + 4 of these, word c of rows 4 to 7, word c + 4.
///
/// # Safety
/// Eight words must be readable at each `src + r * stride`, for `r < 8`.
#[inline(always)]
unsafe fn eight_rows<const DOT: bool>(token: Avx512<DOT>, src: *const u8, stride: isize) -> [__m512; 4] {
    // SAFETY: the token proves AVX-512 F; the caller's promise.
    unsafe {
        let (upper, lower) = (token.opaque(src), token.opaque(src.wrapping_offset(4 * stride)));
        let mut rows = [_mm512_setzero_ps(); 4];
        for (r, row) in rows.iter_mut().enumerate() {
            let [upper, lower] = [upper.offset(r as isize * stride), lower.offset(r as isize * stride)];
            let upper = _mm512_castpd256_pd512(_mm256_loadu_pd(upper.cast()));
            *row = _mm512_castpd_ps(_mm512_insertf64x4::<1>(upper, _mm256_loadu_pd(lower.cast())));
        }
        transpose_in_lanes(rows[0], rows[1], rows[2], rows[3])
    }
}

/// Transposes the block of four rows in each 128-bit lane.
///
/// # Safety
/// The CPU has AVX-512 F.
#[inline(always)]
unsafe fn transpose_in_lanes(a: __m512, b: __m512, c: __m512, d: __m512) -> [__m512; 4] {
    // SAFETY: the caller's promise; registers only.
    unsafe {
        let (ab_lo, ab_hi) = (_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
        let (cd_lo, cd_hi) = (_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
        [
            _mm512_shuffle_ps::<0x44>(ab_lo, cd_lo),
            _mm512_shuffle_ps::<0xee>(ab_lo, cd_lo),
            _mm512_shuffle_ps::<0x44>(ab_hi, cd_hi),
            _mm512_shuffle_ps::<0xee>(ab_hi, cd_hi),
        ]
    }
}
