//! In steady state nothing is allocated, on one thread or on two.

use gristmill_core::{BatchMut, BatchRef, MatMut, MatRef, Threads, Workspace};
use gristmill_gemm::{GemmOptions, ListOptions, PackedRhs, Problem, Rhs, gemm, gemm_batch, gemm_list};
use gristmill_testkit::allocations::{Counting, watch, watched};
use gristmill_testkit::sweep;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The allocations of a first call and of some later ones, by all threads that take part.
fn counts(mut call: impl FnMut()) -> [usize; 2] {
    let mut count = |calls: usize| {
        let before = watched();
        (0..calls).for_each(|_| call());
        watched() - before
    };
    [count(1), count(4)]
}

#[test]
fn later_calls_allocate_nothing() {
    let two = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    // The pool's own queues grow at first.
    two.install(|| (0..100).for_each(|_| _ = rayon::join(|| (), || ())));
    watch();
    two.broadcast(|_| watch());
    let data = vec![0.5f32; 400 * 1100];
    let mut out = vec![0.0f32; 1100 * 1100];
    // Packed in place, in scratch memory, by columns, by rows, in depth blocks, for several row blocks.
    for [m, n, k] in
        [[1, 1000, 400], [3, 50, 60], [8, 600, 400], [33, 33, 33], [300, 200, 400], [13, 16, 20_000], [1100, 130, 330]]
    {
        let (a, b) = (MatRef::new(&data, m, k).unwrap(), MatRef::new(&data, k, n).unwrap());
        let weight = MatRef::new(&data, n, k).unwrap().transposed();
        let packed = PackedRhs::from_in_out(b).unwrap();
        sweep::levels(|level| {
            for threads in [Threads::Serial, Threads::Pool(&two)] {
                for rhs in [Rhs::Plain(b), Rhs::Plain(weight), Rhs::Packed(&packed)] {
                    let options = GemmOptions { level: Some(level), threads, ..GemmOptions::default() };
                    let mut workspace = Workspace::new();
                    let counts = threads.enter(|| {
                        counts(|| {
                            let c = MatMut::new(&mut out, m, n).unwrap();
                            gemm(a, rhs, c, &options, &mut workspace).unwrap();
                        })
                    });
                    assert_eq!(counts[1], 0, "{m}x{n}x{k}, {level}, {} threads", threads.count());
                }
            }
        });
    }
    for threads in [Threads::Serial, Threads::Pool(&two)] {
        let options = GemmOptions { threads, ..GemmOptions::default() };
        let mut workspace = Workspace::new();
        let batch = |sizes| BatchRef::new(&data, sizes).unwrap();
        let batched = threads.enter(|| {
            counts(|| {
                let c = BatchMut::new(&mut out, [30, 64, 64]).unwrap();
                gemm_batch(batch([30, 64, 90]), batch([30, 90, 64]), c, &options, &mut workspace).unwrap();
            })
        });
        assert!(batched[0] > 0, "the first call allocates its scratch memory");
        assert_eq!(batched[1], 0, "a batch");
        let (a, b) = (MatRef::new(&data, 200, 300).unwrap(), MatRef::new(&data, 300, 100).unwrap());
        let (first, second) = out.split_at_mut(200 * 100);
        let mut list =
            [first, second].map(|c| Problem::new(a, b, MatMut::new(c, 200, 100).unwrap(), &options).unwrap());
        let mut workspace = Workspace::new();
        let listed = threads
            .enter(|| counts(|| gemm_list(&mut list, &ListOptions { threads, level: None }, &mut workspace).unwrap()));
        assert_eq!(listed[1], 0, "a list");
    }
}
