//! Operands that end where an inaccessible page begins, at both ends: one element too far is a fault.

mod common;

use common::mat;
use gristmill_core::{Activation, MatMut, Threads, Workspace};
use gristmill_gemm::{GemmOptions, PackedRhs, Rhs, gemm};
use gristmill_testkit::{fill, guard::Guarded, sweep};

fn guarded(at_end: bool, values: &[f32]) -> Guarded<f32> {
    if at_end { Guarded::flush_end(values) } else { Guarded::flush_start(values) }
}

#[test]
fn nothing_outside_the_operands_is_touched() {
    for (m, n, k) in [(1, 1, 1), (1, 17, 3), (3, 31, 16), (13, 49, 17), (12, 32, 8), (26, 65, 33), (2, 130, 5)] {
        for at_end in [true, false] {
            let a = guarded(at_end, &fill::normal(1, m * k));
            let b = guarded(at_end, &fill::normal(2, k * n));
            let bias = guarded(at_end, &fill::normal(3, n));
            let residual = guarded(at_end, &fill::normal(4, m * n));
            let mut c = guarded(at_end, &fill::normal(5, m * n));
            let packed = PackedRhs::from_in_out(mat(&b, k, n)).unwrap();
            let weight = PackedRhs::from_out_in(mat(&b, n, k)).unwrap();
            sweep::levels(|level| {
                let plain = GemmOptions { level: Some(level), threads: Threads::Serial, ..Default::default() };
                let full = GemmOptions {
                    beta: 0.5,
                    bias: Some(&bias),
                    activation: Activation::Gelu,
                    residual: Some(mat(&residual, m, n)),
                    ..plain
                };
                let (b, w) = (mat(&b, k, n), mat(&b, n, k).transposed());
                for options in [&plain, &full] {
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
    }
}
