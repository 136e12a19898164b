//! Without memory calls say so, touch no output, and work as if nothing had been once there is some.

use gristmill_core::{BatchMut, BatchRef, Error, MatMut, MatRef, Threads, Workspace};
use gristmill_gemm::{
    GemmOptions, ListOptions, PackedRhs, PackedRhsBuilder, Problem, Rhs, gemm, gemm_batch, gemm_list,
};
use gristmill_simd::{Element, bf16, f16};
use gristmill_testkit::shortage::{Scarce, Shortage, every, every_output, levels_and_threads};
use gristmill_testkit::{Fill, assert_bits_eq};

#[global_allocator]
static ALLOCATOR: Scarce = Scarce;

fn products<A: Element, B: Element, C: Element>() {
    // In place, by rows, in depth blocks, for several row blocks.
    let mut allocations = 0;
    for [m, n, k] in [[1, 100, 40], [8, 60, 400], [33, 33, 33], [13, 16, 5000], [400, 130, 33]] {
        let (a, b, c) =
            (Fill::Normal.vec::<A>(1, m * k), Fill::Normal.vec::<B>(2, k * n), Fill::Normal.vec::<C>(3, m * n));
        let bias = Fill::Normal.vec::<f32>(4, n);
        let (a, weight) = (MatRef::new(&a, m, k).unwrap(), MatRef::new(&b, n, k).unwrap().transposed());
        let packed = PackedRhs::from_in_out(weight).unwrap();
        levels_and_threads(|level, threads| {
            let rhs = [Rhs::Plain(MatRef::new(&b, k, n).unwrap()), Rhs::Plain(weight), Rhs::Packed(&packed)];
            for (rhs, name) in rhs.into_iter().zip(["plain", "transposed", "packed"]) {
                // The sum of what is there and of the product: what was lost would be seen.
                let options =
                    GemmOptions { beta: 0.5, bias: Some(&bias), threads, level: Some(level), ..GemmOptions::default() };
                let context = format!("{m}x{n}x{k} of {}, {name}, at {level} on {} threads", B::NAME, threads.count());
                allocations +=
                    every_output(&c, &context, |c, workspace| gemm(a, rhs, MatMut::new(c, m, n)?, &options, workspace));
            }
        });
    }
    assert!(allocations > 0, "some of these need scratch memory");
}

#[test]
fn a_product_without_memory_touches_nothing() {
    products::<f32, f32, f32>();
    products::<f16, f16, f16>();
    products::<bf16, bf16, bf16>();
    products::<f32, bf16, f32>();
}

#[test]
fn many_products_without_memory_touch_nothing() {
    let [data, c] = [5, 6].map(|seed| Fill::Normal.vec::<f32>(seed, 200 * 300));
    levels_and_threads(|level, threads| {
        let options = GemmOptions { beta: 1.0, threads, level: Some(level), ..GemmOptions::default() };
        let context = format!("{level}, {} threads", threads.count());
        let batch = |sizes| BatchRef::new(&data, sizes).unwrap();
        let allocations = every_output(&c[..3 * 64 * 64], &context, |c, workspace| {
            let c = BatchMut::new(c, [3, 64, 64])?;
            gemm_batch(batch([3, 64, 90]), batch([3, 90, 64]), c, &options, workspace)
        });
        assert!(allocations > 0, "a batch needs scratch memory");
        let (a, b) = (MatRef::new(&data, 200, 300).unwrap(), MatRef::new(&data, 300, 100).unwrap());
        let allocations = every_output(&c[..2 * 200 * 100], &context, |c, workspace| {
            let (first, second) = c.split_at_mut(200 * 100);
            let problem = |c| Problem::new(a, b, MatMut::new(c, 200, 100)?, &options);
            let mut list = [problem(first)?, problem(second)?];
            gemm_list(&mut list, &ListOptions { threads, level: Some(level) }, workspace)
        });
        assert!(allocations > 0, "a list needs scratch memory");
    });
}

#[test]
fn a_list_that_had_no_memory_is_as_good_as_new() {
    let data = Fill::Normal.vec::<f32>(7, 200 * 300);
    let (a, b) = (MatRef::new(&data, 200, 300).unwrap(), MatRef::new(&data, 300, 100).unwrap());
    let options = GemmOptions { beta: 1.0, ..GemmOptions::default() };
    let [expected, found] = [false, true].map(|short| {
        let (mut out, mut workspace) = (vec![1.0; 2 * 200 * 100], Workspace::new());
        let (first, second) = out.split_at_mut(200 * 100);
        let mut list =
            [first, second].map(|c| Problem::new(a, b, MatMut::new(c, 200, 100).unwrap(), &options).unwrap());
        let on = ListOptions { threads: Threads::Serial, ..ListOptions::default() };
        let mut compute = || gemm_list(&mut list, &on, &mut workspace);
        if short {
            let shortage = Shortage { after: 0, lasting: true, least: 1 };
            assert!(matches!(shortage.during(&mut compute), (Err(Error::OutOfMemory { .. }), true)));
        }
        compute().unwrap();
        out
    });
    assert_bits_eq(&found, &expected, "a list");
}

fn packing<T: Element, B: Element>() {
    let (weight, x) = (Fill::Normal.vec::<T>(8, 53 * 33), Fill::Normal.vec::<f32>(9, 33));
    let rounded: Vec<B> = weight.iter().map(|w| B::from_f32(w.to_f32())).collect();
    let product = |packed: &PackedRhs<B>| {
        let mut y = vec![0.0; 53];
        let (x, y_view) = (MatRef::new(&x, 1, 33).unwrap(), MatMut::new(&mut y, 1, 53).unwrap());
        gemm(x, packed, y_view, &GemmOptions::default(), &mut Workspace::new()).unwrap();
        y
    };
    let whole = || PackedRhs::from_out_in(MatRef::new(&rounded, 53, 33)?);
    let portions = || {
        let mut builder = PackedRhsBuilder::<B>::new(33, 53)?;
        for first in (0..53).step_by(10) {
            let end = 53.min(first + 10);
            builder.push(MatRef::new(&weight[first * 33..end * 33], end - first, 33)?)?;
        }
        builder.finish()
    };
    let expected = product(&whole().unwrap());
    let check = |(), packed: Result<PackedRhs<B>, Error>| match packed {
        Ok(packed) => assert_bits_eq(&product(&packed), &expected, B::NAME),
        Err(error) => assert_eq!(error, Error::OutOfMemory { bytes: whole().unwrap().bytes() }),
    };
    // All the memory that portions need is there before the first of them is packed.
    assert_eq!(every(1, || (), |()| whole(), check), 1);
    assert_eq!(every(1, || (), |()| portions(), check), 1);
}

#[test]
fn a_weight_that_has_no_memory_is_not_packed() {
    packing::<f32, f32>();
    packing::<f32, f16>();
    packing::<f32, bf16>();
    packing::<bf16, bf16>();
}
