//! Loading models from two files in memory.

use super::Bytes;
use crate::fill::SPECIAL;
use gristmill_core::Threads;
use gristmill_model::{
    Activation, Checkpoint, Config, Error, NormOrder, Positions, Precision, SeededWeights, SessionOptions,
    TensorSource, Tokenizer, Transformer,
};
use half::{bf16, f16};
use serde_json::{Map, Value, json};

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
    let mut recorder = Recorder { seeded: SeededWeights::new(bytes.u64()), generator_bias: bytes.flag(), read: vec![] };
    Transformer::new(config.clone(), &mut recorder, Precision::F32).expect("a small configuration is valid");
    let prefix = if bytes.flag() { "transformer." } else { "" };
    let mut tensors = recorder.write(bytes.pick(&["F32", "F16", "BF16"]), prefix);
    let mut config = serde_json::to_vec(&config).expect("a configuration is JSON");
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
    let mut checkpoint = Checkpoint::from_bytes(config, tensors)?;
    let model = Transformer::new(checkpoint.config().clone(), &mut checkpoint, Precision::F32)?;
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

/// Seeded weights that remember what was read: the tensors of a configuration.
struct Recorder {
    seeded: SeededWeights,
    generator_bias: bool,
    read: Vec<(String, Vec<usize>, Vec<f32>)>,
}

impl TensorSource for Recorder {
    fn has(&self, name: &str) -> bool {
        name == "generator.bias" && self.generator_bias
    }

    fn open(&mut self, name: &str, shape: &[usize]) -> Result<(), Error> {
        self.read.push((name.to_owned(), shape.to_vec(), Vec::new()));
        self.seeded.open(name, shape)
    }

    fn read(&mut self, values: &mut [f32]) -> Result<(), Error> {
        self.seeded.read(values)?;
        let (_, _, read) = self.read.last_mut().expect("a tensor is opened before it is read");
        read.extend_from_slice(values);
        Ok(())
    }
}

impl Recorder {
    /// The tensors as a safetensors file.
    fn write(&self, dtype: &str, prefix: &str) -> Vec<u8> {
        let (mut header, mut data) = (Map::new(), Vec::new());
        for (name, shape, values) in &self.read {
            let start = data.len();
            for &value in values {
                match dtype {
                    "F32" => data.extend(value.to_le_bytes()),
                    "F16" => data.extend(f16::from_f32(value).to_le_bytes()),
                    _ => data.extend(bf16::from_f32(value).to_le_bytes()),
                }
            }
            let about = json!({ "dtype": dtype, "shape": shape, "data_offsets": [start, data.len()] });
            header.insert(format!("{prefix}{name}"), about);
        }
        let header = serde_json::to_vec(&Value::Object(header)).expect("a header is JSON");
        [&(header.len() as u64).to_le_bytes(), &header[..], &data].concat()
    }
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
