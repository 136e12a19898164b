//! The same bits: cache or one pass, alone or in a batch, one thread or three, every level that fuses.

use gristmill_model::{Config, GenerateOptions, Session, SessionOptions};
use gristmill_testkit::compare::bits;
use gristmill_testkit::models::{for_every_variant, seeded, sentences, small};
use gristmill_testkit::sweep;

const SOURCES: [usize; 7] = [5, 5, 1, 17, 9, 0, 9];
/// Some neighbours agree in both lengths, some in one.
const TARGETS: [usize; 7] = [4, 4, 4, 19, 7, 7, 6];

fn batch(config: &Config) -> (Vec<Vec<u32>>, Vec<Vec<u32>>) {
    (sentences(&SOURCES, config.src_vocab, 1), sentences(&TARGETS, config.tgt_vocab, 2))
}

/// Encoder outputs and logits of every sentence.
fn results(session: &mut Session, sources: &[Vec<u32>], targets: &[Vec<u32>]) -> Vec<[Vec<u32>; 2]> {
    let matrix = |m: gristmill::MatRef<f32>| (0..m.rows()).flat_map(|row| bits(m.row(row).unwrap())).collect();
    let encoded = session.encode(sources).unwrap();
    let memories: Vec<Vec<u32>> = (0..sources.len()).map(|i| matrix(encoded.sentence(i).unwrap())).collect();
    let logits = session.forward(sources, targets).unwrap();
    let logits: Vec<Vec<u32>> = (0..sources.len()).map(|i| matrix(logits.sentence(i).unwrap())).collect();
    memories.into_iter().zip(logits).map(<[_; 2]>::from).collect()
}

#[test]
fn threads_and_fused_levels_do_not_matter() {
    for_every_variant(|name, model| {
        let (sources, targets) = batch(model.config());
        let mut fused = None;
        sweep::levels(|level| {
            let mut expected = None;
            sweep::threads(|threads| {
                let mut session = model.session(SessionOptions { threads, level: Some(level) }).unwrap();
                let found = results(&mut session, &sources, &targets);
                assert!(*expected.get_or_insert(found.clone()) == found, "{name} at {level}: threads");
                if level.fused() {
                    assert!(*fused.get_or_insert(found.clone()) == found, "{name} at {level}: level");
                }
            });
        });
    });
}

#[test]
fn threads_do_not_matter_to_many_tokens() {
    // Enough to be looked up in a packed table, to be projected and to be kept in caches by several threads.
    let config = Config { tied_output: true, tied_embeddings: true, src_vocab: 37, ..small() };
    let model = seeded(config);
    let sources = sentences(&[40; 130], 37, 1);
    let targets = sentences(&[2; 130], 37, 2);
    let mut expected = None;
    sweep::threads(|threads| {
        let mut session = model.session(SessionOptions { threads, level: None }).unwrap();
        let found = results(&mut session, &sources, &targets);
        assert!(*expected.get_or_insert(found.clone()) == found, "forced");
        let mut decoding = session.start(&sources).unwrap();
        for position in 0..2 {
            let ids: Vec<u32> = targets.iter().map(|target| target[position]).collect();
            let logits = decoding.step(&ids).unwrap();
            for (row, [_, forced]) in found.iter().enumerate() {
                assert!(bits(logits.row(row).unwrap()) == forced[position * 37..][..37], "step {position}, {row}");
            }
        }
    });
}

#[test]
fn a_sentence_does_not_know_its_batch() {
    for_every_variant(|name, model| {
        let (sources, targets) = batch(model.config());
        let mut session = model.session(SessionOptions::default()).unwrap();
        let together = results(&mut session, &sources, &targets);
        for i in 0..sources.len() {
            let alone = results(&mut session, &sources[i..=i], &targets[i..=i]);
            assert!(alone[0] == together[i], "{name}: sentence {i}");
        }
    });
}

