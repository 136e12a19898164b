//! Loading models from two files in memory.

use super::Bytes;
use crate::fill::SPECIAL;
use crate::models::{self, Dtype, TensorFile};
use gristmill_core::Threads;
use gristmill_model::{Activation, Config, Error, NormOrder, Positions, SessionOptions, Tokenizer};

/// A small model's files, whole or mutated, or any bytes as files: they load and the model runs, or there is an
/// error. Whole files load.
pub fn checkpoint(data: &[u8]) {
    let bytes = &Bytes::new(data);
    if bytes.one_in(8) {
        let split = bytes.below(65536);
        let files = bytes.rest();
        let (config, tensors) = files.split_at(split.min(files.len()));
        _ = load_and_run(config, tensors);
        return;
    }
    let config = config(bytes);
    let mut tensors = tensors(bytes, &config).bytes();
    let mut config = models::json(&config);
    let mutations = bytes.below(5);
    for _ in 0..mutations {
        let file = if bytes.one_in(3) { &mut config } else { &mut tensors };
        mutate(bytes, file);
    }
    let loaded = load_and_run(&config, &tensors);
    if mutations == 0 {
        loaded.expect("whole files load");
    }
}

/// Loads the files and runs what they hold.
fn load_and_run(config: &[u8], tensors: &[u8]) -> Result<(), Error> {
    let model = models::load(config, tensors)?;
    let mut session = model.session(SessionOptions { threads: Threads::Serial, ..Default::default() })?;
    // The ids may lie outside the vocabularies, which is an error too.
    let logits = session.forward(&[[0, 2, 1].as_slice(), &[1]], &[[1, 0].as_slice(), &[2]])?;
    assert_eq!(logits.width(), model.config().tgt_vocab);
    if model.config().src_tokens.is_some() {
        let tokenizer = Tokenizer::new(model.config())?;
        tokenizer.decode(&tokenizer.encode("abcd\u{e9}a")?)?;
    }
    Ok(())
}

/// A configuration of a few hundred parameters.
fn config(bytes: &Bytes) -> Config {
    let heads = 1 + bytes.below(2);
    let vocabulary = 3 + bytes.below(4);
    let tied_embeddings = bytes.one_in(4);
    let src_vocab = if tied_embeddings { vocabulary } else { 3 + bytes.below(4) };
    // Letters, and tokens that begin like others.
    let tokens =
        |count: usize| ["ab", "a", "b", "c", "\u{e9}", "abc"].iter().take(count).map(|&text| text.into()).collect();
    let with_tokens = bytes.flag() && src_vocab == vocabulary;
    Config {
        d_model: heads * 2 * (1 + bytes.below(3)),
        heads,
        encoder_layers: bytes.below(3),
        decoder_layers: bytes.below(3),
        d_ff: 1 + bytes.below(6),
        src_vocab,
        tgt_vocab: vocabulary,
        activation: bytes.pick(&[Activation::Relu, Activation::Gelu]),
        norm: bytes.pick(&[NormOrder::Post, NormOrder::Pre]),
        final_norm: bytes.flag(),
        bias: !bytes.one_in(3),
        positions: bytes.pick(&[Positions::Sinusoidal, Positions::Learned { max_length: 3 }]),
        tied_output: bytes.flag(),
        tied_embeddings,
        bos: bytes.flag().then_some(1),
        eos: bytes.flag().then_some(2),
        pad: None,
        unk: Some(0),
        src_tokens: with_tokens.then(|| tokens(src_vocab)),
        tgt_tokens: with_tokens.then(|| tokens(vocabulary)),
        ..Config::base()
    }
}

/// Seeded tensors, all of one type, with and without what is optional.
fn tensors(bytes: &Bytes, config: &Config) -> TensorFile {
    let mut file = TensorFile::seeded(config, bytes.u64());
    if bytes.flag() {
        file.put("generator.bias", &[config.tgt_vocab], &vec![0.5; config.tgt_vocab]);
    }
    let prefix = if bytes.flag() { "transformer." } else { "" };
    let dtype = bytes.pick(&[Dtype::F32, Dtype::F16, Dtype::BF16]);
    let names: Vec<String> = file.0.keys().cloned().collect();
    for name in names {
        file.narrow(&name, dtype);
        file.rename(&name, &format!("{prefix}{name}"));
    }
    file
}

/// One change to a file.
fn mutate(bytes: &Bytes, file: &mut Vec<u8>) {
    // Most of what can go wrong stands in the first kilobytes.
    let len = if bytes.flag() { file.len() } else { file.len().min(1024) };
    let at = bytes.below(len.clamp(1, 65536));
    match bytes.below(8) {
        0 => file.truncate(at),
        1 => file.insert(at.min(file.len()), bytes.byte()),
        2 if at < file.len() => _ = file.remove(at),
        3 => file.extend(std::iter::repeat_n(bytes.byte(), bytes.below(16))),
        4 => {
            let length = if bytes.flag() { bytes.u64() } else { bytes.below(65536) as u64 };
            file.iter_mut().zip(length.to_le_bytes()).for_each(|(byte, new)| *byte = new);
        }
        5 => {
            let value = bytes.pick(&SPECIAL).to_le_bytes();
            file.iter_mut().skip(at).zip(value).for_each(|(byte, new)| *byte = new);
        }
        6 => {
            // A number becomes another one.
            if let Some(digit) = file.iter_mut().skip(at).find(|byte| byte.is_ascii_digit()) {
                *digit = b'0' + bytes.byte() % 10;
            }
        }
        _ => {
            if let Some(byte) = file.get_mut(at) {
                *byte = bytes.byte();
            }
        }
    }
}
