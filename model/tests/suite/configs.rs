//! Configurations, tokens and inputs: what contradicts itself is named.

use gristmill_model::{
    Config, Error, GenerateOptions, Positions, Precision, SessionOptions, TensorSource, Tokenizer, Transformer,
};
use gristmill_testkit::compare::bits;
use gristmill_testkit::models::{self, seeded, sentences, small, variants};

/// A configuration with text.
fn textual() -> Config {
    let source = ["<unk>", "<s>", "</s>", "a", "ab", "abc", "\u{e9}", "c"];
    let target = ["<unk>", "<s>", "</s>", "x", "yy", "z\n", "<pad>"];
    Config { pad: Some(6), unk: Some(0), ..models::textual(&source, &target) }
}

#[test]
fn the_papers_configurations_have_their_sizes() {
    assert_eq!(Config::base().parameters().unwrap(), 63_082_496);
    assert_eq!(Config::big().parameters().unwrap(), 214_245_376);
    Config::base().validate().unwrap();
    Config::big().validate().unwrap();
}

#[test]
fn parameters_are_those_that_are_read() {
    struct Counter(usize);
    impl TensorSource for Counter {
        fn has(&self, _: &str) -> bool {
            false
        }

        fn open(&mut self, _: &str, _: &[usize]) -> Result<(), Error> {
            Ok(())
        }

        fn read(&mut self, values: &mut [f32]) -> Result<(), Error> {
            self.0 += values.len();
            Ok(())
        }
    }
    for (name, config) in variants() {
        let mut counter = Counter(0);
        Transformer::new(config.clone(), &mut counter, Precision::F32).unwrap();
        assert_eq!(config.parameters().unwrap(), counter.0, "{name}");
    }
}

#[test]
fn json_round_trips() {
    for config in [Config::base(), textual(), Config { positions: Positions::Learned { max_length: 9 }, ..small() }] {
        assert_eq!(Config::from_json(&models::json(&config)).unwrap(), config);
    }
}

#[test]
fn json_that_is_no_configuration_is_refused() {
    let good = serde_json::to_value(small()).unwrap();
    let spoil = |key: &str, value: serde_json::Value| {
        let mut json = good.clone();
        json[key] = value;
        json.to_string()
    };
    let mut missing = good.clone();
    missing.as_object_mut().unwrap().remove("heads");
    let texts = [
        String::new(),
        "[]".into(),
        "{\"d_model\":".into(),
        missing.to_string(),
        spoil("d_model", (-1).into()),
        spoil("d_model", 1.5.into()),
        spoil("activation", "swish".into()),
        spoil("norm", "Post".into()),
        spoil("positions", "sinusoidal".into()),
        spoil("positions", serde_json::json!({"kind": "learned"})),
        spoil("bos", 4_294_967_296u64.into()),
    ];
    for text in texts {
        let error = Config::from_json(text.as_bytes()).unwrap_err();
        assert!(matches!(error, Error::ConfigSyntax(_)), "{text}: {error}");
    }
    assert!(matches!(Config::from_json(&[0xff, 0xfe]), Err(Error::ConfigSyntax(_))));
}

