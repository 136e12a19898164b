//! Batches and lists of products: each product has the bits of `naive`, and nothing else is written.

use crate::common::{Product, every_mix};
use gristmill_core::{Activation, BatchMut, BatchRef, Error, MatMut, MatRef, Threads, Workspace};
use gristmill_gemm::{BatchRhs, GemmOptions, ListOptions, PackedRhs, Problem, Rhs, gemm_batch, gemm_list, naive};
use gristmill_simd::{Element, Level, bf16, f16};
use gristmill_testkit::strategy::{fill, input_layout, output_layout, size};
use gristmill_testkit::{Fill, Layout, Strided, assert_bits_eq, naive, sweep};
use proptest::{option, prelude::*, sample::select};

/// More products than can be counted through, none with an element.
#[test]
fn batches_of_nothing() {
    let count = usize::MAX;
    let c = |data| BatchMut::<f32>::new(data, [count, 0, 0]).unwrap();
    let (a, b) = (BatchRef::new(&[0.0; 0], [count, 0, 3]).unwrap(), BatchRef::new(&[0.0; 0], [count, 3, 0]).unwrap());
    gemm_batch(a, b, c(&mut []), &GemmOptions::default(), &mut Workspace::new()).unwrap();
    let none = [bf16::ZERO; 0];
    let (a, b) = (BatchRef::new(&none, [count, 0, 3]).unwrap(), BatchRef::new(&none, [count, 3, 0]).unwrap());
    gemm_batch(a, b, c(&mut []), &GemmOptions::default(), &mut Workspace::new()).unwrap();
}

/// Counts around the number of threads, sizes from nothing to several jobs each; gaps between the matrices of C.
#[test]
fn batches_of_every_kind() {
    for count in [0, 1, 2, 5, 40] {
        for [m, n, k] in [[0, 3, 2], [4, 4, 4], [3, 17, 0], [1, 40, 33], [33, 33, 33], [16, 40, 130], [64, 128, 200]] {
            // Many small ones, and a few that are cut.
            if count * m * n * k > 10_000_000 {
                continue;
            }
            for (a_broadcast, b_broadcast, b_turned) in
                [(false, false, true), (true, false, false), (false, true, true)]
            {
                let a: Vec<f32> = Fill::Normal.vec(1, count.max(1) * m * k);
                let b: Vec<f32> = Fill::Normal.vec(2, count.max(1) * k * n);
                let bias: Vec<f32> = Fill::Normal.vec(3, n);
                let gap = 3;
                let c: Vec<f32> = Fill::Normal.vec(4, count * (m * n + gap));
                let stride = |len: usize, broadcast| if broadcast { 0 } else { len as isize };
                let a_strides = [stride(m * k, a_broadcast), k as isize, 1];
                let [row, col] = if b_turned { [1, k as isize] } else { [n as isize, 1] };
                let a = BatchRef::strided(&a, 0, [count, m, k], a_strides).unwrap();
                let b = BatchRef::strided(&b, 0, [count, k, n], [stride(k * n, b_broadcast), row, col]).unwrap();
                let c_strides = [(m * n + gap) as isize, n as isize, 1];
                let plain = GemmOptions::default();
                let full = GemmOptions { beta: 0.5, bias: Some(&bias), activation: Activation::Relu, ..plain };
                for options in [plain, full] {
                    let naive_bits = |level: Level| {
                        let mut want = c.clone();
                        let view = BatchMut::strided(&mut want, 0, [count, m, n], c_strides).unwrap();
                        naive!(level, naive::gemm_batch(a, b, view, &options)).unwrap();
                        want
                    };
                    sweep::levels_and_threads(|level, threads| {
                        let want = naive_bits(level);
                        let options = GemmOptions { level: Some(level), threads, ..options };
                        let run = |rhs: BatchRhs<'_>, name: &str| {
                            let mut got = c.clone();
                            let view = BatchMut::strided(&mut got, 0, [count, m, n], c_strides).unwrap();
                            let mut workspace = Workspace::new();
                            gemm_batch(a, rhs, view, &options, &mut workspace).unwrap();
                            assert_bits_eq(&got, &want, format_args!("{count} of {m}x{n}x{k}, {level}, {name}"));
                        };
                        run(BatchRhs::Plain(b), "plain");
                        if let (true, Some(b)) = (b_broadcast, b.get(0)) {
                            run(BatchRhs::Packed(&PackedRhs::from_in_out(b).unwrap()), "packed");
                        }
                    });
                }
            }
        }
    }
}

