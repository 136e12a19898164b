//! Operands that end where an inaccessible page begins, at both ends: one element too far is a fault.

use crate::common::mat;
use gristmill_core::{Activation, MatMut, Threads, Workspace};
use gristmill_gemm::{GemmOptions, PackedRhs, Rhs, gemm};
use gristmill_simd::{Element, bf16, f16};
use gristmill_testkit::{Fill, guard::Guarded, sweep};

fn guarded<T: Element>(at_end: bool, seed: u64, len: usize) -> Guarded<T> {
    let values: Vec<T> = Fill::Normal.vec(seed, len);
    if at_end { Guarded::flush_end(&values) } else { Guarded::flush_start(&values) }
}

fn check<A: Element, B: Element, C: Element>([m, n, k]: [usize; 3], at_end: bool) {
    let a: Guarded<A> = guarded(at_end, 1, m * k);
    let b: Guarded<B> = guarded(at_end, 2, k * n);
    let bias: Guarded<C> = guarded(at_end, 3, n);
    let residual: Guarded<C> = guarded(at_end, 4, m * n);
    let mut c: Guarded<C> = guarded(at_end, 5, m * n);
    let packed = PackedRhs::from_in_out(mat(&b, k, n)).unwrap();
    let weight = PackedRhs::from_out_in(mat(&b, n, k)).unwrap();
    sweep::levels(|level| {
        let plain = GemmOptions { level: Some(level), threads: Threads::Serial, ..GemmOptions::new() };
        let scaled = GemmOptions { alpha: 0.5, ..plain };
        let summed = GemmOptions { beta: 0.5, ..plain };
        let biased = GemmOptions { bias: Some(&bias), ..plain };
        let relu = GemmOptions { activation: Activation::Relu, ..plain };
        let added = GemmOptions { residual: Some(mat(&residual, m, n)), ..plain };
        let all = GemmOptions { alpha: 0.5, beta: 0.5, activation: Activation::Relu, bias: Some(&bias), ..added };
        let long = GemmOptions { activation: Activation::Gelu, ..all };
        let (b, w) = (mat(&b, k, n), mat(&b, n, k).transposed());
        for options in [plain, scaled, summed, biased, relu, added, all, long] {
            let options = &options;
            for rhs in [Rhs::Plain(b), Rhs::Plain(w), Rhs::Packed(&packed), Rhs::Packed(&weight)] {
                let c = MatMut::new(&mut c, m, n).unwrap();
                gemm(mat(&a, m, k), rhs, c, options, &mut Workspace::new()).unwrap();
            }
            let a = mat(&a, k, m).transposed();
            let c = MatMut::new(&mut c, n, m).unwrap().transposed();
            gemm(a, b, c, options, &mut Workspace::new()).unwrap();
        }
    });
}

#[test]
fn nothing_outside_the_operands_is_touched() {
    for shape in [
        [1, 1, 1],
        [1, 17, 3],
        [3, 31, 16],
        [13, 49, 17],
        [12, 32, 8],
        [26, 65, 33],
        [70, 20, 9],
        [2, 130, 5],
        [16, 50, 130],
        // Columns of whole words, some of which are left over, of one panel and of more.
        [3, 16, 22],
        [1, 33, 14],
        [1, 48, 70],
    ] {
        for at_end in [true, false] {
            check::<f32, f32, f32>(shape, at_end);
            check::<f32, f16, f32>(shape, at_end);
            check::<f32, bf16, f32>(shape, at_end);
            check::<f16, f16, f16>(shape, at_end);
            check::<bf16, bf16, bf16>(shape, at_end);
            check::<bf16, f32, f16>(shape, at_end);
        }
    }
}
