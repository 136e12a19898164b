//! A case of the referee as a criterion bench: the same id, data and call, on one thread and on one per core. And calls
//! that the referee has no case for.

use criterion::{Criterion, SamplingMode, Throughput};
use gristmill_bench::{
    buffer::Output,
    cases::Case,
    contest::{self, Contender, Contest},
    cost::Cost,
    machine,
};
use rayon::ThreadPool;
use std::{
    cell::OnceCell,
    hint::black_box,
    time::{Duration, Instant},
};

/// A call that the referee has no case for: its id without the thread count, what it computes or moves, and what makes
/// it with its operands.
pub(crate) type Extra = (&'static str, Throughput, fn() -> Box<dyn FnMut() + Send>);

/// Runs the benches of the ids, which lack their thread count, and of the extras, as criterion's arguments on the
/// command line say.
pub(crate) fn run(ids: &[&str], extras: &[Extra]) {
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    let mut counts = vec![1, machine::threads()];
    counts.dedup();
    for threads in counts {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool of threads");
        for id in ids {
            let case: Case = format!("{id}/t{threads}").parse().expect("a case's id without its threads");
            bench(&mut criterion, &case, &pool);
        }
        for extra in extras {
            bench_extra(&mut criterion, extra, &pool);
        }
    }
    criterion.final_summary();
}

fn bench(criterion: &mut Criterion, case: &Case, pool: &ThreadPool) {
    let id = case.to_string();
    let (kernel, rest) = id.split_once('/').expect("an id has parts");
    let Cost { flops, bytes } = case.work.operations().into_iter().sum();
    let mut group = criterion.benchmark_group(kernel);
    group.throughput(Throughput::ElementsAndBytes { elements: flops, bytes });
    // Long calls are few, not more from sample to sample, and get the time that they need on a slow machine.
    if flops >= 1 << 30 || bytes >= 1 << 26 {
        let seconds = (flops as f64 / 5e9).max(bytes as f64 / 1.2e9).max(1.0);
        let time = Duration::from_secs_f64(seconds);
        group.sampling_mode(SamplingMode::Flat).sample_size(10).measurement_time(time);
    }

    // Made when criterion, having looked at its filter, runs the bench for the first time; then kept.
    let contest: OnceCell<Box<dyn Contest>> = OnceCell::new();
    let mut ready: Option<(Contender, Output)> = None;
    group.bench_function(rest, |bencher| {
        let contest = contest.get_or_init(|| contest::prepare(case).expect("a kernel for the case"));
        let (ours, output) = ready.get_or_insert_with(|| (contest.ours(), contest.output()));
        // One entry into the pool for many calls, as in an engine.
        bencher.iter_custom(|calls| pool.install(|| time(calls, || ours.call(black_box(output)))));
    });
}

fn bench_extra(criterion: &mut Criterion, (id, throughput, make): &Extra, pool: &ThreadPool) {
    let (kernel, rest) = id.split_once('/').expect("an id has parts");
    let mut group = criterion.benchmark_group(kernel);
    group.throughput(throughput.clone());
    let mut ready = None;
    group.bench_function(format!("{rest}/t{}", pool.current_num_threads()), |bencher| {
        let call = ready.get_or_insert_with(make);
        bencher.iter_custom(|calls| pool.install(|| time(calls, &mut *call)));
    });
}

fn time(calls: u64, mut call: impl FnMut()) -> Duration {
    let start = Instant::now();
    (0..calls).for_each(|_| call());
    start.elapsed()
}
