//! Every operation of every level against scalar code, lane by lane.

mod lanes;
#[cfg(unix)]
mod memory;
mod pairs;
mod whole;

use gristmill_simd::{Isa, Kernel, Level, Simd, naive};
use gristmill_testkit::sweep;

/// Runs a kernel at every level that there is, and says which.
fn at_every_level<K: Kernel>(kernel: impl Fn() -> K) {
    sweep::levels(|level| {
        Simd::choose(Some(level)).expect("an available level").run(kernel());
    });
}

/// The lanes of a register, zeros after them.
#[inline(always)]
fn lanes<I: Isa>(isa: I, v: I::F32) -> [f32; 16] {
    let mut out = [0.0; 16];
    // SAFETY: a register has at most 16 lanes.
    unsafe { isa.store(out.as_mut_ptr(), v) };
    out
}

/// A register of the first lanes of `x`, zeros where there are none.
#[inline(always)]
fn register<I: Isa>(isa: I, x: &[f32]) -> I::F32 {
    let mut padded = [0.0; 16];
    let n = x.len().min(I::LANES);
    padded[..n].copy_from_slice(&x[..n]);
    // SAFETY: a register has at most 16 lanes.
    unsafe { isa.load(padded.as_ptr()) }
}

#[test]
fn lane_operations() {
    at_every_level(|| lanes::Lanes);
}

#[test]
fn operations_on_whole_registers() {
    at_every_level(|| whole::Whole);
}

#[cfg(unix)]
#[test]
fn memory_operations() {
    at_every_level(|| memory::Memory);
}

#[test]
fn pairs_are_stored_rounded() {
    at_every_level(|| pairs::Stores { registers: 3000 });
}

#[test]
fn pairs_follow_the_rule() {
    at_every_level(|| pairs::Pairs { registers: 3000 });
}

/// The rule itself, on any CPU: the levels are compared with it, and the probe withdraws the one that differs.
#[test]
fn pairs_take_the_odd_element_first_and_flush() {
    let pair = |odd: f32, even: f32| odd.to_bits() & 0xffff_0000 | even.to_bits() >> 16;
    let two = |n: i32| 2.0_f32.powi(n);
    // The even element first would be lost beside 2^30.
    let (a, b) = (pair(two(15), two(-5)), pair(two(15), two(-5)));
    assert_eq!(naive::dot_pair(a, b, -two(30)), two(-10));
    // Results below 2^-126 are zeros of their sign, and subnormal elements count as zeros.
    assert_eq!(naive::dot_pair(pair(0.0, -two(-70)), pair(0.0, two(-70)), 0.0).to_bits(), (-0.0_f32).to_bits());
    assert_eq!(naive::dot_pair(pair(0.0, two(-127)), pair(0.0, two(100)), 0.0), 0.0);
}

/// 200 million pairs of each kind, at the level that has the instruction.
#[test]
#[ignore = "minutes: cargo test --release -p gristmill-simd --test conformance -- --ignored many_pairs"]
fn many_pairs_follow_the_rule() {
    match Simd::choose(Some(Level::Avx512Bf16)) {
        Ok(simd) => simd.run(pairs::Pairs { registers: 200_000_000 / 16 }),
        Err(error) => println!("not run: {error}"),
    }
}

#[test]
fn levels_describe_themselves() {
    struct Describe;
    impl Kernel for Describe {
        type Output = (Level, bool, usize);

        const DOT: bool = true;

        #[inline(always)]
        fn run<I: Isa>(self, isa: I) -> Self::Output {
            struct Inner;
            impl Kernel for Inner {
                type Output = Level;

                const DOT: bool = true;

                #[inline(always)]
                fn run<I: Isa>(self, _: I) -> Level {
                    I::LEVEL
                }
            }
            assert_eq!(isa.vectorize(Inner), I::LEVEL);
            assert!(I::LANES.is_power_of_two() && I::REGISTERS >= 16);
            (I::LEVEL, I::FUSED, I::LANES)
        }
    }
    sweep::levels(|level| {
        let simd = Simd::choose(Some(level)).expect("an available level");
        let (own, fused, lanes) = simd.run(Describe);
        assert_eq!((own, simd.level(), fused), (level, level, level.fused()));
        let want = match level {
            Level::Avx2 => 8,
            Level::Avx512 | Level::Avx512Bf16 => 16,
            _ => 4,
        };
        assert_eq!(lanes, want, "{level}");
    });
}
