//! Profiles: which operations a session says it did.

use gristmill_model::{Config, GenerateOptions, Operation, SessionOptions, Spent};
use gristmill_testkit::models::{seeded, sentences, small};

#[test]
fn operations_are_counted() {
    let model = seeded(Config { eos: None, ..small() });
    let Config { d_model: d, d_ff, src_vocab, tgt_vocab, heads, .. } = *model.config();
    let mut session = model.session(SessionOptions::default()).unwrap();
    let sources = sentences(&[5, 5, 3], src_vocab, 1);
    session.encode(&sources).unwrap();
    assert!(session.profile().is_none());

    session.start_profile();
    session.encode(&sources).unwrap();
    let of = |session: &gristmill_model::Session, operation| session.profile().unwrap().of(operation);
    let linear = |m: usize, n: usize, k: usize| [2 * m * n * k, 4 * (m * k + n * k + m * n)];
    let spent = |spent: Spent| (spent.calls, [spent.flops as usize, spent.bytes as usize]);
    // Two layers, 13 tokens.
    let two = |cost: [usize; 2]| cost.map(|count| 2 * count);
    assert_eq!(spent(of(&session, Operation::SelfProjection)), (2, two(linear(13, 3 * d, d))));
    assert_eq!(spent(of(&session, Operation::FeedForwardDown)), (2, two(linear(13, d, d_ff))));
    // A call for each run of sentences of one length.
    let attention = [4 * d * (2 * 25 + 9), 4 * 4 * d * 13];
    assert_eq!(spent(of(&session, Operation::SelfAttention)), (4, two(attention)));
    assert_eq!(of(&session, Operation::Norm).calls, 4);
    assert_eq!(of(&session, Operation::Vocabulary), Spent::default());

    session.start_profile();
    let options = GenerateOptions { max_new_tokens: 4, ..Default::default() };
    session.generate(&sources, &options).unwrap();
    assert_eq!(spent(of(&session, Operation::Vocabulary)), (4, linear(3, tgt_vocab, d).map(|count| 4 * count)));
    assert_eq!(spent(of(&session, Operation::CrossProjection)), (2, two(linear(13, 2 * d, d))));
    // Four steps, the keys growing from 1 to 4.
    let own: usize = (1..=4).map(|keys| 4 * d * 3 * keys).sum();
    let encoder = 2 * attention[0];
    assert_eq!(of(&session, Operation::SelfAttention).flops as usize, encoder + 2 * own);
    assert_eq!(of(&session, Operation::CrossAttention).flops as usize, 2 * 4 * 4 * d * 13);
    assert_eq!(of(&session, Operation::Choice).calls, 4);
    assert!(session.profile().unwrap().iter().all(|(_, spent)| spent.calls > 0));
    assert_eq!(session.profile().unwrap().iter().count(), 14, "{heads} heads");
    session.stop_profile();
    assert!(session.profile().is_none());
}
