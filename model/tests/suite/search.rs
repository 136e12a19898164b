//! Beams, draws, scores, lengths and shortlists.

use gristmill_model::{
    Config, Error, GenerateOptions, Hypothesis, Sampling, Session, SessionOptions, Token, Transformer,
};
use gristmill_testkit::models::{for_every_variant, seeded, sentences, small, variants};
use gristmill_testkit::sweep;

const SOURCES: [usize; 6] = [5, 1, 17, 9, 9, 2];

fn sources() -> Vec<Vec<u32>> {
    sentences(&SOURCES, 37, 3)
}

fn session(model: &Transformer) -> Session<'_> {
    model.session(SessionOptions::default()).unwrap()
}

/// Options that differ in kind.
fn searches() -> Vec<GenerateOptions<'static>> {
    let beam = GenerateOptions { max_new_tokens: 20, beams: 4, n_best: 3, ..Default::default() };
    let drawn = |sampling| GenerateOptions { max_new_tokens: 20, sampling: Some(sampling), ..Default::default() };
    vec![
        GenerateOptions { max_new_tokens: 20, ..Default::default() },
        GenerateOptions { max_new_tokens: 14, min_new_tokens: 14, ..Default::default() },
        beam,
        GenerateOptions { early_stopping: false, length_penalty: 0.3, ..beam },
        GenerateOptions { min_new_tokens: 6, beams: 2, n_best: 2, length_penalty: -1.0, ..beam },
        GenerateOptions { shortlist: Some(&[5, 30, 7, 7, 12, 36]), ..beam },
        GenerateOptions { beams: 40, n_best: 40, max_new_tokens: 3, ..beam },
        drawn(Sampling { seed: 1, ..Default::default() }),
        drawn(Sampling { seed: 2, temperature: 0.7, top_k: 5, ..Default::default() }),
        drawn(Sampling { seed: 3, temperature: 2.0, top_p: 0.8, ..Default::default() }),
    ]
}

/// What can be compared: ids, and numbers in bits.
fn plain(found: Vec<Vec<Hypothesis>>) -> Vec<Vec<(Vec<u32>, u32, u32)>> {
    let plain = |h: Hypothesis| (h.ids, h.log_probability.to_bits(), h.score.to_bits());
    found.into_iter().map(|all| all.into_iter().map(plain).collect()).collect()
}

#[test]
fn threads_company_and_fused_levels_do_not_matter() {
    for_every_variant(|name, model| {
        let sources = sources();
        for options in searches() {
            let mut fused = None;
            sweep::levels(|level| {
                let mut expected = None;
                sweep::threads(|threads| {
                    let mut session = model.session(SessionOptions { threads, level: Some(level) }).unwrap();
                    let found = plain(session.hypotheses(&sources, &options).unwrap());
                    assert!(*expected.get_or_insert(found.clone()) == found, "{name} {level}: {options:?}");
                    if level.fused() {
                        assert!(*fused.get_or_insert(found.clone()) == found, "{name} {level}: {options:?}");
                    }
                });
                let mut session = model.session(SessionOptions { level: Some(level), ..Default::default() }).unwrap();
                for (index, source) in sources.iter().enumerate() {
                    let sampling = options.sampling.map(|s| Sampling { first_sentence: index as u64, ..s });
                    let options = GenerateOptions { sampling, ..options };
                    let alone = plain(session.hypotheses(&[source], &options).unwrap());
                    assert!(alone[0] == expected.as_ref().unwrap()[index], "{name} {level} {index}: {options:?}");
                }
            });
        }
    });
}

#[test]
fn probabilities_are_those_of_teacher_forcing() {
    for_every_variant(|name, model| {
        let sources = sources();
        let mut session = session(model);
        for options in
            searches().into_iter().filter(|options| options.shortlist.is_none() && options.min_new_tokens == 0)
        {
            let found = session.hypotheses(&sources, &options).unwrap();
            let ids = session.generate(&sources, &options).unwrap();
            for ((source, hypotheses), ids) in sources.iter().zip(&found).zip(ids) {
                assert_eq!(hypotheses[0].ids, ids, "{name}: {options:?}");
                assert!(hypotheses.len() <= options.n_best && hypotheses.is_sorted_by(|a, b| a.score >= b.score));
                let copies = vec![source; hypotheses.len()];
                let targets: Vec<_> = hypotheses.iter().map(|hypothesis| &hypothesis.ids).collect();
                for (hypothesis, scores) in hypotheses.iter().zip(session.score(&copies, &targets).unwrap()) {
                    assert_eq!(scores.len() + 1, hypothesis.ids.len());
                    // The same additions in the same order.
                    let sum = scores.iter().fold(0.0f32, |sum, score| sum + score);
                    assert_eq!(sum.to_bits(), hypothesis.log_probability.to_bits(), "{name}: {options:?}");
                    let score = sum / (scores.len() as f32).powf(options.length_penalty);
                    assert_eq!(score, hypothesis.score);
                }
            }
        }
    });
}

