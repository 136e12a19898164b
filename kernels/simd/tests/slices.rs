//! Maps and folds over slices against plain loops, at every level, for every length around the registers.

use gristmill_simd::slices::{self, Chain, Map, Map2};
use gristmill_simd::sums::{SUM_LANES, reduce64};
use gristmill_simd::{Element, Isa, Kernel, Simd, bf16, f16};
use gristmill_testkit::{Fill, assert_bits_eq, compare, sweep};
use std::marker::PhantomData;

/// `0.5 x + 1`, which exposes a lane that should not be there.
struct Line;

/// `a - 2 b`.
struct Difference;

impl<I: Isa> Map<I> for Line {
    #[inline(always)]
    fn map(&self, isa: I, x: I::F32) -> I::F32 {
        isa.add(isa.mul(isa.splat(0.5), x), isa.splat(1.0))
    }
}

/// Half the value, and then 1 more.
impl<I: Isa> Chain<I> for Line {
    type Half = [I::F32; 4];

    #[inline(always)]
    fn begin(&self, isa: I, [a, b, c, d]: [I::F32; 4]) -> [I::F32; 4] {
        let half = isa.splat(0.5);
        [isa.mul(half, a), isa.mul(half, b), isa.mul(half, c), isa.mul(half, d)]
    }
    #[inline(always)]
    fn end(&self, isa: I, [a, b, c, d]: [I::F32; 4]) -> [I::F32; 4] {
        let one = isa.splat(1.0);
        [isa.add(a, one), isa.add(b, one), isa.add(c, one), isa.add(d, one)]
    }
    #[inline(always)]
    fn end_behind(&self, isa: I, begun: [I::F32; 4], x: [I::F32; 4]) -> ([I::F32; 4], [I::F32; 4]) {
        (self.end(isa, begun), self.begin(isa, x))
    }
}

impl<I: Isa> Map2<I> for Difference {
    #[inline(always)]
    fn map(&self, isa: I, a: I::F32, b: I::F32) -> I::F32 {
        isa.sub(a, isa.add(b, b))
    }
}

fn line(x: f32) -> f32 {
    0.5 * x + 1.0
}

fn difference(a: f32, b: f32) -> f32 {
    a - (b + b)
}

/// Lane `i % 64`, then halving.
fn sum_by_rule(x: &[f32]) -> f32 {
    let mut lanes = [0.0f32; SUM_LANES];
    x.iter().enumerate().for_each(|(i, x)| lanes[i % SUM_LANES] += x);
    let mut half = SUM_LANES / 2;
    while half > 0 {
        (0..half).for_each(|l| lanes[l] += lanes[l + half]);
        half /= 2;
    }
    lanes[0]
}

/// The first value after the common prefix; it must survive.
const SENTINEL: f32 = -77.0;

/// `S` in, `D` out.
struct Check<S, D>(PhantomData<(S, D)>);

impl<S: Element, D: Element> Kernel for Check<S, D> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        for n in (0..=3 * SUM_LANES + 1).chain([1000]) {
            let context = format!("{} to {}, {n} values at {}", S::NAME, D::NAME, I::LEVEL);
            let narrow = |x: Vec<f32>| x.into_iter().map(S::from_f32).collect::<Vec<S>>();
            let (a, b) = (narrow(Fill::Normal.vec(1, n)), narrow(Fill::Normal.vec(2, n + 3)));
            let round = |x: f32| D::from_f32(x).to_f32();
            let wide = |y: &[D]| y.iter().map(|y| y.to_f32()).collect::<Vec<f32>>();
            let with_sentinel = |mut y: Vec<f32>| {
                y.push(SENTINEL);
                y
            };
            let mapped = with_sentinel(a.iter().map(|x| round(line(x.to_f32()))).collect());
            let pairs = a.iter().zip(&b);
            let both = with_sentinel(pairs.map(|(a, b)| round(difference(a.to_f32(), b.to_f32()))).collect());

