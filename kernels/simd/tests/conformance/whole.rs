//! The operations over whole registers: reductions, masks, tails, groups of registers.

use super::{lanes, register};
use gristmill_simd::sums::{SUM_LANES, reduce64, sum_registers};
use gristmill_simd::{Isa, Kernel};
use gristmill_testkit::{Fill, Rng, compare};

pub(crate) struct Whole;

impl Kernel for Whole {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        groups(isa);
        masks(isa);
        reduce_add(isa);
        reduce_max(isa);
        four(isa);
        pointers(isa);
    }
}

#[inline(always)]
fn groups<I: Isa>(isa: I) {
    let all = |v: I::F32, x: f32| lanes(isa, v)[..I::LANES].iter().all(|lane| lane.to_bits() == x.to_bits());
    for x in [0.0, -0.0, 1.5, f32::INFINITY, f32::from_bits(1)] {
        assert!(all(isa.splat(x), x));
        let row = isa.splat_row(x);
        assert_eq!(row.as_ref().len() * I::LANES, 16);
        assert!(row.as_ref().iter().all(|&v| all(v, x)));
        let lanes64 = isa.splat_lanes64(x);
        assert_eq!((lanes64.as_ref().len(), sum_registers::<I>() * I::LANES), (sum_registers::<I>(), SUM_LANES));
        assert!(lanes64.as_ref().iter().all(|&v| all(v, x)));
    }
}

#[inline(always)]
fn masks<I: Isa>(isa: I) {
    let every = (1u32 << I::LANES) - 1;
    let (yes, no) = (isa.splat(1.0), isa.splat(-0.0));
    for bits in 0..=every {
        // Bits above the lanes are ignored.
        let mask = isa.mask_from_bits(bits | !every);
        assert_eq!(isa.mask_bits(mask), bits, "{}", I::LEVEL);
        let selected = lanes(isa, isa.select(mask, yes, no));
        for (i, lane) in selected[..I::LANES].iter().enumerate() {
            assert_eq!(lane.to_bits(), if bits >> i & 1 == 1 { 1f32 } else { -0.0 }.to_bits(), "{}", I::LEVEL);
        }
        let other = bits.wrapping_mul(0x9e37_79b9) >> 7 & every;
        let other_mask = isa.mask_from_bits(other);
        assert_eq!(isa.mask_bits(isa.mask_and(mask, other_mask)), bits & other);
        assert_eq!(isa.mask_bits(isa.mask_or(mask, other_mask)), bits | other);
    }
    for n in [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 100, usize::MAX] {
        let want = (1u32 << n.min(I::LANES)) - 1;
        assert_eq!(isa.mask_bits(isa.tail_mask(isa.tail(n))), want, "tail of {n} at {}", I::LEVEL);
    }
}

/// Halving: lane `l` with `l + len / 2`, and again.
fn halve(x: &[f32]) -> f32 {
    match x {
        [x] => *x,
        _ => {
            let (low, high) = x.split_at(x.len() / 2);
            halve(&low.iter().zip(high).map(|(a, b)| a + b).collect::<Vec<_>>())
        }
    }
}

#[inline(always)]
fn reduce_add<I: Isa>(isa: I) {
    let mut rng = Rng::new(3);
    for fill in [Fill::Normal, Fill::Scaled, Fill::Special, Fill::Bits] {
        for _ in 0..2000 {
            let x: [f32; SUM_LANES] = std::array::from_fn(|_| fill.value(&mut rng));
            let (got, want) = (isa.reduce_add(register(isa, &x)), halve(&x[..I::LANES]));
            assert!(compare::equal(got, want), "reduce_add at {}: {x:?}: {got:e}, want {want:e}", I::LEVEL);
            let mut lanes64 = isa.splat_lanes64(0.0);
            for (v, x) in lanes64.as_mut().iter_mut().zip(x.chunks(I::LANES)) {
                *v = register(isa, x);
            }
            let (got, want) = (reduce64(isa, lanes64), halve(&x));
            assert!(compare::equal(got, want), "reduce64 at {}: {x:?}: {got:e}, want {want:e}", I::LEVEL);
        }
    }
}

#[inline(always)]
fn reduce_max<I: Isa>(isa: I) {
    let check = |x: &[f32; 16]| {
        let x = &x[..I::LANES];
        let want = x.iter().filter(|x| !x.is_nan()).fold(f32::NEG_INFINITY, |max, &x| if x > max { x } else { max });
        let got = isa.reduce_max(register(isa, x));
        // Equal as numbers: the sign of a zero is open.
        assert!(got == want, "reduce_max at {}: {x:?}: {got:e}, want {want:e}", I::LEVEL);
    };
    let mut rng = Rng::new(5);
    for fill in [Fill::Normal, Fill::Special, Fill::Bits] {
        for _ in 0..2000 {
            let x: [f32; 16] = std::array::from_fn(|_| fill.value(&mut rng));
            check(&x);
        }
    }
    for nans in 0..1u32 << I::LANES {
        let lane = |i: usize| if nans >> i & 1 == 1 { f32::NAN } else { -1.0 - i as f32 };
        check(&std::array::from_fn(lane));
    }
    for i in 0..16 {
        let mut x = [f32::NEG_INFINITY; 16];
        check(&x);
        x[i] = f32::MIN;
        check(&x);
        x[i] = f32::INFINITY;
        check(&x);
    }
}

/// Four registers in step are as four registers one by one.
#[inline(always)]
fn four<I: Isa>(isa: I) {
    let mut rng = Rng::new(7);
    for fill in [Fill::Normal, Fill::Scaled, Fill::Special, Fill::Bits] {
        for _ in 0..2000 {
            let mut x = [[0.0; 16]; 4];
            x.iter_mut().flatten().for_each(|x| *x = fill.value(&mut rng));
            let mut registers = [isa.splat(0.0); 4];
            for (register_of, x) in registers.iter_mut().zip(&x) {
                *register_of = register(isa, x);
            }
            for (got, v) in isa.reduce_add_each(registers).into_iter().zip(registers) {
                let want = isa.reduce_add(v);
                assert!(compare::equal(got, want), "reduce_add_each at {}: {x:?}: {got:e}, want {want:e}", I::LEVEL);
            }
            // Without NaN.
            for (register_of, x) in registers.iter_mut().zip(&mut x) {
                x.iter_mut().filter(|x| x.is_nan()).for_each(|x| *x = f32::NEG_INFINITY);
                *register_of = register(isa, x);
            }
            for (got, v) in isa.reduce_max_each(registers).into_iter().zip(registers) {
                let want = isa.reduce_max(v);
                assert!(got == want, "reduce_max_each at {}: {x:?}: {got:e}, want {want:e}", I::LEVEL);
            }
        }
    }
}

#[inline(always)]
fn pointers<I: Isa>(isa: I) {
    let x = [1.0f32, 2.0];
    assert_eq!(isa.opaque(x.as_ptr()), x.as_ptr());
    // No address faults.
    isa.prefetch(x.as_ptr());
    isa.prefetch(std::ptr::null::<f32>());
    isa.prefetch(std::ptr::without_provenance::<u8>(usize::MAX));
}
