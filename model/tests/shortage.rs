//! Without memory calls say so, a decoding stays sound, and all is as if nothing had been once there is some.

use gristmill_model::{
    Decoding, Error, GenerateOptions, Precision, Sampling, Session, SessionOptions, Token, Transformer,
};
use gristmill_testkit::compare::bits;
use gristmill_testkit::models::{for_every_variant, seeded, small};
use gristmill_testkit::shortage::{Scarce, every};
use std::ops::Range;

#[global_allocator]
static ALLOCATOR: Scarce = Scarce;

type Sentences = &'static [&'static [u32]];

const SOURCES: Sentences = &[&[4, 8, 15, 16], &[23], &[4, 2, 9], &[], &[7, 7, 1]];
const TARGETS: Sentences = &[&[2, 5], &[2, 30, 31, 32], &[], &[2], &[2, 6]];
const OTHERS: Sentences = &[&[1; 6], &[2; 6], &[9; 17]];

/// The allocator refuses memory to the calling thread.
fn session(model: &Transformer) -> Session<'_> {
    model.session(SessionOptions { threads: gristmill::Threads::Serial, ..Default::default() }).unwrap()
}

#[track_caller]
fn assert_shortage(error: &Error, context: &str) {
    let is_shortage = matches!(error, Error::Kernel(gristmill::Error::OutOfMemory { bytes }) if *bytes > 0);
    assert!(is_shortage, "{context}: {error}");
}

/// Makes a call with every shortage, and again after each. `see` makes it and gives its result.
fn check(
    model: &Transformer,
    context: &str,
    call: impl Fn(&mut Session) -> Result<(), Error>,
    see: impl Fn(&mut Session) -> Vec<u32>,
) {
    let expected = see(&mut session(model));
    let allocations = every(
        1,
        || session(model),
        |session| call(session),
        |mut session, result| {
            if let Err(error) = result {
                assert_shortage(&error, context);
            }
            assert!(see(&mut session) == expected, "{context}");
        },
    );
    assert!(allocations > 5, "{context}: only {allocations} allocations");
}

#[test]
fn a_pass_without_memory_can_be_repeated() {
    for_every_variant(|name, model| {
        let encode = |session: &mut Session| session.encode(SOURCES).map(drop);
        check(model, name, encode, |session| bits(session.encode(SOURCES).unwrap().values()));
        let decode = |session: &mut Session| session.decode(SOURCES, TARGETS).map(drop);
        check(model, name, decode, |session| bits(session.decode(SOURCES, TARGETS).unwrap().values()));
        let forward = |session: &mut Session| session.forward(SOURCES, TARGETS).map(drop);
        check(model, name, forward, |session| bits(session.forward(SOURCES, TARGETS).unwrap().values()));
        let score = |session: &mut Session| session.score(SOURCES, TARGETS).map(drop);
        check(model, name, score, |session| bits(&session.score(SOURCES, TARGETS).unwrap().concat()));
    });
}

/// What is done to a decoding.
#[derive(Clone, Copy, Debug)]
enum Action {
    Start(Sentences),
    Step,
    Greedy,
    /// So many steps, which nothing disturbs.
    Walk(usize),
    SwapRemove(usize),
    Reorder(usize, &'static [usize]),
    Rewind(usize),
    /// Something else in the middle, of more rows than steps have.
    Forward,
}

/// Ids that steps give to targets.
const IDS: [u32; 48] = {
    let mut ids = [0; 48];
    let mut i = 0;
    while i < 48 {
        ids[i] = (i * i + 3) as u32 % 36;
        i += 1;
    }
    ids
};

fn ids(decoding: &Decoding, width: usize) -> &'static [u32] {
    &IDS[decoding.length() % 16..][..decoding.sentences() * width]
}

/// Beams that share pages, sentences that leave, and another decoding in the place of this one.
const SEARCH: [Action; 17] = {
    use Action::{Forward, Greedy, Reorder, Rewind, Start, Step, SwapRemove};
    [
        Start(SOURCES),
        Step,
        Greedy,
        SwapRemove(1),
        Step,
        Reorder(3, &[0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]),
        Step,
        Reorder(3, &[2, 1, 1, 3, 3, 3, 6, 7, 8, 11, 9, 9]),
        Forward,
        Greedy,
        SwapRemove(0),
        Rewind(2),
        Greedy,
        Reorder(1, &[1, 4, 7]),
        Step,
        Start(OTHERS),
        Greedy,
    ]
};

/// More tokens than a page of the caches has.
const PAGES: [Action; 7] = {
    use Action::{Greedy, Reorder, Start, Step, SwapRemove, Walk};
    [Start(SOURCES), Walk(63), Step, Greedy, Reorder(2, &[0, 0, 1, 1, 2, 2, 3, 3, 4, 4]), SwapRemove(4), Step]
};

/// How many targets each sentence has after some actions.
fn width(actions: &[Action]) -> usize {
    let widths = actions.iter().rev().find_map(|action| match action {
        Action::Start(_) => Some(1),
        Action::Reorder(width, _) => Some(*width),
        _ => None,
    });
    widths.unwrap_or(1)
}

