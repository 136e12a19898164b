//! Loads, stores and transposition, between inaccessible pages.

use super::{lanes, register};
use gristmill_simd::{Element, Isa, Kernel, bf16, f16};
use gristmill_testkit::guard::Guarded;
use gristmill_testkit::{Fill, Rng, compare};

pub(crate) struct Memory;

impl Kernel for Memory {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        loads_and_stores::<I, f32>(isa);
        loads_and_stores::<I, f16>(isa);
        loads_and_stores::<I, bf16>(isa);
        widen_all::<I, f16>(isa, f16::from_bits);
        widen_all::<I, bf16>(isa, bf16::from_bits);
        split_all::<I, f16>(isa, f16::from_bits);
        split_all::<I, bf16>(isa, bf16::from_bits);
        narrow_many::<I, f16>(isa, |bits| f16::from_bits(bits).to_f32());
        narrow_many::<I, bf16>(isa, |bits| bf16::from_bits(bits).to_f32());
        stream(isa);
        load_columns(isa);
        transpose(isa);
    }
}

/// Equal as f32: the same bits, or both NaN.
fn same<T: Element>(a: T, b: T) -> bool {
    compare::equal(a.to_f32(), b.to_f32())
}

/// A copy flush with a page that faults, at its end or at its start.
fn guarded<T: Copy>(x: &[T]) -> [Guarded<T>; 2] {
    [Guarded::flush_end(x), Guarded::flush_start(x)]
}

/// Whole registers and every tail. Reading or writing outside faults, or is found when the memory is dropped.
#[inline(always)]
fn loads_and_stores<I: Isa, T: Element>(isa: I) {
    let mut rng = Rng::new(13);
    for fill in [Fill::Normal, Fill::Special, Fill::Bits] {
        let x: [f32; 16] = std::array::from_fn(|_| fill.value(&mut rng));
        let values = x.map(T::from_f32);
        let v = register(isa, &x);
        for n in 0..=I::LANES {
            let tail = isa.tail(n);
            for memory in guarded(&values[..n]) {
                // SAFETY: n values are there, as many as the tail has lanes.
                let got = lanes(isa, unsafe { T::load_tail(isa, memory.as_ptr(), tail) });
                let want = |i: usize| if i < n { values[i].to_f32() } else { 0.0 };
                let right = (0..I::LANES).all(|i| compare::equal(got[i], want(i)));
                assert!(right, "load of {n} {} at {}: {got:?}", T::NAME, I::LEVEL);
            }
            for mut memory in guarded(&vec![T::from_f32(77.0); n]) {
                // SAFETY: n values are there, as many as the tail has lanes.
                unsafe { T::store_tail(isa, memory.as_mut_ptr(), v, tail) };
                let right = memory.iter().zip(values).all(|(&got, want)| same(got, want));
                assert!(right, "store of {n} {} at {}: {:?}", T::NAME, I::LEVEL, &memory[..]);
            }
        }
        for mut memory in guarded(&values[..I::LANES]) {
            // SAFETY: a register's worth of values is there.
            let got = lanes(isa, unsafe { T::load(isa, memory.as_ptr()) });
            let right = (0..I::LANES).all(|i| compare::equal(got[i], values[i].to_f32()));
            assert!(right, "load of {} at {}: {got:?}", T::NAME, I::LEVEL);
            memory.fill(T::from_f32(77.0));
            // SAFETY: as above.
            unsafe { T::store(isa, memory.as_mut_ptr(), v) };
            let right = memory.iter().zip(values).all(|(&got, want)| same(got, want));
            assert!(right, "store of {} at {}: {:?}", T::NAME, I::LEVEL, &memory[..]);
        }
    }
}

/// All 65,536 values.
#[inline(always)]
fn widen_all<I: Isa, T: Element>(isa: I, from_bits: fn(u16) -> T) {
    let all: Vec<T> = (0..=u16::MAX).map(from_bits).collect();
    for chunk in all.chunks_exact(I::LANES) {
        // SAFETY: a chunk holds a register's worth of values.
        let got = lanes(isa, unsafe { T::load(isa, chunk.as_ptr()) });
        for (x, got) in chunk.iter().zip(got) {
            assert!(compare::equal(got, x.to_f32()), "{x:?} of {} widens to {got:e} at {}", T::NAME, I::LEVEL);
        }
    }
}

/// All 65,536 values, in words of two: the first ones, then the others.
#[inline(always)]
fn split_all<I: Isa, T: Element>(isa: I, from_bits: fn(u16) -> T) {
    let all: Vec<T> = (0..=u16::MAX).map(from_bits).collect();
    for chunk in all.chunks_exact(2 * I::LANES) {
        // SAFETY: a chunk holds a register's worth of words.
        let halves = T::split(isa, unsafe { isa.load(chunk.as_ptr().cast()) });
        for (first, half) in halves.into_iter().enumerate() {
            for (x, got) in chunk.iter().skip(first).step_by(2).zip(lanes(isa, half)) {
                assert!(compare::equal(got, x.to_f32()), "{x:?} of {} splits to {got:e} at {}", T::NAME, I::LEVEL);
            }
        }
    }
}