#[test]
fn contradictions_are_named() {
    use Error::*;
    macro_rules! refused {
        ($config:expr, $pattern:pat) => {
            let error = $config.validate().unwrap_err();
            assert!(matches!(error, $pattern), "{error}");
            let error = Transformer::seeded($config, 0, Precision::F32).unwrap_err();
            assert!(matches!(error, $pattern), "{error}");
        };
    }
    refused!(Config { d_model: 0, ..small() }, ConfigZero { field: "d_model" });
    refused!(Config { heads: 0, ..small() }, ConfigZero { field: "heads" });
    refused!(Config { heads: 5, ..small() }, ConfigHeads { d_model: 36, heads: 5 });
    refused!(Config { d_ff: 0, ..small() }, ConfigZero { field: "d_ff" });
    refused!(Config { src_vocab: 0, ..small() }, ConfigZero { field: "src_vocab" });
    let learned = Config { positions: Positions::Learned { max_length: 0 }, ..small() };
    refused!(learned, ConfigZero { field: "positions.max_length" });
    refused!(Config { norm_eps: -1.0, ..small() }, ConfigNumber { field: "norm_eps", .. });
    refused!(Config { norm_eps: f32::NAN, ..small() }, ConfigNumber { field: "norm_eps", .. });
    refused!(Config { embed_scale: f32::INFINITY, ..small() }, ConfigNumber { field: "embed_scale", .. });
    refused!(Config { tied_embeddings: true, ..small() }, ConfigTied { src_vocab: 41, tgt_vocab: 37 });
    refused!(Config { bos: Some(37), ..small() }, ConfigSpecial { field: "bos", id: 37, vocabulary: 37 });
    refused!(Config { eos: Some(u32::MAX), ..small() }, ConfigSpecial { field: "eos", .. });
    refused!(Config { unk: Some(8), ..textual() }, ConfigSpecial { field: "unk", id: 8, vocabulary: 8 });
    refused!(Config { src_vocab: 9, ..textual() }, ConfigTokens { field: "src_tokens", tokens: 8, vocabulary: 9 });
    refused!(Config { tgt_vocab: 8, ..textual() }, ConfigTokens { field: "tgt_tokens", tokens: 7, vocabulary: 8 });
    refused!(Config { d_ff: usize::MAX, ..small() }, ConfigSize);
    refused!(Config { encoder_layers: usize::MAX, ..small() }, ConfigSize);
}

#[test]
fn text_becomes_ids_by_the_longest_token_first() {
    let tokenizer = Tokenizer::new(&textual()).unwrap();
    assert_eq!(tokenizer.encode("").unwrap(), [1, 2]);
    assert_eq!(tokenizer.encode("abcabaac").unwrap(), [1, 5, 4, 3, 3, 7, 2]);
    assert_eq!(tokenizer.encode("\u{e9}b\u{e8}c").unwrap(), [1, 6, 0, 0, 7, 2]);
    let strict = Tokenizer::new(&Config { unk: None, ..textual() }).unwrap();
    assert!(matches!(strict.encode("a\u{e9}b"), Err(Error::UnknownText { piece: 'b', offset: 3 })));
    let bare = Tokenizer::new(&Config { bos: None, eos: None, ..textual() }).unwrap();
    assert_eq!(bare.encode("a").unwrap(), [3]);
}

#[test]
fn ids_become_text_without_the_special_ones() {
    let tokenizer = Tokenizer::new(&textual()).unwrap();
    assert_eq!(tokenizer.decode(&[1, 3, 4, 0, 6, 5, 2]).unwrap(), "xyyz\n");
    assert!(matches!(tokenizer.decode(&[3, 7]), Err(Error::IdOutOfRange { position: 1, id: 7, vocabulary: 7 })));
}

#[test]
fn text_needs_tokens_that_differ() {
    assert!(matches!(Tokenizer::new(&small()), Err(Error::NoTokens { field: "src_tokens" })));
    let one_way = Config { tgt_tokens: None, ..textual() };
    assert!(matches!(Tokenizer::new(&one_way), Err(Error::NoTokens { field: "tgt_tokens" })));
    let twice = Tokenizer::new(&models::textual(&["a", "", "", "b", "a", "c", "d", "e"], &["a", "b", "c"]));
    assert!(matches!(twice, Err(Error::ConfigDuplicate { first: 0, second: 4, .. })));
}

