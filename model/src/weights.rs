//! The weights of a model, packed for the kernels.

use crate::config::Positions;
use crate::matrix::Matrix;
use crate::{Config, Error, TensorSource};
use gristmill::{MatRef, PackedRhs};
use std::ops::Range;
use std::sync::Arc;

/// `y = x W^T + b`.
pub(crate) struct Linear {
    pub(crate) weight: Arc<PackedRhs>,
    pub(crate) bias: Option<Vec<f32>>,
}

/// The factors and shifts of a norm.
pub(crate) struct Norm {
    pub(crate) gamma: Vec<f32>,
    pub(crate) beta: Option<Vec<f32>>,
}

/// Attention of a sequence to itself: one product gives queries, keys and values side by side.
pub(crate) struct SelfAttention {
    pub(crate) qkv: Linear,
    pub(crate) out: Linear,
}

/// Attention of targets to sources: keys and values are a product of their own, done once per source.
pub(crate) struct CrossAttention {
    pub(crate) q: Linear,
    pub(crate) kv: Linear,
    pub(crate) out: Linear,
}

/// Two linear layers with an activation between.
pub(crate) struct FeedForward {
    pub(crate) up: Linear,
    pub(crate) down: Linear,
}

pub(crate) struct EncoderLayer {
    pub(crate) attention: SelfAttention,
    pub(crate) feed_forward: FeedForward,
    /// In the order of the sublayers.
    pub(crate) norms: [Norm; 2],
}

pub(crate) struct DecoderLayer {
    pub(crate) attention: SelfAttention,
    pub(crate) cross: CrossAttention,
    pub(crate) feed_forward: FeedForward,
    /// In the order of the sublayers.
    pub(crate) norms: [Norm; 3],
}

/// A row per id.
pub(crate) enum Table {
    Plain(Matrix),
    /// Shared with the generator.
    Packed(Arc<PackedRhs>),
}

/// What turns ids into the first residual stream of the encoder or the decoder.
pub(crate) struct Embedding {
    pub(crate) table: Arc<Table>,
    /// Learned positions, `[max_length, D]`; none where they are sinusoidal.
    pub(crate) positions: Option<Matrix>,
}

/// All of a model's weights.
pub(crate) struct Weights {
    pub(crate) source: Embedding,
    pub(crate) target: Embedding,
    pub(crate) encoder: Vec<EncoderLayer>,
    pub(crate) encoder_norm: Option<Norm>,
    pub(crate) decoder: Vec<DecoderLayer>,
    pub(crate) decoder_norm: Option<Norm>,
    pub(crate) generator: Linear,
}

impl Weights {
    /// Reads and packs everything, one tensor at a time.
    pub(crate) fn read(config: &Config, source: &mut impl TensorSource) -> Result<Self, Error> {
        let mut reader = Reader { config, source, values: Vec::new() };
        let (tables, generator) = reader.vocabulary()?;
        let [source_table, target_table] = tables;
        let weights = Self {
            source: Embedding { table: source_table, positions: reader.positions("src_positions.weight")? },
            target: Embedding { table: target_table, positions: reader.positions("tgt_positions.weight")? },
            encoder: reader.layers("encoder", config.encoder_layers, Reader::encoder_layer)?,
            encoder_norm: reader.final_norm("encoder.norm")?,
            decoder: reader.layers("decoder", config.decoder_layers, Reader::decoder_layer)?,
            decoder_norm: reader.final_norm("decoder.norm")?,
            generator,
        };
        reader.source.finish()?;
        Ok(weights)
    }
}

const SRC_EMBED: &str = "src_embed.weight";
const TGT_EMBED: &str = "tgt_embed.weight";
const GENERATOR: &str = "generator.weight";

struct Reader<'a, S> {
    config: &'a Config,
    source: &'a mut S,
    /// The tensor read last.
    values: Vec<f32>,
}

