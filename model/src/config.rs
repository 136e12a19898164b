//! The shape of a model, as `config.json` gives it.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// Sizes and conventions of an encoder-decoder.
///
/// The fields are those of `config.json`. [`Config::base`] and [`Config::big`] are the paper's; other sizes by
/// `Config { d_model: 256, ..Config::base() }`. Whatever takes a configuration calls [`Config::validate`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// Width of every residual stream, D.
    pub d_model: usize,
    /// Attention heads, each of `d_model / heads`.
    pub heads: usize,
    /// Encoder layers.
    pub encoder_layers: usize,
    /// Decoder layers.
    pub decoder_layers: usize,
    /// Width of the feed-forward networks.
    pub d_ff: usize,
    /// Source ids are below this.
    pub src_vocab: usize,
    /// Target ids are below this.
    pub tgt_vocab: usize,
    /// Between the two linear layers of a feed-forward network.
    pub activation: Activation,
    /// Where the norms stand.
    pub norm: NormOrder,
    /// Whether `encoder.norm` and `decoder.norm` exist.
    #[serde(default)]
    pub final_norm: bool,
    /// Added to the variance in every norm.
    pub norm_eps: f32,
    /// Whether projections, linear layers and norms have biases. The generator's is judged by its presence.
    #[serde(default = "yes")]
    pub bias: bool,
    /// Embeddings are multiplied by this before positions are added.
    pub embed_scale: f32,
    /// How positions are told apart.
    pub positions: Positions,
    /// `generator.weight` is `tgt_embed.weight`.
    #[serde(default)]
    pub tied_output: bool,
    /// `src_embed.weight` is `tgt_embed.weight`.
    #[serde(default)]
    pub tied_embeddings: bool,
    /// Target sentences begin with this id; generation needs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bos: Option<u32>,
    /// Generation ends with this id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eos: Option<u32>,
    /// An ordinary id to the model; text leaves it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pad: Option<u32>,
    /// Stands for text that no token matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unk: Option<u32>,
    /// The text of every source id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub src_tokens: Option<Vec<String>>,
    /// The text of every target id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tgt_tokens: Option<Vec<String>>,
}

fn yes() -> bool {
    true
}

/// The feed-forward networks' activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Activation {
    /// `max(x, 0)`, the paper's.
    Relu,
    /// Exact GELU, by the error function.
    Gelu,
}

/// Where a layer's norms stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NormOrder {
    /// `x = norm(x + sublayer(x))`, the paper's.
    Post,
    /// `x = x + sublayer(norm(x))`.
    Pre,
}

/// How positions are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Positions {
    /// The paper's sines (even columns) and cosines (odd columns); sentences of any length.
    Sinusoidal,
    /// `src_positions.weight` and `tgt_positions.weight`.
    Learned {
        /// Sentences have at most this many tokens.
        max_length: usize,
    },
}

impl Config {
    /// The paper's base model: 63 million parameters.
    pub fn base() -> Self {
        Self {
            d_model: 512,
            heads: 8,
            encoder_layers: 6,
            decoder_layers: 6,
            d_ff: 2048,
            src_vocab: 37_000,
            tgt_vocab: 37_000,
            activation: Activation::Relu,
            norm: NormOrder::Post,
            final_norm: false,
            norm_eps: 1e-5,
            bias: true,
            embed_scale: 512f32.sqrt(),
            positions: Positions::Sinusoidal,
            tied_output: true,
            tied_embeddings: true,
            bos: Some(2),
            eos: Some(3),
            pad: Some(1),
            unk: Some(0),
            src_tokens: None,
            tgt_tokens: None,
        }
    }

    /// The paper's big model: 214 million parameters.
    pub fn big() -> Self {
        Self { d_model: 1024, heads: 16, d_ff: 4096, embed_scale: 32.0, ..Self::base() }
    }

    /// Reads and validates `config.json`. Unknown keys are ignored.
    ///
    /// # Errors
    /// [`Error::ConfigSyntax`] for anything but the JSON of a configuration, and as [`validate`](Config::validate).
    pub fn from_json(json: &[u8]) -> Result<Self> {
        let config: Self = serde_json::from_slice(json).map_err(|e| Error::ConfigSyntax(e.to_string()))?;
        config.validate()?;
        Ok(config)
    }

    /// Finds the first contradiction.
    ///
    /// # Errors
    /// [`Error::ConfigZero`], [`Error::ConfigHeads`], [`Error::ConfigNumber`], [`Error::ConfigTied`],
    /// [`Error::ConfigSpecial`], [`Error::ConfigTokens`] or [`Error::ConfigSize`].
    pub fn validate(&self) -> Result {
        let sizes = [
            ("d_model", self.d_model),
            ("heads", self.heads),
            ("d_ff", self.d_ff),
            ("src_vocab", self.src_vocab),
            ("tgt_vocab", self.tgt_vocab),
            ("positions.max_length", self.max_length().unwrap_or(1)),
        ];
        if let Some(&(field, _)) = sizes.iter().find(|(_, size)| *size == 0) {
            return Err(Error::ConfigZero { field });
        }
        if !self.d_model.is_multiple_of(self.heads) {
            return Err(Error::ConfigHeads { d_model: self.d_model, heads: self.heads });
        }
        for (field, value, least) in [("norm_eps", self.norm_eps, 0.0), ("embed_scale", self.embed_scale, f32::MIN)] {
            if !(least..=f32::MAX).contains(&value) {
                return Err(Error::ConfigNumber { field, value });
            }
        }
        if self.tied_embeddings && self.src_vocab != self.tgt_vocab {
            return Err(Error::ConfigTied { src_vocab: self.src_vocab, tgt_vocab: self.tgt_vocab });
        }
        self.validate_tokens()?;
        self.parameters().map(drop)
    }

    fn validate_tokens(&self) -> Result {
        // Target sentences hold them; source sentences get them from text only.
        let vocabulary = if self.src_tokens.is_some() { self.src_vocab.min(self.tgt_vocab) } else { self.tgt_vocab };
        let specials = [("bos", self.bos), ("eos", self.eos)].map(|(field, id)| (field, id, vocabulary));
        // Only text knows an unk, and no sentence needs a pad: they may belong to either vocabulary.
        let either = self.src_vocab.max(self.tgt_vocab);
        let unk = if self.src_tokens.is_some() { self.src_vocab } else { either };
        let others = [("pad", self.pad, either), ("unk", self.unk, unk)];
        for (field, id, vocabulary) in specials.into_iter().chain(others) {
            if let Some(id) = id.filter(|&id| id as usize >= vocabulary) {
                return Err(Error::ConfigSpecial { field, id, vocabulary });
            }
        }
        let lists =
            [("src_tokens", &self.src_tokens, self.src_vocab), ("tgt_tokens", &self.tgt_tokens, self.tgt_vocab)];
        for (field, tokens, vocabulary) in lists {
            if let Some(tokens) = tokens.as_ref().filter(|tokens| tokens.len() != vocabulary) {
                return Err(Error::ConfigTokens { field, tokens: tokens.len(), vocabulary });
            }
        }
        Ok(())
    }

    /// Width of one head; 0 where there are none.
    pub fn d_head(&self) -> usize {
        self.d_model.checked_div(self.heads).unwrap_or(0)
    }

    /// The longest sentence, where positions are learned.
    pub fn max_length(&self) -> Option<usize> {
        match self.positions {
            Positions::Sinusoidal => None,
            Positions::Learned { max_length } => Some(max_length),
        }
    }
}
