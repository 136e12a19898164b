//! Small models, their checkpoints, and sentences for them.

use crate::Rng;
use gristmill_model::{
    Activation, Checkpoint, Config, Error, NormOrder, Positions, Precision, SeededWeights, TensorSource, Transformer,
};
use half::{bf16, f16};
pub use safetensors::Dtype;
use safetensors::tensor::TensorView;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Of the weights.
const SEED: u64 = 7;

/// A model of odd sizes that is quick to run: nothing is a multiple of a register.
pub fn small() -> Config {
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

/// The small model with text: the second token of each side begins a sentence, the third ends it.
pub fn textual(source: &[&str], target: &[&str]) -> Config {
    let tokens = |tokens: &[&str]| Some(tokens.iter().map(|&token| token.to_owned()).collect());
    Config {
        src_vocab: source.len(),
        tgt_vocab: target.len(),
        bos: Some(1),
        eos: Some(2),
        pad: None,
        unk: None,
        src_tokens: tokens(source),
        tgt_tokens: tokens(target),
        ..small()
    }
}

/// Configurations that differ in every convention, with what tells them apart.
pub fn variants() -> Vec<(&'static str, Config)> {
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

/// The model of a configuration in f32 with the weights of [`TensorFile::of`].
///
/// # Panics
/// When the configuration contradicts itself.
#[track_caller]
pub fn seeded(config: Config) -> Transformer {
    Transformer::seeded(config, SEED, Precision::F32).unwrap()
}

/// Calls `check` with models of every convention in f32, and of the two orders of norms, of tied and of learned tables
/// in 16 bits.
pub fn for_every_variant(mut check: impl FnMut(&str, &Transformer)) {
    for (name, config) in variants() {
        for precision in Precision::ALL {
            if precision == Precision::F32 || ["pre, gelu, final norms", "tied output", "all tied"].contains(&name) {
                let model = Transformer::seeded(config.clone(), SEED, precision).unwrap();
                check(&format!("{name}, {precision}"), &model);
            }
        }
    }
}

/// Sentences of the given lengths with ids below `vocabulary`.
pub fn sentences(lengths: &[usize], vocabulary: usize, seed: u64) -> Vec<Vec<u32>> {
    let mut random = Rng::new(seed);
    lengths.iter().map(|&length| (0..length).map(|_| random.below(vocabulary) as u32).collect()).collect()
}

/// The contents of `config.json`.
pub fn json(config: &Config) -> Vec<u8> {
    serde_json::to_vec(config).expect("a configuration is JSON")
}

/// The model that two files in memory hold, in f32.
///
/// # Errors
/// Whatever is wrong with them.
pub fn load(config: &[u8], tensors: &[u8]) -> Result<Transformer, Error> {
    let mut checkpoint = Checkpoint::from_bytes(config, tensors)?;
    Transformer::new(checkpoint.config().clone(), &mut checkpoint, Precision::F32)
}

/// The tensors of a checkpoint, which can be spoilt: by name, type, shape and little-endian values.
#[derive(Clone, Default)]
pub struct TensorFile(pub BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>);

impl TensorFile {
    /// The tensors of the model that [`seeded`] makes.
    #[track_caller]
    pub fn of(config: &Config) -> Self {
        Self::seeded(config, SEED)
    }

    /// Everything that the model of a configuration reads, in f32, with the values of [`SeededWeights`].
    ///
    /// # Panics
    /// When the configuration contradicts itself.
    #[track_caller]
    pub fn seeded(config: &Config, seed: u64) -> Self {
        let mut recorder = Recorder { source: SeededWeights::new(seed), read: Vec::new() };
        Transformer::new(config.clone(), &mut recorder, Precision::F32).unwrap();
        let mut file = Self::default();
        recorder.read.iter().for_each(|(name, shape, values)| file.put(name, shape, values));
        file
    }

    /// Adds or replaces a tensor.
    pub fn put(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.0.insert(name.to_owned(), (Dtype::F32, shape.to_vec(), bytes));
    }

    /// Gives a tensor another name.
    ///
    /// # Panics
    /// When there is none of the old one.
    #[track_caller]
    pub fn rename(&mut self, from: &str, to: &str) {
        let tensor = self.0.remove(from).unwrap();
        self.0.insert(to.to_owned(), tensor);
    }

    /// Rounds an f32 tensor to f16 or bf16, or leaves it as it is.
    ///
    /// # Panics
    /// When there is no f32 tensor of that name, or the type is another one.
    #[track_caller]
    pub fn narrow(&mut self, name: &str, dtype: Dtype) {
        let (from, _, bytes) = self.0.get_mut(name).unwrap();
        assert_eq!(*from, Dtype::F32, "{name}");
        let values = bytes.as_chunks().0.iter().map(|&value| f32::from_le_bytes(value));
        let narrow = match dtype {
            Dtype::F32 => return,
            Dtype::F16 => values.flat_map(|value| f16::from_f32(value).to_le_bytes()).collect(),
            Dtype::BF16 => values.flat_map(|value| bf16::from_f32(value).to_le_bytes()).collect(),
            _ => panic!("no tensor is rounded to {dtype:?}"),
        };
        (*from, *bytes) = (dtype, narrow);
    }

    /// The contents of `model.safetensors`.
    ///
    /// # Panics
    /// When the size of a tensor is not that of its shape.
    pub fn bytes(&self) -> Vec<u8> {
        let tensors = self.0.iter();
        let views = tensors.map(|(name, (dtype, shape, bytes))| {
            let view = TensorView::new(*dtype, shape.clone(), bytes);
            (name, view.unwrap())
        });
        safetensors::serialize(views, None).unwrap()
    }
}

/// Remembers what was read: the tensors of a configuration.
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
        let (_, _, read) = self.read.last_mut().expect("a tensor is opened before it is read");
        read.extend_from_slice(values);
        Ok(())
    }
}

/// A folder for the files of one test, which vanishes with it.
pub struct Folder(PathBuf);

impl Folder {
    /// An empty folder; tests of one process call it by different names.
    ///
    /// # Panics
    /// When it cannot be made.
    #[track_caller]
    pub fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("gristmill-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    /// A folder with the checkpoint of [`TensorFile::of`].
    #[track_caller]
    pub fn with_checkpoint(name: &str, config: &Config) -> Self {
        let folder = Self::new(name);
        folder.write("config.json", &json(config));
        folder.write("model.safetensors", &TensorFile::of(config).bytes());
        folder
    }

    /// Writes a file.
    ///
    /// # Panics
    /// When that fails.
    #[track_caller]
    pub fn write(&self, name: &str, contents: &[u8]) {
        std::fs::write(self.0.join(name), contents).unwrap();
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A folder that stays is no reason for a test to fail.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
