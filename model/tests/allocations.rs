//! Decoding steps allocate nothing.

use gristmill_model::{Config, GenerateOptions, Sampling, Session, SessionOptions, Transformer};
use gristmill_testkit::allocations::{Counting, count};
use gristmill_testkit::models::{seeded, small};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn model() -> Transformer {
    seeded(Config { tgt_vocab: 41, eos: None, ..small() })
}

/// The allocator counts for the calling thread.
fn session(model: &Transformer) -> Session<'_> {
    model.session(SessionOptions { threads: gristmill::Threads::Serial, ..Default::default() }).unwrap()
}

const SOURCES: [&[u32]; 3] = [&[4, 8, 15, 16], &[23], &[4, 2, 9]];

fn searches() -> [GenerateOptions<'static>; 5] {
    let plain = GenerateOptions::default();
    let drawn = |top_k, top_p| Some(Sampling { top_k, top_p, ..Default::default() });
    [
        plain,
        GenerateOptions { shortlist: Some(&[1, 5, 9, 30]), ..plain },
        GenerateOptions { sampling: drawn(0, 1.0), ..plain },
        GenerateOptions { sampling: drawn(7, 0.9), ..plain },
        GenerateOptions { beams: 4, n_best: 2, ..plain },
    ]
}

#[test]
fn steps_after_the_first_allocate_nothing() {
    let model = model();
    for options in searches().into_iter().filter(|options| options.beams == 1) {
        // As many steps as a page of the cache has tokens.
        let options = GenerateOptions { max_new_tokens: 64, ..options };
        let mut counts = Vec::with_capacity(3 * 64);
        session(&model).generate_each(&SOURCES, &options, |_| counts.push(count())).unwrap();
        assert_eq!(counts.len(), 3 * 64);
        assert!(counts[3..].iter().all(|&n| n == counts[3]), "{options:?}: {counts:?}");
    }
}

#[test]
fn in_a_session_that_has_grown_no_step_allocates() {
    let model = model();
    for options in searches() {
        let mut session = session(&model);
        let mut allocations = |max_new_tokens| {
            let options = GenerateOptions { max_new_tokens, ..options };
            let before = count();
            session.generate(&SOURCES, &options).unwrap();
            count() - before
        };
        // Beams take turns between two lists: after the second search both have grown.
        let cold = [allocations(200), allocations(200)];
        let [short, long] = [allocations(10), allocations(200)];
        assert_eq!(short, long, "{options:?}");
        assert!(long < cold[0], "{options:?}");
    }
}

#[test]
fn a_decoding_allocates_nothing() {
    let model = model();
    let mut session = session(&model);
    let mut decoding = session.start(&SOURCES).unwrap();
    decoding.step_greedy(&[1, 2, 3]).unwrap();
    let before = count();
    for id in 0..40 {
        decoding.step(&[id, 2, 3]).unwrap();
        decoding.step_greedy(&[id, 2, 3]).unwrap();
        decoding.rewind(decoding.length() - 1);
    }
    assert_eq!(count() - before, 0);
}