impl Action {
    /// Allocates nothing by itself. `see` gets logits and ids.
    fn take(self, session: &mut Session, width: usize, see: &mut dyn FnMut(&[f32], &[u32])) -> Result<(), Error> {
        let mut decoding = session.resume();
        let next = ids(&decoding, width);
        match self {
            Action::Start(sources) => session.start(sources).map(drop),
            Action::Step => {
                decoding.step(next).map(|logits| (0..logits.rows()).for_each(|row| see(logits.row(row).unwrap(), &[])))
            }
            Action::Greedy => decoding.step_greedy(next).map(|ids| see(&[], ids)),
            Action::Walk(steps) => (0..steps).try_for_each(|_| Action::Step.take(session, width, see)),
            Action::SwapRemove(sentence) => decoding.swap_remove(sentence),
            Action::Reorder(width, parents) => decoding.reorder(width, parents),
            Action::Forward => session.forward(&OTHERS[1..], &OTHERS[1..]).map(|rows| see(rows.values(), &[])),
            Action::Rewind(length) => {
                decoding.rewind(length);
                Ok(())
            }
        }
    }
}

/// Takes some actions of a script; what each of them shows.
fn follow(session: &mut Session, script: &[Action], range: Range<usize>) -> Vec<Vec<u32>> {
    let take = |at: usize| {
        let mut seen = Vec::new();
        let mut see = |logits: &[f32], ids: &[u32]| {
            seen.extend(bits(logits));
            seen.extend(ids);
        };
        script[at].take(session, width(&script[..at]), &mut see).unwrap();
        seen
    };
    range.map(take).collect()
}

#[test]
fn a_decoding_without_memory_stays_sound() {
    for_every_variant(|name, model| {
        check_script(model, name, &SEARCH);
    });
    for precision in Precision::ALL {
        let model = Transformer::seeded(small(), 7, precision).unwrap();
        check_script(&model, &format!("pages, {precision}"), &PAGES);
    }
}

/// Takes each action of a script with every shortage, and then the rest.
fn check_script(model: &Transformer, name: &str, script: &[Action]) {
    let expected = follow(&mut session(model), script, 0..script.len());
    let mut allocations = 0;
    for (at, &action) in script.iter().enumerate() {
        if let Action::Walk(_) | Action::Rewind(_) = action {
            continue;
        }
        let width = width(&script[..at]);
        let prepared = || {
            let mut session = session(model);
            follow(&mut session, script, 0..at);
            session
        };
        let before = place(&mut prepared());
        let own = every(
            1,
            prepared,
            |session| action.take(session, width, &mut |_, _| ()),
            |mut session, result| {
                let context = format!("{name}, action {at}, {action:?}");
                let from = match result {
                    Ok(()) => at + 1,
                    Err(error) => {
                        assert_shortage(&error, &context);
                        resumed(script, at, before, &mut session, &context)
                    }
                };
                assert!(follow(&mut session, script, from..script.len()) == expected[from..], "{context}");
            },
        );
        let grows = matches!(action, Action::Start(_) | Action::Forward);
        assert!(own > 0 || !grows, "{name}: {action:?} finds all buffers large enough");
        allocations += own;
    }
    assert!(allocations > 60, "{name}: only {allocations} allocations");
}

/// Sentences in progress, and their tokens.
fn place(session: &mut Session) -> (usize, usize) {
    let decoding = session.resume();
    (decoding.sentences(), decoding.length())
}

/// The action of a script to go on from when one has failed.
fn resumed(script: &[Action], at: usize, before: (usize, usize), session: &mut Session, context: &str) -> usize {
    let now = place(session);
    if let Action::Step | Action::Greedy | Action::Forward = script[at] {
        assert_eq!(now, before, "{context}: what failed was counted");
        return at;
    }
    if now.0 > 0 {
        assert!(matches!(script[at], Action::Start(_)), "{context}: half of it was done");
        assert_eq!(now, before, "{context}");
        return at;
    }
    assert_eq!(session.resume().step(&[]).unwrap().rows(), 0, "{context}: nothing is in progress");
    // From where everything begins.
    script[..=at].iter().rposition(|action| matches!(action, Action::Start(_))).expect("a script begins")
}

fn searches() -> [(&'static str, GenerateOptions<'static>); 6] {
    let plain = GenerateOptions { max_new_tokens: 12, ..Default::default() };
    let drawn = |top_k, top_p| Some(Sampling { top_k, top_p, ..Default::default() });
    [
        ("greedy", plain),
        ("short list", GenerateOptions { shortlist: Some(&[1, 5, 9, 30]), ..plain }),
        ("drawn", GenerateOptions { sampling: drawn(0, 1.0), ..plain }),
        ("drawn from few", GenerateOptions { sampling: drawn(7, 0.9), ..plain }),
        ("beams", GenerateOptions { beams: 4, n_best: 2, ..plain }),
        ("patient beams", GenerateOptions { beams: 3, n_best: 3, early_stopping: false, ..plain }),
    ]
}