impl<S: TensorSource> Reader<'_, S> {
    fn read(&mut self, name: &str, shape: &[usize]) -> Result<(), Error> {
        self.source.read(name, shape, &mut self.values)
    }

    fn vector(&mut self, name: &str, length: usize) -> Result<Vec<f32>, Error> {
        self.read(name, &[length])?;
        Ok(self.values.clone())
    }

    fn bias(&mut self, name: &str, length: usize) -> Result<Option<Vec<f32>>, Error> {
        if self.config.bias { self.vector(name, length).map(Some) } else { Ok(None) }
    }

    /// Packs rows of the tensor read last, which has `inputs` columns.
    fn pack(&self, rows: Range<usize>, inputs: usize) -> Result<Arc<PackedRhs>, Error> {
        let values = &self.values[rows.start * inputs..rows.end * inputs];
        Ok(Arc::new(PackedRhs::from_out_in(MatRef::new(values, rows.len(), inputs)?)?))
    }

    fn linear(&mut self, name: &str, inputs: usize, outputs: usize) -> Result<Linear, Error> {
        self.read(&format!("{name}.weight"), &[outputs, inputs])?;
        let weight = self.pack(0..outputs, inputs)?;
        Ok(Linear { weight, bias: self.bias(&format!("{name}.bias"), outputs)? })
    }

    fn norm(&mut self, name: &str) -> Result<Norm, Error> {
        let width = self.config.d_model;
        let gamma = self.vector(&format!("{name}.weight"), width)?;
        Ok(Norm { gamma, beta: self.bias(&format!("{name}.bias"), width)? })
    }

    fn final_norm(&mut self, name: &str) -> Result<Option<Norm>, Error> {
        if self.config.final_norm { self.norm(name).map(Some) } else { Ok(None) }
    }

    /// Reads the stacked query, key and value projections, for [`block`](Reader::block); gives their biases.
    fn in_proj(&mut self, name: &str) -> Result<Option<Vec<f32>>, Error> {
        let d = self.config.d_model;
        let bias = self.bias(&format!("{name}.in_proj_bias"), 3 * d)?;
        self.read(&format!("{name}.in_proj_weight"), &[3 * d, d])?;
        Ok(bias)
    }

    /// The linear layer of some outputs of the stacked projections.
    fn block(&self, bias: Option<&[f32]>, outputs: Range<usize>) -> Result<Linear, Error> {
        let bias = bias.map(|bias| bias[outputs.clone()].to_vec());
        Ok(Linear { weight: self.pack(outputs, self.config.d_model)?, bias })
    }

    fn self_attention(&mut self, name: &str) -> Result<SelfAttention, Error> {
        let d = self.config.d_model;
        let bias = self.in_proj(name)?;
        let qkv = self.block(bias.as_deref(), 0..3 * d)?;
        Ok(SelfAttention { qkv, out: self.linear(&format!("{name}.out_proj"), d, d)? })
    }

    fn cross_attention(&mut self, name: &str) -> Result<CrossAttention, Error> {
        let d = self.config.d_model;
        let bias = self.in_proj(name)?;
        let (q, kv) = (self.block(bias.as_deref(), 0..d)?, self.block(bias.as_deref(), d..3 * d)?);
        Ok(CrossAttention { q, kv, out: self.linear(&format!("{name}.out_proj"), d, d)? })
    }

    fn feed_forward(&mut self, layer: &str) -> Result<FeedForward, Error> {
        let (d, ff) = (self.config.d_model, self.config.d_ff);
        let up = self.linear(&format!("{layer}.linear1"), d, ff)?;
        Ok(FeedForward { up, down: self.linear(&format!("{layer}.linear2"), ff, d)? })
    }

    fn encoder_layer(&mut self, layer: &str) -> Result<EncoderLayer, Error> {
        Ok(EncoderLayer {
            attention: self.self_attention(&format!("{layer}.self_attn"))?,
            feed_forward: self.feed_forward(layer)?,
            norms: [self.norm(&format!("{layer}.norm1"))?, self.norm(&format!("{layer}.norm2"))?],
        })
    }

    fn decoder_layer(&mut self, layer: &str) -> Result<DecoderLayer, Error> {
        Ok(DecoderLayer {
            attention: self.self_attention(&format!("{layer}.self_attn"))?,
            cross: self.cross_attention(&format!("{layer}.multihead_attn"))?,
            feed_forward: self.feed_forward(layer)?,
            norms: [
                self.norm(&format!("{layer}.norm1"))?,
                self.norm(&format!("{layer}.norm2"))?,
                self.norm(&format!("{layer}.norm3"))?,
            ],
        })
    }

    fn layers<L>(
        &mut self,
        stack: &str,
        count: usize,
        layer: impl Fn(&mut Self, &str) -> Result<L, Error>,
    ) -> Result<Vec<L>, Error> {
        (0..count).map(|n| layer(self, &format!("{stack}.layers.{n}"))).collect()
    }

    fn positions(&mut self, name: &str) -> Result<Option<Matrix>, Error> {
        let Positions::Learned { max_length } = self.config.positions else { return Ok(None) };
        self.read(name, &[max_length, self.config.d_model])?;
        Matrix::from_slice(&self.values, max_length, self.config.d_model).map(Some)
    }

    /// The source table, the target table and the generator, whichever of them are one.
    fn vocabulary(&mut self) -> Result<([Arc<Table>; 2], Linear), Error> {
        let (d, vocab) = (self.config.d_model, self.config.tgt_vocab);
        // Either name will do for a shared table; only a source that can tell has both, and then they must agree.
        let shared = self.config.tied_embeddings;
        let only_source = shared && self.source.has(SRC_EMBED) && !self.source.has(TGT_EMBED);
        self.read(if only_source { SRC_EMBED } else { TGT_EMBED }, &[vocab, d])?;
        if shared && !only_source {
            self.check_tied(SRC_EMBED, vocab)?;
        }
        let target = if self.config.tied_output {
            self.check_tied(GENERATOR, vocab)?;
            Table::Packed(self.pack(0..vocab, d)?)
        } else {
            Table::Plain(Matrix::from_slice(&self.values, vocab, d)?)
        };
        let target = Arc::new(target);
        let source = if shared {
            Arc::clone(&target)
        } else {
            let rows = self.config.src_vocab;
            self.read(SRC_EMBED, &[rows, d])?;
            Arc::new(Table::Plain(Matrix::from_slice(&self.values, rows, d)?))
        };
        let weight = match &*target {
            Table::Packed(table) => Arc::clone(table),
            Table::Plain(_) => {
                self.read(GENERATOR, &[vocab, d])?;
                self.pack(0..vocab, d)?
            }
        };
        let bias = "generator.bias";
        let bias = if self.source.has(bias) { Some(self.vector(bias, vocab)?) } else { None };
        Ok(([source, target], Linear { weight, bias }))
    }

    /// Checks that tensor `name`, if it is there, equals the target table, which was read last.
    fn check_tied(&mut self, name: &'static str, vocab: usize) -> Result<(), Error> {
        if !self.source.has(name) {
            return Ok(());
        }
        let mut other = Vec::new();
        self.source.read(name, &[vocab, self.config.d_model], &mut other)?;
        let differs = |(a, b): (&f32, &f32)| a.to_bits() != b.to_bits();
        match self.values.iter().zip(&other).position(differs) {
            Some(index) => Err(Error::TensorTied { name, with: TGT_EMBED, index }),
            None => Ok(()),
        }
    }
}
