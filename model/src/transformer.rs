//! The model: a configuration and its weights.

use crate::engine::Stored;
use crate::weights::Weights;
use crate::{Checkpoint, Config, Error, Precision, Result, SeededWeights, TensorSource};
use gristmill::{bf16, f16};
use std::{fmt, path::Path};

/// An encoder-decoder with its weights packed for the kernels.
///
/// It never changes: any number of [`Session`](crate::Session)s, one per thread, can share one `&Transformer`.
pub struct Transformer {
    config: Config,
    precision: Precision,
    pub(crate) weights: Box<dyn Stored>,
}

impl Transformer {
    /// Reads every tensor of the configuration from a source, which must have no others.
    ///
    /// # Errors
    /// As [`Config::validate`] and the source; [`Error::TensorTied`] when tied tensors differ; [`Error::Kernel`] when
    /// there is no memory or `GRISTMILL_LEVEL` pins a level that cannot be used.
    pub fn new(config: Config, source: &mut impl TensorSource, precision: Precision) -> Result<Self> {
        config.validate()?;
        let total = config.model_bytes(precision)?;
        let weights: Box<dyn Stored> = match precision {
            Precision::F32 => Box::new(Weights::<f32>::read(&config, total, source)?),
            Precision::F16 => Box::new(Weights::<f16>::read(&config, total, source)?),
            Precision::Bf16 => Box::new(Weights::<bf16>::read(&config, total, source)?),
        };
        Ok(Self { config, precision, weights })
    }

    /// Loads `folder/config.json` and `folder/model.safetensors`; see [`Checkpoint`].
    ///
    /// # Errors
    /// As [`Checkpoint::open`] and [`Transformer::new`].
    pub fn load(folder: impl AsRef<Path>, precision: Precision) -> Result<Self> {
        let mut checkpoint = Checkpoint::open(folder)?;
        Self::new(checkpoint.config().clone(), &mut checkpoint, precision)
    }

    /// A model with [`SeededWeights`].
    ///
    /// # Errors
    /// As [`Config::validate`]; [`Error::Kernel`] as of [`new`](Transformer::new).
    pub fn seeded(config: Config, seed: u64, precision: Precision) -> Result<Self> {
        Self::new(config, &mut SeededWeights::new(seed), precision)
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The storage type.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Bytes of the weights in memory. [`Config::model_bytes`] knows them beforehand.
    pub fn bytes(&self) -> usize {
        self.weights.bytes()
    }

    /// Checks a source sentence.
    ///
    /// # Errors
    /// [`Error::IdOutOfRange`] for an id that is not a source's, [`Error::TooLong`] for more than the learned positions.
    pub fn check_source(&self, ids: &[u32]) -> Result {
        self.check(ids, self.config.src_vocab, ids.len())
    }

    /// The same of a target sentence.
    ///
    /// # Errors
    /// As [`check_source`](Transformer::check_source).
    pub fn check_target(&self, ids: &[u32]) -> Result {
        self.check(ids, self.config.tgt_vocab, ids.len())
    }

    /// Checks ids of sentences of some length.
    pub(crate) fn check(&self, ids: &[u32], vocabulary: usize, length: usize) -> Result {
        check_ids(ids, vocabulary)?;
        let exceeded = self.config.max_length().filter(|&max_length| length > max_length);
        exceeded.map_or(Ok(()), |max_length| Err(Error::TooLong { length, max_length }))
    }
}

/// Checks that all ids belong to a vocabulary.
pub(crate) fn check_ids(ids: &[u32], vocabulary: usize) -> Result {
    let stranger = ids.iter().position(|&id| id as usize >= vocabulary);
    stranger.map_or(Ok(()), |position| Err(Error::IdOutOfRange { position, id: ids[position], vocabulary }))
}

impl fmt::Debug for Transformer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transformer").field("config", &self.config).finish_non_exhaustive()
    }
}
