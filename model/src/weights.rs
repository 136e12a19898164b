//! The weights of a model, packed for the kernels.

use crate::config::{self, Positions};
use crate::matrix::Matrix;
use crate::{Config, Error, TensorSource};
use gristmill::simd::Element;
use gristmill::{Activation, MatRef, PackedRhs, PackedRhsBuilder};
use std::sync::Arc;

/// `y = activation(x W^T + b)`.
pub(crate) struct Linear<E: Element> {
    pub(crate) weight: Arc<PackedRhs<E>>,
    pub(crate) bias: Option<Vec<f32>>,
    pub(crate) activation: Activation,
}

/// The factors and shifts of a norm.
pub(crate) struct Norm {
    pub(crate) gamma: Vec<f32>,
    pub(crate) beta: Option<Vec<f32>>,
}

/// A part of a layer that adds to the residual stream: a product, attention or nothing, and another product.
pub(crate) struct Sublayer<E: Element> {
    /// Of attention: queries, and where keys and values come from the same rows, those beside them.
    pub(crate) first: Linear<E>,
    pub(crate) last: Linear<E>,
    pub(crate) norm: Norm,
}

/// Attention of targets to sources: keys and values are a product of their own, done once per source.
pub(crate) struct CrossAttention<E: Element> {
    pub(crate) sublayer: Sublayer<E>,
    pub(crate) keys_values: Linear<E>,
}

/// A layer of the encoder, or of the decoder.
pub(crate) struct Layer<E: Element> {
    pub(crate) attention: Sublayer<E>,
    /// The decoder's.
    pub(crate) cross: Option<CrossAttention<E>>,
    pub(crate) feed_forward: Sublayer<E>,
}

/// A row per id.
pub(crate) enum Table<E: Element> {
    Plain(Matrix<E>),
    /// Shared with the generator.
    Packed(Arc<PackedRhs<E>>),
}

impl<E: Element> Table<E> {
    /// The row of an id.
    fn row(&self, id: usize, row: &mut [E]) -> Result<(), Error> {
        match self {
            Table::Plain(table) => row.copy_from_slice(table.row(id)),
            Table::Packed(table) => table.row_into(id, row)?,
        }
        Ok(())
    }
}

/// What turns ids into the first residual stream of the encoder or the decoder.
pub(crate) struct Embedding<E: Element> {
    pub(crate) table: Arc<Table<E>>,
    /// Learned positions, `[max_length, D]`; none where they are sinusoidal.
    pub(crate) positions: Option<Matrix>,
}

/// All of a model's weights.
pub(crate) struct Weights<E: Element> {
    pub(crate) source: Embedding<E>,
    pub(crate) target: Embedding<E>,
    pub(crate) encoder: Vec<Layer<E>>,
    pub(crate) encoder_norm: Option<Norm>,
    pub(crate) decoder: Vec<Layer<E>>,
    pub(crate) decoder_norm: Option<Norm>,
    pub(crate) generator: Linear<E>,
    /// Bytes in memory of all that.
    pub(crate) bytes: usize,
}

impl<E: Element> Weights<E> {
    /// Reads and packs everything, one tensor at a time.
    pub(crate) fn read(config: &Config, source: &mut impl TensorSource) -> Result<Self, Error> {
        let mut reader = Reader { config, source, block: Vec::new(), bytes: 0 };
        let Vocabulary { source: source_table, target: target_table, generator } = reader.vocabulary()?;
        let mut weights = Self {
            source: Embedding { table: source_table, positions: reader.positions("src_positions.weight")? },
            target: Embedding { table: target_table, positions: reader.positions("tgt_positions.weight")? },
            encoder: reader.layers("encoder", config.encoder_layers, None)?,
            encoder_norm: reader.final_norm("encoder.norm")?,
            decoder: reader.layers("decoder", config.decoder_layers, Some("multihead_attn"))?,
            decoder_norm: reader.final_norm("decoder.norm")?,
            generator,
            bytes: 0,
        };
        weights.bytes = reader.bytes;
        reader.source.finish()?;
        Ok(weights)
    }
}

/// The tables and the generator, whichever of them are one.
struct Vocabulary<E: Element> {
    source: Arc<Table<E>>,
    target: Arc<Table<E>>,
    generator: Linear<E>,
}

const SRC_EMBED: &str = "src_embed.weight";
const TGT_EMBED: &str = "tgt_embed.weight";
const GENERATOR: &str = "generator.weight";

/// Values of a large tensor that are in memory at a time, unless 16 of its rows are more: a fraction of the L2 cache.
const BLOCK: usize = 32 << 10;