#[test]
fn bad_sentences_are_refused_and_change_nothing() {
    let learned = Config { positions: Positions::Learned { max_length: 6 }, ..small() };
    let model = seeded(learned);
    let mut session = model.session(SessionOptions::default()).unwrap();
    let cause = |error: Error| match error {
        Error::Sentence { index: 1, cause } => *cause,
        other => panic!("{other}"),
    };
    let fine = vec![1, 2, 3];
    let error = cause(session.encode(&[fine.clone(), vec![1, 41]]).unwrap_err());
    assert!(matches!(error, Error::IdOutOfRange { position: 1, id: 41, vocabulary: 41 }), "{error}");
    let error = cause(session.encode(&[fine.clone(), vec![0; 7]]).unwrap_err());
    assert!(matches!(error, Error::TooLong { length: 7, max_length: 6 }), "{error}");
    let error = cause(session.generate(&[fine.clone(), vec![0; 7]], &GenerateOptions::default()).unwrap_err());
    assert!(matches!(error, Error::TooLong { .. }), "{error}");
    let pairs = [fine.clone(), fine.clone()];
    let error = cause(session.forward(&pairs, &[fine.clone(), vec![37]]).unwrap_err());
    assert!(matches!(error, Error::IdOutOfRange { position: 0, id: 37, vocabulary: 37 }), "{error}");
    let error = session.forward(&pairs, &pairs[..1]).unwrap_err();
    assert!(matches!(error, Error::BatchSize { expected: 2, found: 1 }), "{error}");

    let expected: Vec<Vec<u32>> = {
        let mut decoding = session.start(&pairs).unwrap();
        (0..6).map(|_| bits(decoding.step(&[1, 2]).unwrap().row(1).unwrap())).collect()
    };
    let mut decoding = session.start(&pairs).unwrap();
    for expected in expected {
        assert!(matches!(decoding.step(&[1]), Err(Error::BatchSize { expected: 2, found: 1 })));
        assert!(matches!(decoding.step(&[1, 37]), Err(Error::IdOutOfRange { .. })));
        assert!(bits(decoding.step(&[1, 2]).unwrap().row(1).unwrap()) == expected);
    }
    assert!(matches!(decoding.step(&[1, 2]), Err(Error::TooLong { length: 7, max_length: 6 })));
    decoding.swap_remove(5).unwrap();
    assert_eq!(decoding.sentences(), 2);
}

#[test]
fn generation_stops_where_it_must() {
    // Nothing ends these sentences but their length.
    let endless = Config { eos: None, ..small() };
    let sources = sentences(&[4, 2], endless.src_vocab, 3);
    let lengths = |config: &Config, max_new_tokens| {
        let model = seeded(config.clone());
        let mut session = model.session(SessionOptions::default()).unwrap();
        let targets = session.generate(&sources, &GenerateOptions { max_new_tokens, ..Default::default() }).unwrap();
        targets.iter().map(Vec::len).collect::<Vec<_>>()
    };
    assert_eq!(lengths(&endless, 0), [1, 1]);
    assert_eq!(lengths(&endless, 70), [71, 71]);
    let learned = Config { positions: Positions::Learned { max_length: 9 }, ..endless.clone() };
    assert_eq!(lengths(&learned, 3), [4, 4]);
    assert_eq!(lengths(&learned, usize::MAX), [9, 9]);
    let model = seeded(Config { bos: None, ..endless });
    let mut session = model.session(SessionOptions::default()).unwrap();
    assert!(matches!(session.generate(&sources, &GenerateOptions::default()), Err(Error::NoBeginning)));
}

#[test]
fn nothing_in_nothing_out() {
    let model = seeded(small());
    let mut session = model.session(SessionOptions::default()).unwrap();
    let none: [Vec<u32>; 0] = [];
    assert_eq!(session.encode(&none).unwrap().sentences(), 0);
    assert!(session.forward(&none, &none).unwrap().values().is_empty());
    assert_eq!(session.generate(&none, &GenerateOptions::default()).unwrap(), none);
    assert!(session.encode(&[&[1, 2][..], &[]]).unwrap().sentence(2).is_none());
}

#[test]
fn a_model_without_layers_is_a_model() {
    let model = seeded(Config { encoder_layers: 0, decoder_layers: 0, ..small() });
    let sources = sentences(&[4, 2], 37, 3);
    let mut session = model.session(SessionOptions::default()).unwrap();
    let logits = session.forward(&sources, &sources).unwrap();
    assert!(logits.values().iter().all(|value| value.is_finite()));
    assert_eq!(
        session.generate(&sources, &GenerateOptions { max_new_tokens: 2, ..Default::default() }).unwrap().len(),
        2
    );
}
