//! The register operations that every level provides, and the shape of code written over them.

use crate::Level;
use half::{bf16, f16};

/// A computation written once and compiled for every level.
///
/// [`Simd::run`](crate::Simd::run) and [`Isa::vectorize`] call `run` inside a function that enables the level's
/// instructions. `run`, and every generic helper it calls with the token, must be `#[inline(always)]`: only code
/// that is inlined into that function is compiled with those instructions.
pub trait Kernel {
    /// What the computation returns.
    type Output;

    /// Whether it calls [`Isa::dot_bf16`], or [`Isa::store_bf16_pairs`] and wants it fast. A level that differs from another
    /// one in these operations alone runs all other kernels as that one, so that they are not compiled twice.
    const DOT: bool = false;

    /// Runs the computation with the operations of `isa`.
    fn run<I: Isa>(self, isa: I) -> Self::Output;
}

/// The operations of one instruction set, as a zero-sized token.
///
/// A token can only be had from its `detect()` (or from [`Simd`](crate::Simd)), so whoever holds one is on a CPU
/// that executes its instructions; that is the safety argument of every method that is not `unsafe`.
///
/// A register holds [`LANES`](Isa::LANES) lanes of 32 bits. Every operation acts lane by lane and is exact to the
/// bit as documented; nothing approximates, and nothing flushes subnormals but [`dot_bf16`](Isa::dot_bf16) and
/// [`store_bf16_pairs`](Isa::store_bf16_pairs), which say so.
///
/// # Safety
///
/// An implementation's instructions must be available whenever a value of the type exists, and each operation must
/// touch exactly the memory that its documentation names.
pub unsafe trait Isa: Copy + Send + Sync + std::fmt::Debug + 'static {
    /// The level that this token stands for.
    const LEVEL: Level;
    /// Whether [`fma`](Isa::fma) rounds once. Where it does not, it is a multiplication and an addition.
    const FUSED: bool;
    /// Whether [`dot_bf16`](Isa::dot_bf16) is an instruction, and not the slow written-out rule.
    const DOT: bool = false;
    /// Whether [`scale_pow2`](Isa::scale_pow2) is an instruction.
    const SCALES: bool = false;
    /// Lanes of 32 bits in a register: a power of two from 4 to 16.
    const LANES: usize;
    /// Registers that the instruction set names; a tile of accumulators must fit into them.
    const REGISTERS: usize;

    /// A register of f32.
    type F32: Copy;
    /// A register of i32.
    type I32: Copy;
    /// One truth value per lane.
    type Mask: Copy;
    /// Which lanes of a last, partial register exist: always the first `n`.
    type Tail: Copy;
    /// As many registers as hold 16 lanes: one row of a GEMM panel.
    type Row: Copy + AsRef<[Self::F32]> + AsMut<[Self::F32]>;
    /// As many registers as hold the 64 lanes of a row sum.
    type Lanes64: Copy + AsRef<[Self::F32]> + AsMut<[Self::F32]>;

    /// The token, for code that is reached only where somebody else has one.
    ///
    /// # Safety
    /// A token of this type has been had from where the trait says.
    unsafe fn assume() -> Self;

    /// Runs `kernel` in a function compiled with this token's instructions.
    fn vectorize<K: Kernel>(self, kernel: K) -> K::Output;

    /// `x` in every lane.
    fn splat(self, x: f32) -> Self::F32;
    /// Sixteen lanes of `x`.
    fn splat_row(self, x: f32) -> Self::Row;
    /// Sixty-four lanes of `x`.
    fn splat_lanes64(self, x: f32) -> Self::Lanes64;
    /// The first `n` lanes; all of them when `n` exceeds [`LANES`](Isa::LANES).
    fn tail(self, n: usize) -> Self::Tail;
    /// The lanes of a tail as truth values.
    fn tail_mask(self, tail: Self::Tail) -> Self::Mask;

    /// Loads a register from any alignment.
    ///
    /// # Safety
    /// `LANES` values at `p` must be readable.
    unsafe fn load(self, p: *const f32) -> Self::F32;
    /// Stores a register to any alignment.
    ///
    /// # Safety
    /// `LANES` values at `p` must be writable.
    unsafe fn store(self, p: *mut f32, v: Self::F32);
    /// Loads the lanes of `tail`, zero elsewhere; memory outside them is not touched.
    ///
    /// # Safety
    /// The values of the tail at `p` must be readable.
    unsafe fn load_tail(self, p: *const f32, tail: Self::Tail) -> Self::F32;
    /// Stores the lanes of `tail`; memory outside them is not touched.
    ///
    /// # Safety
    /// The values of the tail at `p` must be writable.
    unsafe fn store_tail(self, p: *mut f32, v: Self::F32, tail: Self::Tail);

    /// [`store`](Isa::store) that goes around the caches, where the CPU can: for outputs much larger than them. The
    /// line is not read first.
    ///
    /// # Safety
    /// `LANES` values at `p` must be writable, and `p` aligned to their size. Nobody may access them before this
    /// thread has called [`stream_fence`](Isa::stream_fence).
    unsafe fn stream(self, p: *mut f32, v: Self::F32);
    /// Ends a sequence of [`stream`](Isa::stream): their values are in memory for every later access of this thread,
    /// and of threads that synchronise with it.
    fn stream_fence(self);

    /// Loads and widens `LANES` values of f16, exactly.
    ///
    /// # Safety
    /// `LANES` values at `p` must be readable.
    unsafe fn load_f16(self, p: *const f16) -> Self::F32;
    /// Rounds to f16, nearest even, and stores `LANES` values.
    ///
    /// # Safety
    /// `LANES` values at `p` must be writable.
    unsafe fn store_f16(self, p: *mut f16, v: Self::F32);
    /// [`load_f16`](Isa::load_f16) of the lanes of `tail`, zero elsewhere.
    ///
    /// # Safety
    /// The values of the tail at `p` must be readable.
    unsafe fn load_tail_f16(self, p: *const f16, tail: Self::Tail) -> Self::F32;
    /// [`store_f16`](Isa::store_f16) of the lanes of `tail`.
    ///
    /// # Safety
    /// The values of the tail at `p` must be writable.
    unsafe fn store_tail_f16(self, p: *mut f16, v: Self::F32, tail: Self::Tail);

    /// Loads and widens `LANES` values of bf16, exactly.
    ///
    /// # Safety
    /// `LANES` values at `p` must be readable.
    unsafe fn load_bf16(self, p: *const bf16) -> Self::F32;
    /// Rounds to bf16, nearest even with subnormals kept, and stores `LANES` values.
    ///
    /// # Safety
    /// `LANES` values at `p` must be writable.
    unsafe fn store_bf16(self, p: *mut bf16, v: Self::F32);
    /// [`load_bf16`](Isa::load_bf16) of the lanes of `tail`, zero elsewhere.
    ///
    /// # Safety
    /// The values of the tail at `p` must be readable.
    unsafe fn load_tail_bf16(self, p: *const bf16, tail: Self::Tail) -> Self::F32;
    /// [`store_bf16`](Isa::store_bf16) of the lanes of `tail`.
    ///
    /// # Safety
    /// The values of the tail at `p` must be writable.
    unsafe fn store_tail_bf16(self, p: *mut bf16, v: Self::F32, tail: Self::Tail);

    /// [`store_bf16`](Isa::store_bf16) of two registers, whose values are not subnormal. Returns what was stored, as pairs.
    ///
    /// # Safety
    /// `2 * LANES` values at `p` must be writable.
    #[inline(always)]
    unsafe fn store_bf16_pairs(self, p: *mut bf16, [a, b]: [Self::F32; 2]) -> Self::I32 {
        // SAFETY: the caller's promise.
        unsafe {
            self.store_bf16(p, a);
            self.store_bf16(p.add(Self::LANES), b);
            self.to_bits(self.load(p.cast()))
        }
    }

    /// Four columns of `LANES` rows of 32-bit words, at any alignment: lane `r` of register `c` is word `c` of the row at
    /// `src + r * stride`, the stride in bytes.
    ///
    /// # Safety
    /// Four words must be readable at each `src + r * stride`, for `r < LANES`.
    unsafe fn load_columns(self, src: *const u8, stride: isize) -> [Self::F32; 4];

    /// [`load_columns`](Isa::load_columns) of eight columns.
    ///
    /// # Safety
    /// Eight words must be readable at each `src + r * stride`, for `r < LANES`.
    #[inline(always)]
    unsafe fn load_eight_columns(self, src: *const u8, stride: isize) -> [Self::F32; 8] {
        // SAFETY: the caller's promise.
        let [[a, b, c, d], [e, f, g, h]] =
            unsafe { [self.load_columns(src, stride), self.load_columns(src.add(4 * size_of::<u32>()), stride)] };
        [a, b, c, d, e, f, g, h]
    }

    /// [`load_columns`](Isa::load_columns) of sixteen columns: of whole lines, where rows begin at lines.
    ///
    /// # Safety
    /// Sixteen words must be readable at each `src + r * stride`, for `r < LANES`.
    #[inline(always)]
    unsafe fn load_sixteen_columns(self, src: *const u8, stride: isize) -> [Self::F32; 16] {
        let mut columns = [self.splat(0.0); 16];
        for (c, four) in columns.chunks_exact_mut(4).enumerate() {
            // SAFETY: the caller's promise.
            four.copy_from_slice(&unsafe { self.load_columns(src.add(4 * c * size_of::<u32>()), stride) });
        }
        columns
    }

    /// [`load_columns`](Isa::load_columns) of the first `count` columns, zero in the others.
    ///
    /// # Safety
    /// `count` words must be readable at each `src + r * stride`, for `r < LANES`, and `count` is 4 at most.
    #[inline(always)]
    unsafe fn load_few_columns(self, src: *const u8, stride: isize, count: usize) -> [Self::F32; 4] {
        if count == 4 {
            // SAFETY: the caller's promise.
            return unsafe { self.load_columns(src, stride) };
        }
        let mut rows = [[0u32; 4]; 16];
        for (r, row) in rows.iter_mut().enumerate().take(Self::LANES) {
            let from = src.wrapping_offset(r as isize * stride);
            // SAFETY: the caller's promise; a row has room for four words.
            unsafe { from.copy_to_nonoverlapping(row.as_mut_ptr().cast(), count * size_of::<u32>()) };
        }
        // SAFETY: there are LANES rows of four words.
        unsafe { self.load_columns(rows.as_ptr().cast(), size_of_val(&rows[0]) as isize) }
    }

    /// Both values of the pairs of f16 in the lanes of `pairs`, widened, exactly: those in the low halves, then the others.
    #[inline(always)]
    fn widen_f16_pairs(self, pairs: Self::F32) -> [Self::F32; 2] {
        let (mut bits, mut values, mut halves) = ([0.0f32; 16], [0.0; 32], [[0.0; 16]; 2]);
        // SAFETY: a register has at most as many lanes as an array of 16 has values.
        unsafe {
            self.store(bits.as_mut_ptr(), pairs);
            for first in [0, Self::LANES] {
                self.store(values.as_mut_ptr().add(first), self.load_f16(bits.as_ptr().cast::<f16>().add(first)));
            }
            for l in 0..Self::LANES {
                (halves[0][l], halves[1][l]) = (values[2 * l], values[2 * l + 1]);
            }
            halves.map(|half| self.load(half.as_ptr()))
        }
    }

    /// Writes the transpose of a `LANES` by `LANES` block: `dst[c * dst_stride + r] = src[r * src_stride + c]`.
    ///
    /// # Safety
    /// `LANES` values must be readable at each `src + r * src_stride` and writable at each `dst + c * dst_stride`,
    /// for `r, c < LANES`, without overlap.
    #[inline(always)]
    unsafe fn transpose(self, src: *const f32, src_stride: isize, dst: *mut f32, dst_stride: usize) {
        let stride = src_stride * size_of::<f32>() as isize;
        for first in (0..Self::LANES).step_by(4) {
            // SAFETY: the caller promises LANES values of each row and column, and LANES is a multiple of 4.
            unsafe {
                for (c, column) in self.load_columns(src.add(first).cast(), stride).into_iter().enumerate() {
                    self.store(dst.add((first + c) * dst_stride), column);
                }
            }
        }
    }

    /// Asks for the cache line at `p` to be brought into every cache level. Any address is allowed.
    fn prefetch<T>(self, p: *const T);

    /// The same pointer, of which the optimiser knows nothing. Loops that walk several rows keep one address register
    /// per row with it, where the optimiser would rather chain additions.
    #[expect(clippy::pointers_in_nomem_asm_block, reason = "the pointer passes through, nothing is read or written")]
    #[inline(always)]
    fn opaque<T>(self, p: *const T) -> *const T {
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        {
            let mut p = p;
            // SAFETY: no instruction is emitted.
            unsafe { std::arch::asm!("/* {0} */", inout(reg) p, options(pure, nomem, nostack, preserves_flags)) };
            p
        }
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        p
    }

    /// Keeps what is loaded later behind what was loaded before, where registers are few: the optimiser would rather load
    /// early, and then has to store what it has no registers for.
    #[inline(always)]
    fn end_step(self) {
        #[cfg(target_arch = "x86_64")]
        if Self::REGISTERS <= 16 {
            // SAFETY: no instruction is emitted.
            unsafe { std::arch::asm!("", options(nomem, nostack, preserves_flags)) };
        }
    }

    /// The same registers, of which the optimiser knows nothing but that all of them are made before any is used: what is
    /// written in step stays in step. It would rather finish one chain of operations after the other, which saves registers
    /// and leaves the units idle.
    #[inline(always)]
    fn in_step<const N: usize>(self, x: [Self::F32; N]) -> [Self::F32; N] {
        x
    }

    /// `a + b`.
    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a - b`.
    fn sub(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a * b`.
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a / b`, correctly rounded.
    fn div(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// Square root, correctly rounded.
    fn sqrt(self, a: Self::F32) -> Self::F32;
    /// `a * b + c`, rounded once iff [`FUSED`](Isa::FUSED).
    fn fma(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32;
    /// `if a > b { a } else { b }`: `b` where either is NaN, and `b` for zeros of either sign.
    fn max(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `if a < b { a } else { b }`: `b` where either is NaN, and `b` for zeros of either sign.
    fn min(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// Clears the sign bit.
    fn abs(self, a: Self::F32) -> Self::F32;
    /// Flips the sign bit.
    fn neg(self, a: Self::F32) -> Self::F32;
    /// The magnitude of `a` with the sign bit of `sign`.
    fn copysign(self, a: Self::F32, sign: Self::F32) -> Self::F32;
    /// `y * 2^n` for an integral `n` in [-150, 129], computed as `(y * 2^(n >> 1)) * 2^(n - (n >> 1))`, or anything
    /// that gives those bits for `y` in [0.5, 2]. A NaN `y` gives NaN whatever `n` is.
    fn scale_pow2(self, y: Self::F32, n: Self::F32) -> Self::F32;

    /// `a < b`, false for NaN.
    fn lt(self, a: Self::F32, b: Self::F32) -> Self::Mask;
    /// `!(a < b)`, true for NaN.
    fn not_lt(self, a: Self::F32, b: Self::F32) -> Self::Mask;
    /// `a <= b`, false for NaN.
    fn le(self, a: Self::F32, b: Self::F32) -> Self::Mask;
    /// `a == b`, false for NaN; zeros of both signs are equal.
    fn eq(self, a: Self::F32, b: Self::F32) -> Self::Mask;
    /// True where `a` is NaN.
    fn is_nan(self, a: Self::F32) -> Self::Mask;
    /// `if mask { a } else { b }`.
    fn select(self, mask: Self::Mask, a: Self::F32, b: Self::F32) -> Self::F32;
    /// Both.
    fn mask_and(self, a: Self::Mask, b: Self::Mask) -> Self::Mask;
    /// Either.
    fn mask_or(self, a: Self::Mask, b: Self::Mask) -> Self::Mask;
    /// One bit per lane, lane 0 lowest.
    fn mask_bits(self, mask: Self::Mask) -> u32;
    /// Lane `i` is bit `i`; higher bits are ignored.
    fn mask_from_bits(self, bits: u32) -> Self::Mask;

    /// `x` in every lane.
    fn splat_i32(self, x: i32) -> Self::I32;
    /// `a + b`, wrapping.
    fn add_i32(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// `a - b`, wrapping.
    fn sub_i32(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// Bitwise and.
    fn and_i32(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// Bitwise or.
    fn or_i32(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// Shift left, zeros enter.
    fn shl_i32<const N: u32>(self, a: Self::I32) -> Self::I32;
    /// Arithmetic shift right, sign bits enter.
    fn shr_i32<const N: u32>(self, a: Self::I32) -> Self::I32;
    /// The nearest f32.
    fn to_f32(self, a: Self::I32) -> Self::F32;
    /// The same bits as integers.
    fn to_bits(self, a: Self::F32) -> Self::I32;
    /// The same bits as floats.
    #[expect(clippy::wrong_self_convention, reason = "the token is not what is converted")]
    fn from_bits(self, a: Self::I32) -> Self::F32;

    /// `c` plus the dot product of the bf16 pairs in each lane of `a` and `b`, the even element in the low half: the bits
    /// of [`naive::dot_pair`](crate::naive::dot_pair). An instruction at the level `avx512bf16`, and slow elsewhere.
    #[inline(always)]
    fn dot_bf16(self, c: Self::F32, a: Self::I32, b: Self::I32) -> Self::F32 {
        let mut lanes = [[0.0; 16]; 3];
        // SAFETY: a register has at most 16 lanes.
        unsafe {
            for (lanes, register) in lanes.iter_mut().zip([c, self.from_bits(a), self.from_bits(b)]) {
                self.store(lanes.as_mut_ptr(), register);
            }
            let [c, a, b] = &mut lanes;
            crate::pairs::dot_lanes(c, a, b);
            self.load(c.as_ptr())
        }
    }

    /// The sum of the lanes by halving: lane `l` with `l + LANES / 2`, then `+ LANES / 4`, down to `+ 1`.
    fn reduce_add(self, a: Self::F32) -> f32;
    /// The largest lane that is not NaN, -inf if there is none. The sign of a zero result is not specified.
    fn reduce_max(self, a: Self::F32) -> f32;

    /// [`reduce_add`](Isa::reduce_add) of four registers in step.
    #[inline(always)]
    fn reduce_add_each(self, [a, b, c, d]: [Self::F32; 4]) -> [f32; 4] {
        [self.reduce_add(a), self.reduce_add(b), self.reduce_add(c), self.reduce_add(d)]
    }
    /// [`reduce_max`](Isa::reduce_max) of four registers in step; no lane may be NaN.
    #[inline(always)]
    fn reduce_max_each(self, [a, b, c, d]: [Self::F32; 4]) -> [f32; 4] {
        [self.reduce_max(a), self.reduce_max(b), self.reduce_max(c), self.reduce_max(d)]
    }
}
