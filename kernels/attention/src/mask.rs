//! What changes the scores of one query row between the product and the softmax.

use gristmill_core::ScoresRef;
use gristmill_simd::{Isa, math};
use std::marker::PhantomData;

/// The values that a broadcast view has for one query row, one per key.
struct Line<'a, T> {
    start: *const T,
    stride: isize,
    life: PhantomData<&'a [T]>,
}

impl<'a, T> Line<'a, T> {
    fn new(view: &ScoresRef<'a, T>, b: usize, h: usize, i: usize) -> Self {
        let strides = view.strides();
        let offset = b as isize * strides[0] + h as isize * strides[1] + i as isize * strides[2];
        Self { start: view.as_ptr().wrapping_offset(offset), stride: strides[3], life: PhantomData }
    }
}

/// The soft cap, bias and boolean mask of one query row.
pub(crate) struct Edit<'a> {
    softcap: Option<f32>,
    bias: Option<Line<'a, f32>>,
    keep: Option<Line<'a, bool>>,
}

impl<'a> Edit<'a> {
    /// The edit of query `i` of head `h` in sequence `b`.
    pub(crate) fn new(options: &crate::AttentionOptions<'a>, [b, h, i]: [usize; 3]) -> Self {
        Self {
            softcap: options.softcap,
            bias: options.mask.bias.map(|bias| Line::new(&bias, b, h, i)),
            keep: options.mask.keep.map(|keep| Line::new(&keep, b, h, i)),
        }
    }

    /// The scores of the `n` keys from `j` on as they enter the softmax, minus infinity for hidden keys.
    ///
    /// # Safety
    /// The views that the edit was made from have, or broadcast to, the query and keys `j .. j + n`; `n <= LANES`.
    #[inline(always)]
    pub(crate) unsafe fn apply<I: Isa>(&self, isa: I, mut score: I::F32, j: usize, n: usize) -> I::F32 {
        let hidden = isa.splat(f32::NEG_INFINITY);
        if let Some(cap) = self.softcap {
            let cap = isa.splat(cap);
            score = isa.mul(cap, math::tanh(isa, isa.div(score, cap)));
        }
        if let Some(line) = &self.bias {
            // SAFETY: the caller's promise.
            let bias = unsafe { line.values(isa, j, n) };
            score = isa.select(isa.eq(bias, hidden), hidden, isa.add(score, bias));
        }
        if let Some(line) = &self.keep {
            // SAFETY: the caller's promise.
            let keep = isa.mask_from_bits(unsafe { line.bits(j, n) });
            score = isa.select(keep, score, hidden);
        }
        score
    }
}

impl Line<'_, f32> {
    /// The values of keys `j .. j + n`, and anything in the lanes after them.
    ///
    /// # Safety
    /// They must exist; `n <= LANES`.
    #[inline(always)]
    unsafe fn values<I: Isa>(&self, isa: I, j: usize, n: usize) -> I::F32 {
        let start = self.start.wrapping_offset(j as isize * self.stride);
        // SAFETY: the caller's promise; a stride of zero repeats the first value, and n >= 1.
        unsafe {
            match self.stride {
                0 => isa.splat(*start),
                1 if n == I::LANES => isa.load(start),
                1 => isa.load_tail(start, isa.tail(n)),
                stride => {
                    let mut lanes = [0.0; 16];
                    for (l, lane) in lanes.iter_mut().enumerate().take(n) {
                        *lane = *start.offset(l as isize * stride);
                    }
                    isa.load(lanes.as_ptr())
                }
            }
        }
    }
}

impl Line<'_, bool> {
    /// Bit `l` is the value of key `j + l`, for `l < n`.
    ///
    /// # Safety
    /// They must exist; `1 <= n <= 16`.
    #[inline(always)]
    unsafe fn bits(&self, j: usize, n: usize) -> u32 {
        let start = self.start.wrapping_offset(j as isize * self.stride);
        if self.stride == 0 {
            // SAFETY: the caller's promise.
            return if unsafe { *start } { u32::MAX } else { 0 };
        }
        let mut bytes = [0u8; 16];
        // SAFETY: the caller's promise; a bool is a byte of 0 or 1.
        unsafe {
            match (self.stride, n) {
                (1, 16) => bytes = start.cast::<[u8; 16]>().read(),
                (1, 8) => bytes[..8].copy_from_slice(&start.cast::<[u8; 8]>().read()),
                (stride, _) => {
                    for (l, byte) in bytes.iter_mut().enumerate().take(n) {
                        *byte = *start.offset(l as isize * stride) as u8;
                    }
                }
            }
        }
        // The product moves bit 0 of byte i to bit 56 + i, and nothing else goes there.
        let gather = |bytes: u64| (bytes.wrapping_mul(0x0102_0408_1020_4080) >> 56) as u32;
        let both = u128::from_le_bytes(bytes);
        gather(both as u64) | gather((both >> 64) as u64) << 8
    }
}