/// Every value of the type, every tie between two of them with its neighbours, NaN of many kinds, and bit patterns
/// of every exponent.
#[inline(always)]
fn narrow_many<I: Isa, T: Element>(isa: I, widen: fn(u16) -> f32) {
    let around = |bits: u16| {
        let (x, next) = (widen(bits), widen(bits.wrapping_add(1)));
        let tie = ((f64::from(x) + f64::from(next)) / 2.0) as f32;
        [x, tie, f32::from_bits(tie.to_bits().wrapping_sub(1)), f32::from_bits(tie.to_bits().wrapping_add(1))]
    };
    let mut all: Vec<f32> = (0..=u16::MAX).flat_map(around).collect();
    all.extend((0..u32::MAX).step_by(997).map(f32::from_bits));
    all.extend((0x7f80_0000..0x8000_0000u32).step_by(65_521).flat_map(|nan| [nan, nan | 1 << 31]).map(f32::from_bits));
    for chunk in all.chunks_exact(I::LANES) {
        let mut got = [T::default(); 16];
        // SAFETY: there is room for 16 values.
        unsafe { T::store(isa, got.as_mut_ptr(), register(isa, chunk)) };
        for (&x, got) in chunk.iter().zip(got) {
            assert!(same(got, T::from_f32(x)), "{x:e} narrows to {got:?} of {} at {}", T::NAME, I::LEVEL);
        }
    }
}

/// Stores around the caches, flush with either page: whole registers that end at one are aligned.
#[inline(always)]
fn stream<I: Isa>(isa: I) {
    let x: [f32; 16] = std::array::from_fn(|i| i as f32 - 7.5);
    for mut memory in guarded(&vec![77.0f32; 3 * I::LANES]) {
        for part in memory.chunks_exact_mut(I::LANES) {
            // SAFETY: the part is one register, and starts at a multiple of its size.
            unsafe { isa.stream(part.as_mut_ptr(), register(isa, &x)) };
        }
        isa.stream_fence();
        assert!(memory.iter().enumerate().all(|(i, &got)| got == x[i % I::LANES]), "stream at {}", I::LEVEL);
    }
}

/// Rows with gaps, of whole words or not, and backwards; only the words that are asked for are there.
#[inline(always)]
fn load_columns<I: Isa>(isa: I) {
    let n = I::LANES;
    for (gap, count) in [0, 2, 4, 20].into_iter().flat_map(|gap| [1, 2, 3, 4, 8, 16].map(|count| (gap, count))) {
        let stride = 4 * count + gap;
        let mut src = vec![0u8; (n - 1) * stride + 4 * count];
        for (r, row) in src.chunks_mut(stride).enumerate() {
            for (c, word) in row.chunks_exact_mut(4).take(count).enumerate() {
                word.copy_from_slice(&((r * 16 + c) as f32).to_ne_bytes());
            }
        }
        for src in guarded(&src) {
            for backwards in [false, true] {
                let (first, step) =
                    if backwards { ((n - 1) * stride, -(stride as isize)) } else { (0, stride as isize) };
                let first = src[first..].as_ptr();
                // SAFETY: row r starts r * step behind the first one and has so many words within src.
                let columns = unsafe {
                    match count {
                        16 => isa.load_sixteen_columns(first, step).to_vec(),
                        8 => isa.load_eight_columns(first, step).to_vec(),
                        _ => isa.load_few_columns(first, step, count).to_vec(),
                    }
                };
                for (c, column) in columns.into_iter().enumerate() {
                    for (r, got) in lanes(isa, column).into_iter().take(n).enumerate() {
                        let row = if backwards { n - 1 - r } else { r };
                        let want = if c < count { (row * 16 + c) as f32 } else { 0.0 };
                        assert_eq!(got, want, "column {c} of {count} of row {r} at {}", I::LEVEL);
                    }
                }
            }
        }
    }
}

/// Strides beyond the block, the source's backwards too; nothing between the columns is written.
#[inline(always)]
fn transpose<I: Isa>(isa: I) {
    let n = I::LANES;
    for (src_gap, dst_gap) in [(0, 0), (3, 0), (0, 5), (1, 2)] {
        let (src_stride, dst_stride) = (n + src_gap, n + dst_gap);
        let src: Vec<f32> = (0..(n - 1) * src_stride + n).map(|i| i as f32).collect();
        let dst = vec![-1.0f32; (n - 1) * dst_stride + n];
        for backwards in [false, true] {
            for (src, mut dst) in guarded(&src).into_iter().zip(guarded(&dst)) {
                let (first, stride) =
                    if backwards { ((n - 1) * src_stride, -(src_stride as isize)) } else { (0, src_stride as isize) };
                // SAFETY: row r starts at first + r * stride and ends within src; column c ends within dst.
                unsafe { isa.transpose(src.as_ptr().add(first), stride, dst.as_mut_ptr(), dst_stride) };
                for (i, &got) in dst.iter().enumerate() {
                    let (c, r) = (i / dst_stride, i % dst_stride);
                    let row = if backwards { n - 1 - r.min(n - 1) } else { r };
                    let want = if r < n { (row * src_stride + c) as f32 } else { -1.0 };
                    assert_eq!(got, want, "transpose at {}, column {c}, row {r}, backwards {backwards}", I::LEVEL);
                }
            }
        }
    }
}