struct Reader<'a, S> {
    config: &'a Config,
    source: &'a mut S,
    /// The rows read last.
    block: Vec<f32>,
    /// Bytes of all that is kept.
    bytes: usize,
}

impl<S: TensorSource> Reader<'_, S> {
    fn vector(&mut self, name: &str, length: usize) -> Result<Vec<f32>, Error> {
        self.source.open(name, &[length])?;
        let mut values = Vec::new();
        values.try_reserve_exact(length).map_err(|_| Error::OutOfMemory { elements: length })?;
        values.resize(length, 0.0);
        self.source.read(&mut values)?;
        self.bytes += size_of_val(&values[..]);
        Ok(values)
    }

    fn bias(&mut self, name: &str, length: usize) -> Result<Option<Vec<f32>>, Error> {
        if self.config.bias { self.vector(name, length).map(Some) } else { Ok(None) }
    }

    fn matrix<E: Element>(&mut self, name: &str, rows: usize, cols: usize) -> Result<Matrix<E>, Error> {
        self.source.open(name, &[rows, cols])?;
        let mut matrix = Matrix::default();
        matrix.reshape(rows, cols)?;
        for values in matrix.values_mut().chunks_mut(BLOCK) {
            self.read(values.len())?;
            values.iter_mut().zip(&self.block).for_each(|(value, &read)| *value = E::from_f32(read));
        }
        self.bytes += size_of_val(matrix.values());
        Ok(matrix)
    }

    /// Reads the next elements of the open tensor into the block.
    fn read(&mut self, elements: usize) -> Result<(), Error> {
        let more = elements.saturating_sub(self.block.len());
        self.block.try_reserve(more).map_err(|_| Error::OutOfMemory { elements })?;
        self.block.resize(elements, 0.0);
        self.source.read(&mut self.block)
    }

    /// Reads the next rows of the open tensor, at most `limit`.
    fn rows(&mut self, limit: usize, cols: usize) -> Result<MatRef<'_, f32>, Error> {
        let rows = (BLOCK / cols).next_multiple_of(16).clamp(16, limit.max(16)).min(limit);
        self.read(rows.saturating_mul(cols))?;
        Ok(MatRef::new(&self.block, rows, cols)?)
    }

    /// Packs a weight, cut into as many as there are outputs.
    fn packed<E: Element, const N: usize>(
        &mut self,
        name: &str,
        inputs: usize,
        outputs: [usize; N],
    ) -> Result<[Arc<PackedRhs<E>>; N], Error> {
        self.source.open(name, &[outputs.iter().sum(), inputs])?;
        let mut packed = Vec::with_capacity(N);
        for outputs in outputs {
            let mut builder = PackedRhsBuilder::new(inputs, outputs)?;
            while builder.left() > 0 {
                builder.push(self.rows(builder.left(), inputs)?)?;
            }
            let weight = builder.finish()?;
            self.bytes += weight.bytes();
            packed.push(Arc::new(weight));
        }
        Ok(packed.try_into().expect("a weight for each number of outputs"))
    }

    fn linear<E: Element>(&mut self, name: &str, inputs: usize, outputs: usize) -> Result<Linear<E>, Error> {
        let [weight] = self.packed(&format!("{name}.weight"), inputs, [outputs])?;
        Ok(Linear { weight, bias: self.bias(&format!("{name}.bias"), outputs)?, activation: Activation::Identity })
    }

    fn norm(&mut self, name: &str) -> Result<Norm, Error> {
        let width = self.config.d_model;
        let gamma = self.vector(&format!("{name}.weight"), width)?;
        Ok(Norm { gamma, beta: self.bias(&format!("{name}.bias"), width)? })
    }

    fn final_norm(&mut self, name: &str) -> Result<Option<Norm>, Error> {
        if self.config.final_norm { self.norm(name).map(Some) } else { Ok(None) }
    }

    /// The stacked query, key and value projections, cut into linear layers of so many outputs.
    fn in_proj<E: Element, const N: usize>(
        &mut self,
        name: &str,
        outputs: [usize; N],
    ) -> Result<[Linear<E>; N], Error> {
        let d = self.config.d_model;
        let bias = self.bias(&format!("{name}.in_proj_bias"), 3 * d)?;
        let weights = self.packed::<E, N>(&format!("{name}.in_proj_weight"), d, outputs)?;
        let mut next = 0;
        Ok(weights.map(|weight| {
            let outputs = next..next + weight.n();
            next = outputs.end;
            let bias = bias.as_ref().map(|bias| bias[outputs].to_vec());
            Linear { weight, bias, activation: Activation::Identity }
        }))
    }

    /// A sublayer from its first product on; `inputs` of its last.
    fn sublayer<E: Element>(
        &mut self,
        first: Linear<E>,
        last: &str,
        inputs: usize,
        norm: &str,
    ) -> Result<Sublayer<E>, Error> {
        Ok(Sublayer { first, last: self.linear(last, inputs, self.config.d_model)?, norm: self.norm(norm)? })
    }

    /// The layers of a stack; `cross` names what attends to sources, where there is such a thing.
    fn layers<E: Element>(&mut self, stack: &str, count: usize, cross: Option<&str>) -> Result<Vec<Layer<E>>, Error> {
        let (d, ff) = (self.config.d_model, self.config.d_ff);
        let layer = |n| {
            let within = |part: &str| format!("{stack}.layers.{n}.{part}");
            let [qkv] = self.in_proj(&within("self_attn"), [3 * d])?;
            let attention = self.sublayer(qkv, &within("self_attn.out_proj"), d, &within("norm1"))?;
            let cross = cross.map(|cross| {
                let [q, keys_values] = self.in_proj(&within(cross), [d, 2 * d])?;
                let sublayer = self.sublayer(q, &within(&format!("{cross}.out_proj")), d, &within("norm2"))?;
                Ok::<_, Error>(CrossAttention { sublayer, keys_values })
            });
            let cross = cross.transpose()?;
            let activation = match self.config.activation {
                config::Activation::Relu => Activation::Relu,
                config::Activation::Gelu => Activation::Gelu,
            };
            let up = Linear { activation, ..self.linear(&within("linear1"), d, ff)? };
            let norm = within(if cross.is_some() { "norm3" } else { "norm2" });
            Ok(Layer { attention, cross, feed_forward: self.sublayer(up, &within("linear2"), ff, &norm)? })
        };
        (0..count).map(layer).collect()
    }

    fn positions(&mut self, name: &str) -> Result<Option<Matrix>, Error> {
        let Positions::Learned { max_length } = self.config.positions else { return Ok(None) };
        self.matrix(name, max_length, self.config.d_model).map(Some)
    }

    fn vocabulary<E: Element>(&mut self) -> Result<Vocabulary<E>, Error> {
        let &Config { d_model: d, tgt_vocab, src_vocab, tied_embeddings, tied_output, .. } = self.config;
        // Either name will do for a shared table; only a source that can tell has both, and then they must agree.
        let only_source = tied_embeddings && self.source.has(SRC_EMBED) && !self.source.has(TGT_EMBED);
        let name = if only_source { SRC_EMBED } else { TGT_EMBED };
        let target = if tied_output {
            let [packed] = self.packed(name, d, [tgt_vocab])?;
            let table = Table::Packed(packed);
            self.check_tied(GENERATOR, &table)?;
            table
        } else {
            Table::Plain(self.matrix(name, tgt_vocab, d)?)
        };
        let target = Arc::new(target);
        let source = if tied_embeddings {
            if !only_source {
                self.check_tied(SRC_EMBED, &target)?;
            }
            Arc::clone(&target)
        } else {
            Arc::new(Table::Plain(self.matrix(SRC_EMBED, src_vocab, d)?))
        };
        let weight = match &*target {
            Table::Packed(table) => Arc::clone(table),
            Table::Plain(_) => self.packed(GENERATOR, d, [tgt_vocab])?[0].clone(),
        };
        let bias = "generator.bias";
        let bias = if self.source.has(bias) { Some(self.vector(bias, tgt_vocab)?) } else { None };
        Ok(Vocabulary { source, target, generator: Linear { weight, bias, activation: Activation::Identity } })
    }

    /// Checks that tensor `name`, if it is there, equals the target table as it is stored.
    fn check_tied<E: Element>(&mut self, name: &'static str, table: &Table<E>) -> Result<(), Error> {
        let Config { d_model, tgt_vocab, .. } = *self.config;
        if !self.source.has(name) {
            return Ok(());
        }
        self.source.open(name, &[tgt_vocab, d_model])?;
        let mut expected = vec![E::default(); d_model];
        for id in 0..tgt_vocab {
            self.read(d_model)?;
            table.row(id, &mut expected)?;
            let differs = |(a, b): (&f32, &E)| E::from_f32(*a).to_bits() != b.to_bits();
            if let Some(column) = self.block.iter().zip(&expected).position(differs) {
                return Err(Error::TensorTied { name, with: TGT_EMBED, index: id * d_model + column });
            }
        }
        Ok(())
    }
}