/// The operands of a batch without their types; of `[count, m, n, k]`.
#[derive(Clone, Debug)]
struct Recipes {
    sizes: [usize; 4],
    layouts: [Layout<3>; 3],
    fill: Fill,
    factors: [f32; 2],
    residual: Option<Layout<2>>,
}

/// The batch against `naive`. With `subnormal`, row 0 of the second A has nothing but a subnormal, which the dot product
/// of bf16 pairs reads as zero and a multiply-add would not; the other products allow either. No step of an epilogue
/// hides the difference then.
fn check_batch<A: Element, B: Element, C: Element>(recipes: &Recipes, subnormal: bool) {
    let Recipes { sizes: [count, m, n, k], layouts: [a, b, c], fill, factors: [alpha, beta], residual } =
        recipes.clone();
    let mut a = Strided::<A, 3>::filled([count, m, k], &a, fill, 1);
    let b = Strided::<B, 3>::filled([count, k, n], &b, fill, 2);
    let c = Strided::<C, 3>::filled([count, m, n], &c, fill, 3);
    if subnormal {
        let row: Vec<usize> = a.addresses().skip(m * k).take(k).collect();
        row.iter().for_each(|&at| a.data[at] = A::default());
        a.data[row[k / 2]] = A::from_bits(1);
    }
    let residual = residual.map(|layout| Strided::<C, 2>::filled([m, n], &layout, fill, 4));
    let bias: Vec<C> = fill.vec(5, n);
    let mut options = GemmOptions::new();
    if !subnormal {
        (options.alpha, options.beta, options.bias) = (alpha, beta, Some(&bias[..]));
        options.residual = residual.as_ref().map(Strided::mat);
    }
    fn batch<T: Element>(x: &Strided<T, 3>) -> BatchRef<'_, T> {
        BatchRef::strided(&x.data, x.offset, x.sizes, x.strides).unwrap()
    }
    fn batch_mut<T: Element>(x: &mut Strided<T, 3>) -> BatchMut<'_, T> {
        BatchMut::strided(&mut x.data, x.offset, x.sizes, x.strides).unwrap()
    }
    let packed = batch(&b).get(0).map(|b| PackedRhs::from_in_out(b).unwrap());
    sweep::levels_and_threads(|level, threads| {
        let options = GemmOptions { level: Some(level), threads, ..options };
        let check = |rhs: BatchRhs<'_, B>, b: BatchRef<'_, B>, name: &str| {
            let (mut got, mut want) = (c.clone(), c.clone());
            naive!(level, naive::gemm_batch(batch(&a), b, batch_mut(&mut want), &options)).unwrap();
            gemm_batch(batch(&a), rhs, batch_mut(&mut got), &options, &mut Workspace::new()).unwrap();
            let context = format!("{} {} {} {level} {threads:?} {name}", A::NAME, B::NAME, C::NAME);
            assert_bits_eq(&got.values(), &want.values(), &context);
            got.assert_gaps(&context);
        };
        check(BatchRhs::Plain(batch(&b)), batch(&b), "plain");
        if let (Some(packed), Some(b)) = (&packed, batch(&b).get(0)) {
            check(BatchRhs::Packed(packed), BatchRef::broadcast(b, count), "packed");
        }
    });
}