#[test]
fn scores_are_logarithms_of_softmax() {
    let model = seeded(small());
    let (sources, mut targets) = (sources(), sentences(&[4, 1, 200, 9, 2, 0], 37, 4));
    targets[3][5] = targets[3][4];
    let mut session = session(&model);
    let scores = session.score(&sources, &targets).unwrap();
    let logits = session.forward(&sources, &targets).unwrap();
    for (sentence, (target, scores)) in targets.iter().zip(&scores).enumerate() {
        assert_eq!(scores.len(), target.len().saturating_sub(1));
        for (row, (&next, &score)) in target.iter().skip(1).zip(scores).enumerate() {
            let logits = logits.sentence(sentence).unwrap();
            let logits: Vec<f64> = logits.row(row).unwrap().iter().map(|&x| f64::from(x)).collect();
            let expected = logits[next as usize] - logits.iter().map(|x| x.exp()).sum::<f64>().ln();
            assert!((f64::from(score) - expected).abs() < 2e-6, "{score} {expected}");
        }
    }
}

#[test]
fn every_hypothesis_is_found_where_the_beam_holds_all() {
    // A vocabulary so small that all sentences of three ids fit the beam.
    let config = Config { tgt_vocab: 5, bos: Some(2), eos: Some(3), ..small() };
    let model = seeded(Config { pad: None, unk: None, ..config });
    let mut session = session(&model);
    let mut all: Vec<Vec<u32>> = vec![vec![2]];
    for _ in 0..3 {
        let open = |ids: &Vec<u32>| *ids.last().unwrap() != 3 || ids.len() == 1;
        let (open, ended): (Vec<_>, Vec<_>) = all.into_iter().partition(open);
        all = open.iter().flat_map(|ids| (0..5).map(|id| [&ids[..], &[id]].concat())).chain(ended).collect();
    }
    for (source, length_penalty) in sources().iter().zip([0.0, 1.0, 0.5, 2.0, -1.0, 1.0]) {
        let scores = session.score(&vec![source; all.len()], &all).unwrap();
        let sum = |scores: &Vec<f32>| scores.iter().sum::<f32>() / (scores.len() as f32).powf(length_penalty);
        let mut expected: Vec<_> = all.iter().zip(scores.iter().map(sum)).collect();
        expected.sort_by(|a, b| b.1.total_cmp(&a.1));
        let options = GenerateOptions {
            max_new_tokens: 3,
            beams: 125,
            n_best: 10,
            length_penalty,
            early_stopping: false,
            ..Default::default()
        };
        let found = session.hypotheses(&[source], &options).unwrap().remove(0);
        let found: Vec<_> = found.iter().map(|hypothesis| (&hypothesis.ids, hypothesis.score)).collect();
        assert_eq!(found, expected[..10]);
    }
}

#[test]
fn where_nothing_competes_a_search_is_greedy() {
    for (name, config) in variants() {
        let (model, sources) = (seeded(config), sources());
        let mut session = session(&model);
        let greedy = GenerateOptions { max_new_tokens: 18, ..Default::default() };
        // Two beams of which one has no second choice: a shortlist of one id, before the end may come, is one path.
        let forced = GenerateOptions { min_new_tokens: 18, shortlist: Some(&[7]), ..greedy };
        let expected = plain(session.hypotheses(&sources, &forced).unwrap());
        for early_stopping in [true, false] {
            let beams = GenerateOptions { beams: 2, n_best: 2, early_stopping, ..forced };
            assert!(plain(session.hypotheses(&sources, &beams).unwrap()) == expected, "{name}: two beams");
        }
        let expected = plain(session.hypotheses(&sources, &greedy).unwrap());
        let certain = Sampling { top_k: 1, seed: 9, ..Default::default() };
        let found = session.hypotheses(&sources, &GenerateOptions { sampling: Some(certain), ..greedy }).unwrap();
        assert!(plain(found) == expected, "{name}: one candidate");
    }
}

#[test]
fn greedy_steps_choose_what_generation_does() {
    let (model, sources) = (seeded(Config { eos: None, ..small() }), sources());
    let mut session = session(&model);
    let options = GenerateOptions { max_new_tokens: 7, ..Default::default() };
    let expected = session.generate(&sources, &options).unwrap();
    let mut decoding = session.start(&sources).unwrap();
    let mut ids = vec![2; sources.len()];
    for length in 1..=7 {
        ids = decoding.step_greedy(&ids).unwrap().to_vec();
        assert!(ids.iter().eq(expected.iter().map(|target| &target[length])));
    }
}

