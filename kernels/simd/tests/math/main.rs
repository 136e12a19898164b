//! The elementwise functions: equal to their naive form in bits, at every level, and as exact as their documentation
//! says.

mod functions;
mod measure;

use functions::*;
use gristmill_simd::naive;
use gristmill_testkit::{Rng, fill::SPECIAL, sweep};
use measure::{Errors, Worst, measure, report};

/// Calls `$f::<F>($arguments)` for every function.
macro_rules! for_each_function {
    ($f:ident($($argument:expr),*)) => {
        $f::<Exp>($($argument),*);
        $f::<ExpNonpositive>($($argument),*);
        $f::<ExpCoarse>($($argument),*);
        $f::<Ln>($($argument),*);
        $f::<Tanh>($($argument),*);
        $f::<Erf>($($argument),*);
        $f::<Relu>($($argument),*);
        $f::<Gelu>($($argument),*);
        $f::<GeluTanh>($($argument),*);
        $f::<Silu>($($argument),*);
    };
}

/// Special values, the neighbourhoods of the points where a function changes its form, bit patterns of every
/// exponent, and uniform numbers where the functions bend.
fn sample() -> Vec<f32> {
    const EDGES: [f32; 16] = [
        0.0,
        0.625,
        std::f32::consts::FRAC_1_SQRT_2,
        1.0,
        1.085,
        std::f32::consts::SQRT_2,
        4.0,
        8.4065,
        16.0,
        87.0,
        87.33655,
        88.72284,
        89.0,
        103.97208,
        104.0,
        128.0,
    ];
    let mut x = SPECIAL.to_vec();
    for edge in EDGES {
        let near = (0..200).map(|i| f32::from_bits((edge.to_bits() + i).saturating_sub(100)));
        x.extend(near.flat_map(|x| [x, -x]));
    }
    x.extend((0..u32::MAX).step_by(4099).map(f32::from_bits));
    let mut rng = Rng::new(1);
    for span in [1.0, 10.0, 100.0] {
        x.extend((0..500_000).map(|_| span * rng.uniform()));
    }
    x
}

#[test]
fn levels_equal_naive_and_errors_keep_their_bounds() {
    fn check<F: Function>(x: &[f32]) {
        report(F::NAME, F::CLAIMS, &measure::<F>(x));
    }
    sweep::levels(|_| {});
    let x = sample();
    for_each_function!(check(&x));
}

#[test]
fn nan_gives_nan_and_the_ends_are_exact() {
    fn check<F: Function>() {
        for nan in [f32::NAN, -f32::NAN, f32::from_bits(0x7f80_0001), f32::from_bits(0xffff_ffff)] {
            assert!(F::naive::<true>(nan).is_nan() && F::naive::<false>(nan).is_nan(), "{}", F::NAME);
        }
    }
    for_each_function!(check());

    fn ends<const FUSED: bool>() {
        let bits = |x: f32, want: f32| assert_eq!(x.to_bits(), want.to_bits(), "{x:e} is not {want:e}");
        let inf = f32::INFINITY;
        for (sign, one) in [(0.0, 1.0), (-0.0, -1.0)] {
            bits(naive::exp::<FUSED>(sign), 1.0);
            bits(naive::exp_nonpositive::<FUSED>(sign), 1.0);
            bits(naive::ln::<FUSED>(sign), -inf);
            for odd in [naive::tanh::<FUSED>, naive::erf::<FUSED>] {
                bits(odd(sign), sign);
                bits(odd(one * inf), one);
            }
            for gate in [naive::relu::<FUSED>, naive::gelu::<FUSED>, naive::gelu_tanh::<FUSED>, naive::silu::<FUSED>] {
                bits(gate(sign), sign);
                bits(gate(inf), inf);
                assert_eq!(gate(-inf), 0.0);
                assert_eq!(gate(f32::MIN), 0.0);
                bits(gate(f32::MAX), f32::MAX);
            }
        }
        bits(naive::exp::<FUSED>(-inf), 0.0);
        bits(naive::exp::<FUSED>(inf), inf);
        bits(naive::exp_nonpositive::<FUSED>(-inf), 0.0);
        bits(naive::exp_coarse::<FUSED>(-inf), 0.0);
        bits(naive::ln::<FUSED>(1.0), 0.0);
        bits(naive::ln::<FUSED>(inf), inf);
        assert!(naive::ln::<FUSED>(-f32::from_bits(1)).is_nan());
    }
    ends::<true>();
    ends::<false>();
}

#[test]
fn tanh_and_erf_are_odd() {
    for x in sample() {
        for (f, name) in [(naive::tanh::<true> as fn(f32) -> f32, "tanh"), (naive::erf::<true>, "erf")] {
            let (plus, minus) = (f(x), f(-x));
            assert!(x.is_nan() || plus.to_bits() == (-minus).to_bits(), "{name} of {x:e}: {plus:e}, {minus:e}");
        }
    }
}

/// Walks down from 0 in steps that leave out `stride - 1` floats.
fn assert_exp_monotonic<const FUSED: bool>(stride: usize) {
    let mut last = 1.0;
    for bits in (0..=87f32.to_bits()).step_by(stride) {
        let x = -f32::from_bits(bits);
        let y = naive::exp_nonpositive::<FUSED>(x);
        assert!(y <= last, "exp of {x:e} is {y:e}, but {last:e} before");
        last = y;
    }
}

#[test]
fn exp_is_monotonic_for_softmax() {
    assert_exp_monotonic::<true>(257);
    assert_exp_monotonic::<false>(257);
}

/// Every float there is: one test per function, minutes each.
mod exhaustive {
    use super::*;

    macro_rules! exhaustive {
        ($($name:ident: $f:ty),+) => {
            $(
                #[test]
                #[ignore = "2^32 inputs, minutes: cargo test --release -p gristmill-simd -- --ignored exhaustive"]
                fn $name() {
                    every_float::<$f>();
                }
            )+
        };
    }
    exhaustive! {
        exp: Exp, exp_nonpositive: ExpNonpositive, exp_coarse: ExpCoarse, ln: Ln, tanh: Tanh, erf: Erf,
        relu: Relu, gelu: Gelu, gelu_tanh: GeluTanh, silu: Silu
    }

    fn every_float<F: Function>() {
        const CHUNK: u32 = 1 << 14;
        const CHUNKS: u32 = u32::MAX / CHUNK + 1;
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
        let share = |thread| {
            let mut total = vec![[Worst::default(); 2]; F::CLAIMS.len()];
            for chunk in (thread..CHUNKS).step_by(threads as usize) {
                let x: Vec<f32> = (0..CHUNK).map(|i| f32::from_bits(chunk * CHUNK + i)).collect();
                merge(&mut total, measure::<F>(&x));
            }
            total
        };
        let total = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..threads).map(|thread| scope.spawn(move || share(thread))).collect();
            let mut total = vec![[Worst::default(); 2]; F::CLAIMS.len()];
            threads.into_iter().for_each(|thread| merge(&mut total, thread.join().expect("every chunk is right")));
            total
        });
        sweep::levels(|_| {});
        report(F::NAME, F::CLAIMS, &total);
    }

    fn merge(total: &mut Errors, errors: Errors) {
        for (total, error) in total.iter_mut().flatten().zip(errors.into_iter().flatten()) {
            total.merge(error);
        }
    }

    #[test]
    #[ignore = "every float in [-87, 0]: cargo test --release -p gristmill-simd -- --ignored exhaustive"]
    fn exp_is_monotonic() {
        assert_exp_monotonic::<true>(1);
        assert_exp_monotonic::<false>(1);
    }
}