fn recipes() -> impl Strategy<Value = Recipes> {
    let sizes = [(0..5usize).boxed(), size(30).boxed(), size(40).boxed(), size(30).boxed()];
    let layouts = (input_layout(), input_layout(), output_layout());
    let factor = || select(vec![1.0f32, 0.0, -1.5]);
    (sizes, layouts, fill(), [factor(), factor()], option::of(input_layout())).prop_map(
        |(sizes, (a, b, c), fill, factors, residual)| Recipes { sizes, layouts: [a, b, c], fill, factors, residual },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn batches_of_every_mix_equal_naive(recipes in recipes()) {
        every_mix!(check_batch(&recipes, false));
    }
}

/// Enough work that three threads share it.
#[test]
fn batches_of_every_mix_that_threads_share() {
    let layout = |order| Layout { order, padding: [3, 1, 0], ..Layout::default() };
    let [rows, columns] = [[0, 1, 2], [0, 2, 1]].map(layout);
    let backwards = Layout { reversed: [true, true, false], ..rows.clone() };
    for (layouts, subnormal) in
        [([backwards, columns.clone(), rows.clone()], false), ([rows.clone(), rows, columns], true)]
    {
        let (sizes, residual) = ([4, 20, 70, 150], Some(Layout { order: [1, 0], ..Layout::default() }));
        let recipes = Recipes { sizes, layouts, fill: Fill::Normal, factors: [0.5, -1.0], residual };
        every_mix!(check_batch(&recipes, subnormal));
    }
}

/// One chain is chosen for all products of bf16 pairs in a list, packed or plain, and for no others.
#[test]
fn lists_of_bf16_pairs() {
    fn product<A: Element, B: Element, C: Element>([m, n, k]: [usize; 3], seed: u64) -> Product<A, B, C> {
        let filled = Product::plain(
            Strided::filled([m, k], &Layout::default(), Fill::Normal, seed),
            Strided::filled([k, n], &Layout { order: [1, 0], ..Layout::default() }, Fill::Normal, seed + 1),
            Strided::filled([m, n], &Layout { padding: [3, 0], ..Layout::default() }, Fill::Normal, seed + 2),
        );
        let residual = Some(Strided::filled([m, n], &Layout::default(), Fill::Normal, seed + 3));
        Product { alpha: 0.5, bias: Some(Fill::Normal.vec(seed + 4, n)), residual, ..filled }
    }
    for subnormal in [false, true] {
        let mut first = product::<bf16, bf16, f32>([9, 40, 33], 1);
        if subnormal {
            first.a.data[..33].fill(bf16::ZERO);
            first.a.data[16] = bf16::from_bits(1);
            // Nothing that hides it.
            (first.alpha, first.bias, first.residual) = (1.0, None, None);
        }
        let second = product::<bf16, bf16, bf16>([100, 70, 150], 6);
        let third = product::<f32, bf16, f32>([13, 33, 90], 11);
        let packed = [&first.b, &second.b, &third.b].map(|b| PackedRhs::from_in_out(b.mat()).unwrap());
        sweep::levels_and_threads(|level, threads| {
            let wants = (first.naive(level), second.naive(level), third.naive(level));
            for is_packed in [false, true] {
                let (mut one, mut two, mut three) = (first.c.clone(), second.c.clone(), third.c.clone());
                let plain = [&first.b, &second.b, &third.b].map(|b| Rhs::Plain(b.mat()));
                let [b1, b2, b3] = if is_packed { packed.each_ref().map(Rhs::Packed) } else { plain };
                let mut list = [
                    Problem::new(first.a.mat(), b1, one.mat_mut(), &first.options()).unwrap(),
                    Problem::new(second.a.mat(), b2, two.mat_mut(), &second.options()).unwrap(),
                    Problem::new(third.a.mat(), b3, three.mat_mut(), &third.options()).unwrap(),
                ];
                let options = ListOptions { threads, level: Some(level) };
                gemm_list(&mut list, &options, &mut Workspace::new()).unwrap();
                let context = format!("{level} {threads:?}, subnormal {subnormal}, packed {is_packed}");
                assert_bits_eq(&one.data, &wants.0.data, &context);
                assert_bits_eq(&two.data, &wants.1.data, &context);
                assert_bits_eq(&three.data, &wants.2.data, &context);
            }
        });
    }
}

/// Products of all sizes and types in one list, empty ones among them.
#[test]
fn lists_of_unlike_products() {
    let sizes = [[5, 7, 3], [0, 4, 4], [200, 96, 150], [1, 500, 300], [9, 0, 2], [3, 3, 0], [70, 70, 70], [0, 0, 0]];
    let a: Vec<f32> = Fill::Normal.vec(1, 200 * 300);
    let b: Vec<f32> = Fill::Normal.vec(2, 500 * 300);
    let (a16, b16): (Vec<f16>, Vec<bf16>) = (Fill::Normal.vec(3, 64), Fill::Normal.vec(4, 64));
    let mat = |data, rows, cols| MatRef::<f32>::new(data, rows, cols).unwrap();
    let start: Vec<f32> = Fill::Normal.vec(5, 20_000);
    let options = GemmOptions { beta: -1.0, ..GemmOptions::default() };
    sweep::levels_and_threads(|level, threads| {
        let mut want: Vec<Vec<f32>> = sizes.iter().map(|[m, n, _]| start[..m * n].to_vec()).collect();
        let mut want16 = vec![0.0f32; 64];
        for (c, &[m, n, k]) in want.iter_mut().zip(&sizes) {
            let c = MatMut::new(c, m, n).unwrap();
            naive!(level, naive::gemm(mat(&a, m, k), mat(&b, k, n), c, &options)).unwrap();
        }
        let (a16, b16) = (MatRef::new(&a16, 8, 8).unwrap(), MatRef::new(&b16, 8, 8).unwrap());
        let c16 = MatMut::new(&mut want16, 8, 8).unwrap();
        naive!(level, naive::gemm(a16, b16, c16, &GemmOptions::<f32>::default())).unwrap();

        let mut got: Vec<Vec<f32>> = sizes.iter().map(|[m, n, _]| start[..m * n].to_vec()).collect();
        let mut got16 = vec![0.0f32; 64];
        let mut list: Vec<Problem<'_>> = Vec::new();
        for (c, &[m, n, k]) in got.iter_mut().zip(&sizes) {
            list.push(Problem::new(mat(&a, m, k), mat(&b, k, n), MatMut::new(c, m, n).unwrap(), &options).unwrap());
        }
        let c16 = MatMut::new(&mut got16, 8, 8).unwrap();
        list.push(Problem::new(a16, b16, c16, &GemmOptions::default()).unwrap());
        let where_to = ListOptions { threads, level: Some(level) };
        gemm_list(&mut list, &where_to, &mut Workspace::new()).unwrap();
        drop(list);
        for ((got, want), size) in got.iter().zip(&want).zip(&sizes) {
            assert_bits_eq(got, want, format_args!("{size:?}, {level}, {} threads", threads.count()));
        }
        assert_bits_eq(&got16, &want16, "f16 by bf16");
    });
}

#[test]
fn an_empty_list_is_nothing() {
    assert_eq!(gemm_list(&mut [], &ListOptions::default(), &mut Workspace::new()), Ok(()));
}

#[test]
fn mistakes_are_named() {
    let (data, mut out) = ([1.0f32; 24], [7.0f32; 24]);
    let batch = |sizes| BatchRef::new(&data, sizes).unwrap();
    let options = GemmOptions { threads: Threads::Serial, ..GemmOptions::default() };
    let mut call = |a, b, c| {
        let c = BatchMut::new(&mut out, c).unwrap();
        gemm_batch(batch(a), batch(b), c, &options, &mut Workspace::new())
    };
    let mismatch = |what, expected, found| Err(Error::ShapeMismatch { what, expected, found });
    let counts = call([2, 2, 3], [3, 3, 2], [3, 2, 2]);
    assert_eq!(counts, mismatch("matrices of a against matrices of c", 3, 2));
    assert_eq!(call([2, 2, 3], [1, 3, 2], [2, 2, 2]), mismatch("matrices of b against matrices of c", 2, 1));
    assert_eq!(call([2, 2, 3], [2, 2, 2], [2, 2, 2]), mismatch("rows of b against columns of a", 3, 2));
    let mut c = [0.0f32; 4];
    let (a, c) = (MatRef::new(&data, 2, 3).unwrap(), MatMut::new(&mut c, 2, 2).unwrap());
    let problem = Problem::new(a, MatRef::new(&data, 3, 3).unwrap(), c, &options).map(|_| ());
    assert_eq!(problem, mismatch("columns of c against columns of b", 3, 2));
    assert_eq!(out, [7.0; 24]);
}