#[test]
fn a_generation_without_memory_can_be_repeated() {
    let model = seeded(small());
    for (name, options) in searches() {
        // The list has a product of its own, which is kept: see below.
        let prepared = || {
            let mut session = session(&model);
            session.generate(&[&[1]], &GenerateOptions { max_new_tokens: 1, min_new_tokens: 0, ..options }).unwrap();
            session
        };
        let expected = session(&model).hypotheses(SOURCES, &options).unwrap();
        let best: Vec<_> = expected.iter().map(|hypotheses| hypotheses[0].ids.clone()).collect();
        let scored = |session: &mut Session| session.hypotheses(SOURCES, &options);
        every(1, prepared, scored, |mut session, found| {
            if let Err(error) = &found {
                assert_shortage(error, name);
            }
            assert!(found.unwrap_or_else(|_| scored(&mut session).unwrap()) == expected, "{name}");
        });
        let plain = |session: &mut Session| session.generate(SOURCES, &options);
        every(1, prepared, plain, |mut session, found| {
            if let Err(error) = &found {
                assert_shortage(error, name);
            }
            assert_eq!(found.unwrap_or_else(|_| plain(&mut session).unwrap()), best, "{name}");
        });
        let mut tokens = Vec::new();
        session(&model).generate_each(SOURCES, &options, |token| tokens.push(token)).unwrap();
        every(
            1,
            || (prepared(), Vec::with_capacity(tokens.len())),
            |(session, received): &mut (_, Vec<Token>)| {
                Session::generate_each(session, SOURCES, &options, |token| received.push(token))
            },
            |(_, received), result| {
                assert!(tokens.starts_with(&received), "{name}: {received:?}");
                assert!(result.is_err() || received.len() == tokens.len(), "{name}: {received:?}");
            },
        );
    }
}

#[test]
fn what_a_generation_without_memory_leaves_can_go_on() {
    let model = seeded(small());
    let options = GenerateOptions { max_new_tokens: 5, min_new_tokens: 5, ..Default::default() };
    let mut lengths = [0; 6];
    every(
        1,
        || (session(&model), Vec::with_capacity(SOURCES.len() * options.max_new_tokens)),
        |(session, received): &mut (_, Vec<Token>)| {
            Session::generate_each(session, SOURCES, &options, |token| received.push(token))
        },
        |(mut left, received), _| {
            let mut decoding = left.resume();
            lengths[decoding.length()] += 1;
            if decoding.sentences() == 0 {
                return;
            }
            assert_eq!(decoding.sentences(), SOURCES.len());
            // What each sentence was given, and one more id.
            let targets: Vec<Vec<u32>> = (0..SOURCES.len())
                .map(|sentence| {
                    let own = received.iter().filter(|token| token.sentence == sentence).map(|token| token.id);
                    [2].into_iter().chain(own).take(decoding.length()).chain([7]).collect()
                })
                .collect();
            let logits = decoding.step(&[7; SOURCES.len()]).unwrap();
            let mut forced = session(&model);
            let forced = forced.forward(SOURCES, &targets).unwrap();
            for (sentence, target) in targets.iter().enumerate() {
                let expected = forced.sentence(sentence).unwrap();
                let [found, expected] = [logits.row(sentence), expected.row(target.len() - 1)].map(Option::unwrap);
                assert!(bits(found) == bits(expected), "sentence {sentence} after {target:?}");
            }
        },
    );
    assert!(lengths[0] > 5 && lengths[1] > 0 && lengths[5] > 0, "{lengths:?}");
}

#[test]
fn a_short_list_without_memory_is_not_kept() {
    let model = seeded(small());
    let options = GenerateOptions { max_new_tokens: 12, shortlist: Some(&[1, 5, 9, 30]), ..Default::default() };
    let other = GenerateOptions { shortlist: Some(&[2, 5, 8]), ..options };
    let [expected, expected_other] =
        [options, other].map(|options| session(&model).generate(SOURCES, &options).unwrap());
    // What counts the users of a packed weight is smaller, and is taken for granted.
    let prepared = || {
        let mut session = session(&model);
        session.generate(SOURCES, &other).unwrap();
        session
    };
    let allocations = every(
        128,
        prepared,
        |session| session.generate(SOURCES, &options).map(drop),
        |mut session, result| {
            if let Err(error) = result {
                assert_shortage(&error, "a short list");
            }
            assert_eq!(session.generate(SOURCES, &options).unwrap(), expected);
            assert_eq!(session.generate(SOURCES, &other).unwrap(), expected_other);
        },
    );
    assert!(allocations > 0);
}

#[test]
fn a_model_without_memory_is_not_loaded() {
    // Tables, weights and the rows that are read at a time. What is smaller is taken for granted.
    for_every_variant(|name, model| {
        let allocations = every(
            1024,
            || (),
            |()| Transformer::seeded(model.config().clone(), 7, model.precision()),
            |(), result| match result {
                Ok(loaded) => assert_eq!(loaded.bytes(), model.bytes(), "{name}"),
                Err(error) => assert_shortage(&error, name),
            },
        );
        assert!(allocations > 20, "{name}: only {allocations} allocations");
    });
}
