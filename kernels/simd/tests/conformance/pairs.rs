//! Dot products of bf16 pairs against the written rule, where rounding, cancellation, overflow and underflow decide.

use super::{lanes, register};
use gristmill_simd::{Isa, Kernel, bf16, naive};
use gristmill_testkit::{Rng, compare};

/// Compares this many registers of each kind.
pub(crate) struct Pairs {
    pub(crate) registers: usize,
}

/// Accumulator and pairs as bits, of one kind.
type Kind = fn(&mut Rng) -> [u32; 3];

impl Kernel for Pairs {
    type Output = ();

    const DOT: bool = true;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let kinds: [(&str, Kind); 6] = [
            ("any bits", |rng| [0; 3].map(|_| rng.bits() as u32)),
            ("sums that cancel", |rng| near(rng, 127, 3)),
            ("sums of far apart", |rng| near(rng, 127, 30)),
            ("overflow", |rng| near(rng, 190, 2)),
            ("tiny products", |rng| near(rng, 64, 3)),
            ("the edge of underflow", edge),
        ];
        for (kind, make) in kinds {
            let mut rng = Rng::new(kind.len() as u64);
            for _ in 0..self.registers {
                let mut cases = [[0.0; 16]; 3];
                for l in 0..I::LANES {
                    for (lanes, bits) in cases.iter_mut().zip(make(&mut rng)) {
                        lanes[l] = f32::from_bits(bits);
                    }
                }
                let [c, a, b] = cases;
                let [a_bits, b_bits] = [a, b].map(|x| isa.to_bits(register(isa, &x)));
                let got = lanes(isa, isa.dot_bf16(register(isa, &c), a_bits, b_bits));
                for l in 0..I::LANES {
                    let want = naive::dot_pair(a[l].to_bits(), b[l].to_bits(), c[l]);
                    let bits = [c[l], a[l], b[l], got[l], want].map(f32::to_bits);
                    assert!(compare::equal(got[l], want), "{kind} at {}: c, a, b, got, want {bits:08x?}", I::LEVEL);
                }
            }
        }
    }
}

/// Stores two registers of any values but subnormal ones, `registers` times.
pub(crate) struct Stores {
    pub(crate) registers: usize,
}

impl Kernel for Stores {
    type Output = ();

    const DOT: bool = true;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let mut rng = Rng::new(9);
        for _ in 0..self.registers {
            let mut x = [[0.0; 16]; 2];
            for x in x.iter_mut().flat_map(|x| &mut x[..I::LANES]) {
                // Every other one is a tie.
                let bits = if rng.one_in(2) { rng.bits() as u32 } else { rng.bits() as u32 & 0xffff_0000 | 0x8000 };
                *x = f32::from_bits(if f32::from_bits(bits).is_subnormal() { 0 } else { bits });
            }
            let mut got = [bf16::ZERO; 32];
            let registers = [register(isa, &x[0]), register(isa, &x[1])];
            // SAFETY: a register has at most 16 lanes.
            let pairs = unsafe { isa.store_bf16_pairs(got.as_mut_ptr(), registers) };
            let words = lanes(isa, isa.from_bits(pairs));
            for (l, got) in got.iter().enumerate().take(2 * I::LANES) {
                let x = x[l / I::LANES][l % I::LANES];
                let pair = words[l / 2].to_bits() >> (l % 2 * 16);
                let want = bf16::from_f32(x).to_f32();
                assert!(compare::equal(got.to_f32(), want), "{x:e} is stored as {got:?} at {}", I::LEVEL);
                assert_eq!(got.to_bits(), pair as u16, "at {}", I::LEVEL);
            }
        }
    }
}

/// bf16 bits of a random sign and fraction, with an exponent within `spread` of `exponent`.
fn half(rng: &mut Rng, exponent: u32, spread: u32) -> u32 {
    let exponent = exponent + rng.below(2 * spread as usize + 1) as u32 - spread;
    (rng.bits() as u32 & 0x807f) | exponent.min(254) << 7
}

/// Pairs whose elements have exponents near `exponent`, and an accumulator of about the size of their products.
fn near(rng: &mut Rng, exponent: u32, spread: u32) -> [u32; 3] {
    let [a, b] = [0; 2].map(|_| half(rng, exponent, spread) | half(rng, exponent, spread) << 16);
    let size = (2 * exponent).saturating_sub(127).clamp(spread + 1, 254) as usize;
    let c = half(rng, size as u32, spread.min(size as u32)) << 16 | rng.bits() as u32 & 0xffff;
    [c, a, b]
}

/// A product of a sign and an accumulator of the other whose sum lies within a few 2^-150 of 2^-126; the product
/// in either element, the other one zero, tiny or of any size below.
fn edge(rng: &mut Rng) -> [u32; 3] {
    let [x, y] = [0; 2].map(|_| 128 + rng.below(128) as u32);
    // The product is x y 2^-(149 + shift), as long as b stays normal.
    let shift = rng.below(20) as u32;
    let split = rng.below(79) as u32;
    let (a, b) = ((40 + split) << 7 | x & 127, (79 - split) << 7 | y & 127);
    let b = if (b >> 7) > shift { b - (shift << 7) } else { b & 127 | 1 << 7 };
    let product = f64::from(f32::from_bits(a << 16)) * f64::from(f32::from_bits(b << 16));
    let units = (product / f64::from(f32::from_bits(1))) as u32;
    let acc = (0x0080_0000 + units + rng.below(5) as u32).saturating_sub(2).min(0x7f7f_ffff);
    let negative = rng.below(2) as u32;
    let a = a | (negative ^ 1) << 15;
    let [u, v] = match rng.below(3) {
        0 => [0, 0],
        1 => [half(rng, 30, 29), half(rng, 30, 29)],
        _ => [half(rng, 64, 10), half(rng, 40, 10)],
    };
    let swap = rng.one_in(2);
    let pair = |one: u32, other: u32| if swap { one << 16 | other } else { other << 16 | one };
    [acc | negative << 31, pair(a, u), pair(b, v)]
}