#[test]
fn lengths_are_kept() {
    let (model, sources) = (seeded(small()), sources());
    let mut session = session(&model);
    for (min_new_tokens, max_new_tokens) in [(0, 0), (0, 1), (1, 1), (9, 9), (5, 12)] {
        for (beams, sampling) in [(1, None), (3, None), (1, Some(Sampling::default()))] {
            let options = GenerateOptions { min_new_tokens, max_new_tokens, beams, sampling, ..Default::default() };
            for ids in session.generate(&sources, &options).unwrap() {
                let lengths = min_new_tokens + 1..=max_new_tokens + 1;
                assert!(lengths.contains(&ids.len()), "{options:?}: {ids:?}");
                assert!(!ids[..=min_new_tokens].contains(&3), "{options:?}: {ids:?}");
            }
        }
    }
}

#[test]
fn a_shortlist_of_everything_changes_nothing_and_a_short_one_is_kept_to() {
    let (model, sources) = (seeded(small()), sources());
    let mut session = session(&model);
    let all: Vec<u32> = (0..37).rev().collect();
    for options in searches() {
        let expected = session.hypotheses(&sources, &GenerateOptions { shortlist: None, ..options }).unwrap();
        let found = session.hypotheses(&sources, &GenerateOptions { shortlist: Some(&all), ..options }).unwrap();
        assert!(plain(found) == plain(expected), "{options:?}");
        let short = GenerateOptions { shortlist: Some(&[11, 4]), ..options };
        for ids in session.generate(&sources, &short).unwrap() {
            assert!(ids[1..].iter().all(|id| [3, 4, 11].contains(id)), "{ids:?}");
        }
    }
    // It is for generation only.
    assert_eq!(session.forward(&sources, &sources).unwrap().width(), 37);
    assert_eq!(session.start(&sources).unwrap().step(&[1; 6]).unwrap().cols(), 37);
}

#[test]
fn the_impossible_has_a_probability_of_zero() {
    // Nothing but the end token, which may not come yet.
    let model = seeded(small());
    let eos = [small().eos.unwrap()];
    let greedy = GenerateOptions { max_new_tokens: 2, min_new_tokens: 2, shortlist: Some(&eos), ..Default::default() };
    let drawn = GenerateOptions { sampling: Some(Sampling::default()), ..greedy };
    for options in [greedy, drawn, GenerateOptions { beams: 2, ..greedy }] {
        let found = session(&model).hypotheses(&sources(), &options).unwrap();
        let zero = |h: &Hypothesis| [h.log_probability, h.score] == [f32::NEG_INFINITY; 2];
        assert!(found.iter().flatten().all(zero), "{options:?}: {found:?}");
    }
}

#[test]
fn tokens_come_as_they_are_chosen() {
    let (model, sources) = (seeded(small()), sources());
    let mut session = session(&model);
    for options in searches() {
        let mut received = vec![vec![2]; sources.len()];
        let receive = |Token { sentence, id }| received[sentence].push(id);
        session.generate_each(&sources, &options, receive).unwrap();
        assert_eq!(received, session.generate(&sources, &options).unwrap(), "{options:?}");
    }
}

#[test]
fn draws_follow_the_probabilities() {
    let (model, source) = (seeded(small()), vec![4, 8, 15]);
    let mut session = session(&model);
    let logits = session.forward(&[&source], &[[2]]).unwrap().values().to_vec();
    let draws = 4000;
    let sources = vec![source; draws];
    for (temperature, top_k, top_p) in [(1.0, 0, 1.0), (0.5, 0, 1.0), (1.0, 4, 1.0), (1.0, 0, 0.5), (2.0, 6, 0.7)] {
        let sampling = Sampling { temperature, top_k, top_p, seed: 5, first_sentence: 0 };
        let options = GenerateOptions { max_new_tokens: 1, sampling: Some(sampling), ..Default::default() };
        let mut counts = [0.0; 37];
        session.generate(&sources, &options).unwrap().iter().for_each(|ids| counts[ids[1] as usize] += 1.0);
        // The definition, in the plainest way.
        let mut order: Vec<usize> = (0..37).collect();
        order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
        order.truncate(if top_k == 0 { 37 } else { top_k });
        let weight = |id: usize| f64::from(logits[id] / temperature).exp();
        let all: f64 = order.iter().map(|&id| weight(id)).sum();
        let mut sum = 0.0;
        order.retain(|&id| {
            let keep = sum < all * f64::from(top_p);
            sum += weight(id);
            keep
        });
        let kept: f64 = order.iter().map(|&id| weight(id)).sum();
        for (id, count) in counts.iter().enumerate() {
            let p = if order.contains(&id) { weight(id) / kept } else { 0.0 };
            let deviation = (draws as f64 * p * (1.0 - p)).sqrt();
            assert!((count - draws as f64 * p).abs() <= 4.5 * deviation, "{sampling:?}: id {id}: {count}");
        }
    }
}

