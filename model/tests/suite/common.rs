//! What the tests of the model share.

use gristmill_model::{
    Activation, Config, Error, NormOrder, Positions, Precision, SeededWeights, TensorSource, Transformer,
};
use gristmill_testkit::Rng;
use safetensors::tensor::{Dtype, TensorView};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A model of odd sizes that is quick to run: nothing is a multiple of a register.
pub(crate) fn small() -> Config {
    Config {
        d_model: 36,
        heads: 3,
        encoder_layers: 2,
        decoder_layers: 2,
        d_ff: 50,
        src_vocab: 41,
        tgt_vocab: 37,
        embed_scale: 6.0,
        tied_output: false,
        tied_embeddings: false,
        ..Config::base()
    }
}

/// Configurations that differ in every convention.
pub(crate) fn variants() -> Vec<(&'static str, Config)> {
    let gelu = Config { activation: Activation::Gelu, norm: NormOrder::Pre, final_norm: true, ..small() };
    let learned = Config { positions: Positions::Learned { max_length: 23 }, ..small() };
    let tied = Config { tied_output: true, tied_embeddings: true, src_vocab: 37, ..small() };
    vec![
        ("post, relu", small()),
        ("pre, gelu, final norms", gelu.clone()),
        ("without biases", Config { bias: false, ..gelu }),
        ("learned positions, final norms", Config { final_norm: true, ..learned.clone() }),
        ("tied output", Config { tied_output: true, ..learned }),
        ("tied embeddings", Config { tied_output: false, ..tied.clone() }),
        ("all tied", tied),
    ]
}

pub(crate) fn seeded(config: Config) -> Transformer {
    Transformer::seeded(config, 7, Precision::F32).unwrap()
}

/// Models of every convention in f32, and of the two orders of norms, of tied and of learned tables in 16 bits.
pub(crate) fn for_every_variant(mut check: impl FnMut(&str, &Transformer)) {
    for (name, config) in variants() {
        for precision in Precision::ALL {
            if precision == Precision::F32 || ["pre, gelu, final norms", "tied output", "all tied"].contains(&name) {
                let model = Transformer::seeded(config.clone(), 7, precision).unwrap();
                check(&format!("{name}, {precision}"), &model);
            }
        }
    }
}

/// Sentences of the given lengths with ids below `vocabulary`.
pub(crate) fn sentences(lengths: &[usize], vocabulary: usize, seed: u64) -> Vec<Vec<u32>> {
    let mut random = Rng::new(seed);
    lengths.iter().map(|&length| (0..length).map(|_| random.below(vocabulary) as u32).collect()).collect()
}

pub(crate) fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// The folder beside the repository with material that is too big for it, if it is there.
pub(crate) fn shared() -> Option<PathBuf> {
    let beside = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared"));
    let folder = std::env::var_os("GRISTMILL_SHARED").map_or_else(beside, PathBuf::from);
    folder.is_dir().then_some(folder)
}

/// A safetensors file that can be spoilt.
#[derive(Clone, Default)]
pub(crate) struct Tensors(pub(crate) BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>);

impl Tensors {
    /// Everything that the model of a configuration reads, with seeded values.
    pub(crate) fn of(config: &Config) -> Self {
        let mut recorder = Recorder { source: SeededWeights::new(7), read: Vec::new() };
        Transformer::new(config.clone(), &mut recorder, Precision::F32).unwrap();
        let mut tensors = Self::default();
        recorder.read.iter().for_each(|(name, shape, values)| tensors.put(name, shape, values));
        tensors
    }

    pub(crate) fn put(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.0.insert(name.to_owned(), (Dtype::F32, shape.to_vec(), bytes));
    }

    pub(crate) fn rename(&mut self, from: &str, to: &str) {
        let tensor = self.0.remove(from).unwrap();
        self.0.insert(to.to_owned(), tensor);
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let views = self
            .0
            .iter()
            .map(|(name, (dtype, shape, bytes))| (name, TensorView::new(*dtype, shape.clone(), bytes).unwrap()));
        safetensors::serialize(views, None).unwrap()
    }
}

struct Recorder {
    source: SeededWeights,
    read: Vec<(String, Vec<usize>, Vec<f32>)>,
}

impl TensorSource for Recorder {
    fn has(&self, name: &str) -> bool {
        self.source.has(name)
    }

    fn open(&mut self, name: &str, shape: &[usize]) -> Result<(), Error> {
        self.read.push((name.to_owned(), shape.to_vec(), Vec::new()));
        self.source.open(name, shape)
    }

    fn read(&mut self, values: &mut [f32]) -> Result<(), Error> {
        self.source.read(values)?;
        self.read.last_mut().unwrap().2.extend_from_slice(values);
        Ok(())
    }
}