#[test]
fn a_cache_gives_the_bits_of_one_pass() {
    for_every_variant(|name, model| {
        let sources = sentences(&SOURCES, model.config().src_vocab, 1);
        // More than the cache first has room for, so that it grows.
        let targets = sentences(&[21; 7], model.config().tgt_vocab, 2);
        sweep::levels(|level| {
            let mut session = model.session(SessionOptions { level: Some(level), ..Default::default() }).unwrap();
            let forced: Vec<_> =
                results(&mut session, &sources, &targets).into_iter().map(|[_, logits]| logits).collect();
            let mut live: Vec<usize> = (0..sources.len()).collect();
            let mut decoding = session.start(&sources).unwrap();
            for position in 0..21 {
                let ids: Vec<u32> = live.iter().map(|&sentence| targets[sentence][position]).collect();
                let logits = decoding.step(&ids).unwrap();
                let width = logits.cols();
                for (place, &sentence) in live.iter().enumerate() {
                    let expected = &forced[sentence][position * width..][..width];
                    assert!(bits(logits.row(place).unwrap()) == expected, "{name} at {level}: {sentence}, {position}");
                }
                // Sentences leave from the middle, the end and the front.
                if let Some(place) = [(3, 2), (5, 5), (18, 0), (19, 2)].iter().find(|(at, _)| *at == position) {
                    decoding.swap_remove(place.1).unwrap();
                    live.swap_remove(place.1);
                }
                assert_eq!((decoding.sentences(), decoding.length()), (live.len(), position + 1));
            }
        });
    });
}

#[test]
fn a_session_forgets_what_it_did_before() {
    let model = seeded(small());
    let (sources, targets) = batch(model.config());
    let fresh = results(&mut model.session(SessionOptions::default()).unwrap(), &sources[1..4], &targets[1..4]);
    let mut session = model.session(SessionOptions::default()).unwrap();
    session.generate(&sources, &GenerateOptions { max_new_tokens: 40, ..Default::default() }).unwrap();
    results(&mut session, &sources, &targets);
    assert!(results(&mut session, &sources[1..4], &targets[1..4]) == fresh);
}

#[test]
fn generation_does_not_know_its_batch_and_follows_the_logits() {
    for_every_variant(|name, model| {
        let sources = sentences(&SOURCES, model.config().src_vocab, 1);
        let options = GenerateOptions { max_new_tokens: 30, ..Default::default() };
        let mut session = model.session(SessionOptions::default()).unwrap();
        let together = session.generate(&sources, &options).unwrap();
        for (source, target) in sources.iter().zip(&together) {
            assert_eq!(session.generate(&[source], &options).unwrap()[0], *target, "{name}");
            let eos = model.config().eos.unwrap();
            let longest = 31.min(model.config().max_length().unwrap_or(31));
            let end = target.iter().position(|&id| id == eos).map_or(longest, |at| at + 1);
            assert_eq!((target[0], target.len()), (model.config().bos.unwrap(), end), "{name}: {target:?}");
            let logits = session.forward(&[source], &[target]).unwrap();
            let logits = logits.sentence(0).unwrap();
            for (row, &next) in target[1..].iter().enumerate() {
                let row = logits.row(row).unwrap();
                let largest = row.iter().copied().reduce(|a, b| if b > a { b } else { a }).unwrap();
                assert_eq!(row.iter().position(|&value| value == largest), Some(next as usize), "{name}");
            }
        }
    });
}

#[test]
fn two_sessions_share_one_model() {
    let model = seeded(small());
    let (sources, targets) = batch(model.config());
    let run = || results(&mut model.session(SessionOptions::default()).unwrap(), &sources, &targets);
    let expected = run();
    std::thread::scope(|scope| {
        let workers = [scope.spawn(run), scope.spawn(run)];
        workers.into_iter().for_each(|worker| assert!(worker.join().unwrap() == expected));
    });
}