            let fresh = || vec![D::from_f32(SENTINEL); n + 1];
            let mut y = fresh();
            slices::map(isa, &a, &mut y, &Line);
            assert_bits_eq(&wide(&y), &mapped, &context);

            let mut y = fresh();
            slices::map2(isa, &a, &b, &mut y, &Difference);
            assert_bits_eq(&wide(&y), &both, &context);

            let mut y = fresh();
            let lanes = slices::map_sum(isa, &a, &mut y, isa.splat_lanes64(0.0), &Line);
            assert_bits_eq(&wide(&y), &mapped, &context);
            let unrounded: Vec<f32> = a.iter().map(|x| line(x.to_f32())).collect();
            assert_bits_eq(&[reduce64(isa, lanes)], &[sum_by_rule(&unrounded)], &context);

            let exact: Vec<f32> = a.iter().map(|x| x.to_f32()).collect();
            assert_bits_eq(&[slices::sum(isa, &a)], &[sum_by_rule(&exact)], &context);
        }
    }
}

/// In place, for one type.
struct InPlace<T>(PhantomData<T>);

impl<T: Element> Kernel for InPlace<T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        for n in 0..=2 * SUM_LANES + 1 {
            let context = format!("{}, {n} values in place at {}", T::NAME, I::LEVEL);
            let narrow = |x: Vec<f32>| x.into_iter().map(T::from_f32).collect::<Vec<T>>();
            let wide = |y: &[T]| y.iter().map(|y| y.to_f32()).collect::<Vec<f32>>();
            let (x, b) = (narrow(Fill::Normal.vec(3, n)), narrow(Fill::Normal.vec(4, n)));
            let (mut y, mut z) = (x.clone(), vec![T::default(); n]);

            slices::map_in_place(isa, &mut y, &Line);
            slices::map(isa, &x, &mut z, &Line);
            assert_bits_eq(&wide(&y), &wide(&z), &context);

            y.copy_from_slice(&x);
            slices::map2_in_place(isa, &mut y, &b, &Difference);
            slices::map2(isa, &x, &b, &mut z, &Difference);
            assert_bits_eq(&wide(&y), &wide(&z), &context);

            y.copy_from_slice(&x);
            let p = y.as_mut_ptr();
            // SAFETY: there are n values.
            let here = unsafe { slices::map_sum_raw(isa, n, p, p, isa.splat_lanes64(0.0), &Line, []) };
            let there = slices::map_sum(isa, &x, &mut z, isa.splat_lanes64(0.0), &Line);
            assert_bits_eq(&wide(&y), &wide(&z), &context);
            assert_bits_eq(&[reduce64(isa, here)], &[reduce64(isa, there)], &context);
        }
    }
}

/// A fold without a neutral element: the largest of negative numbers, lane by lane.
struct Largest;

impl Kernel for Largest {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        for n in 0..=2 * SUM_LANES + 1 {
            let x: Vec<f32> = Fill::Normal.vec(5, n).into_iter().map(|x: f32| -x * x - 1.0).collect();
            let lanes = slices::fold(isa, &x, f32::NEG_INFINITY, |acc, x| isa.max(acc, x));
            let got = lanes.as_ref().iter().map(|&v| isa.reduce_max(v)).fold(f32::NEG_INFINITY, f32::max);
            let want = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert!(compare::equal(got, want), "{n} values at {}: {got}, want {want}", I::LEVEL);
        }
    }
}

#[test]
fn maps_and_sums_equal_plain_loops() {
    sweep::levels(|level| {
        let simd = Simd::choose(Some(level)).expect("an available level");
        simd.run(Check::<f32, f32>(PhantomData));
        simd.run(Check::<f32, f16>(PhantomData));
        simd.run(Check::<f16, f32>(PhantomData));
        simd.run(Check::<bf16, bf16>(PhantomData));
        simd.run(InPlace::<f32>(PhantomData));
        simd.run(InPlace::<f16>(PhantomData));
        simd.run(InPlace::<bf16>(PhantomData));
        simd.run(Largest);
    });
}