#[test]
fn contradictions_are_refused() {
    let (model, sources) = (seeded(small()), sources());
    let mut session = session(&model);
    let mut refuse = |options| session.hypotheses(&sources, &options).unwrap_err();
    let fine = GenerateOptions::default();
    assert!(matches!(refuse(GenerateOptions { beams: 0, ..fine }), Error::OptionZero { field: "beams" }));
    assert!(matches!(refuse(GenerateOptions { n_best: 0, ..fine }), Error::OptionZero { field: "n_best" }));
    assert!(matches!(
        refuse(GenerateOptions { shortlist: Some(&[]), ..fine }),
        Error::OptionZero { field: "shortlist" }
    ));
    let error = refuse(GenerateOptions { beams: 2, n_best: 3, ..fine });
    assert!(matches!(error, Error::OptionLimit { field: "n_best", value: 3, limited_by: "beams", limit: 2 }));
    let error = refuse(GenerateOptions { min_new_tokens: 9, max_new_tokens: 8, ..fine });
    assert!(matches!(error, Error::OptionLimit { field: "min_new_tokens", value: 9, limit: 8, .. }));
    let error = refuse(GenerateOptions { length_penalty: f32::NAN, ..fine });
    assert!(matches!(error, Error::OptionNumber { field: "length_penalty", .. }));
    let error = refuse(GenerateOptions { shortlist: Some(&[1, 37]), ..fine });
    assert!(matches!(error, Error::IdOutOfRange { position: 1, id: 37, vocabulary: 37 }));
    for (temperature, top_p, field) in [
        (0.0, 1.0, "temperature"),
        (-1.0, 1.0, "temperature"),
        (f32::INFINITY, 1.0, "temperature"),
        (1.0, 0.0, "top_p"),
        (1.0, 1.5, "top_p"),
        (1.0, f32::NAN, "top_p"),
    ] {
        let sampling = Some(Sampling { temperature, top_p, ..Default::default() });
        let error = refuse(GenerateOptions { sampling, ..fine });
        assert!(matches!(error, Error::OptionNumber { field: found, .. } if found == field), "{error}");
    }
    let error = refuse(GenerateOptions { beams: 2, sampling: Some(Sampling::default()), ..fine });
    assert!(matches!(error, Error::SampledBeams { beams: 2 }));
    for beams in [1 << 50, usize::MAX] {
        let error = refuse(GenerateOptions { beams, ..fine });
        assert!(matches!(error, Error::Kernel(gristmill::Error::OutOfMemory { .. })), "{error}");
    }
}

#[test]
fn a_decoding_goes_back_and_forks() {
    let (model, sources) = (seeded(small()), sentences(&[5, 3], 41, 1));
    let mut session = session(&model);
    let mut decoding = session.start(&sources).unwrap();
    let logits = |m: gristmill::MatRef<f32>| (0..m.rows()).map(|row| m.row(row).unwrap().to_vec()).collect::<Vec<_>>();
    decoding.step(&[2, 2]).unwrap();
    let first = logits(decoding.step(&[7, 8]).unwrap());
    decoding.step(&[9, 9]).unwrap();
    decoding.rewind(1);
    assert_eq!(decoding.length(), 1);
    assert_eq!(logits(decoding.step(&[7, 8]).unwrap()), first);

    assert!(matches!(decoding.reorder(2, &[0, 0, 1]), Err(Error::BatchSize { expected: 4, found: 3 })));
    assert!(matches!(decoding.reorder(2, &[0, 0, 1, 0]), Err(Error::Parent { target: 3, parent: 0 })));
    decoding.reorder(2, &[0, 0, 1, 1]).unwrap();
    assert!(matches!(decoding.step(&[1, 2]), Err(Error::BatchSize { expected: 4, found: 2 })));
    decoding.step(&[4, 5, 6, 7]).unwrap();
    decoding.reorder(3, &[1, 0, 1, 3, 3, 2]).unwrap();
    let found = logits(decoding.step(&[1, 2, 3, 4, 5, 6]).unwrap());
    let targets = [[2, 7, 5, 1], [2, 7, 4, 2], [2, 7, 5, 3], [2, 8, 7, 4], [2, 8, 7, 5], [2, 8, 6, 6]];
    decoding.swap_remove(0).unwrap();
    assert_eq!(logits(decoding.step(&[9, 9, 9]).unwrap()).len(), 3);
    let pairs: Vec<_> = [0, 0, 0, 1, 1, 1].map(|sentence| &sources[sentence]).into();
    let forced = session.forward(&pairs, &targets).unwrap();
    for (sentence, found) in found.iter().enumerate() {
        assert_eq!(forced.sentence(sentence).unwrap().row(3).unwrap(), found, "{sentence}");
    }
}
