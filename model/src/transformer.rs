//! The model: a configuration and its weights.

use crate::session::{Session, SessionOptions};
use crate::weights::Weights;
use crate::{Checkpoint, Config, Error, SeededWeights, TensorSource};
use std::fmt;
use std::path::Path;

/// An encoder-decoder with its weights packed for the kernels.
///
/// It never changes: any number of [`Session`]s, one per thread, can share one `&Transformer`.
pub struct Transformer {
    config: Config,
    weights: Weights,
}

impl Transformer {
    /// Reads every tensor of the configuration from a source, which must have no others.
    ///
    /// # Errors
    /// Whatever contradiction [`Config::validate`] finds, and whatever is wrong with a tensor.
    pub fn new(config: Config, source: &mut impl TensorSource) -> Result<Self, Error> {
        config.validate()?;
        let weights = Weights::read(&config, source)?;
        Ok(Self { config, weights })
    }

    /// Loads `folder/config.json` and `folder/model.safetensors`; see [`Checkpoint`].
    ///
    /// # Errors
    /// As [`Checkpoint::open`] and [`Transformer::new`].
    pub fn load(folder: impl AsRef<Path>) -> Result<Self, Error> {
        let mut checkpoint = Checkpoint::open(folder)?;
        Self::new(checkpoint.config().clone(), &mut checkpoint)
    }

    /// A model with [`SeededWeights`].
    ///
    /// # Errors
    /// Whatever contradiction [`Config::validate`] finds.
    pub fn seeded(config: Config, seed: u64) -> Result<Self, Error> {
        Self::new(config, &mut SeededWeights::new(seed))
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) fn weights(&self) -> &Weights {
        &self.weights
    }

    /// What is needed to run the model.
    ///
    /// # Errors
    /// [`Error::Kernel`] when the level, or the one that `GRISTMILL_LEVEL` pins, cannot be used.
    pub fn session<'a>(&'a self, options: SessionOptions<'a>) -> Result<Session<'a>, Error> {
        Session::new(self, options)
    }

    /// Checks that a source sentence consists of source ids and is not too long for learned positions.
    ///
    /// # Errors
    /// [`Error::IdOutOfRange`], [`Error::TooLong`].
    pub fn check_source(&self, ids: &[u32]) -> Result<(), Error> {
        self.check(ids, self.config.src_vocab)
    }

    /// Checks that a target sentence consists of target ids and is not too long for learned positions.
    ///
    /// # Errors
    /// [`Error::IdOutOfRange`], [`Error::TooLong`].
    pub fn check_target(&self, ids: &[u32]) -> Result<(), Error> {
        self.check(ids, self.config.tgt_vocab)
    }

    fn check(&self, ids: &[u32], vocabulary: usize) -> Result<(), Error> {
        if let Some(position) = ids.iter().position(|&id| id as usize >= vocabulary) {
            return Err(Error::IdOutOfRange { position, id: ids[position], vocabulary });
        }
        match self.config.max_length() {
            Some(max_length) if ids.len() > max_length => Err(Error::TooLong { length: ids.len(), max_length }),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Transformer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transformer").field("config", &self.config).finish_non_exhaustive()
    }
}
