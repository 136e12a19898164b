//! The weights of a model, packed for the kernels.

use crate::config;
use crate::matrix::Matrix;
use crate::{Config, Error, Result, TensorSource};
use gristmill::simd::Element;
use gristmill::{Activation, MatRef, PackedRhs, PackedRhsBuilder, list};
use std::sync::Arc;

/// `y = activation(x W^T + b)`.
pub(crate) struct Linear<E: Element> {
    pub(crate) weight: Arc<PackedRhs<E>>,
    pub(crate) bias: Option<Vec<f32>>,
    pub(crate) activation: Activation,
}

impl<E: Element> Linear<E> {
    /// Some of the outputs.
    pub(crate) fn select(&self, outputs: &[u32]) -> Result<Self> {
        let mut rows = Matrix::default();
        rows.reshape(outputs.len(), self.weight.k())?;
        for (row, &output) in outputs.iter().enumerate() {
            self.weight.row_into::<E>(output as usize, rows.row_mut(row))?;
        }
        let bias = self.bias.as_ref().map(|bias| list::collect(outputs.iter().map(|&output| bias[output as usize])));
        let mut weight = PackedRhs::from_out_in(rows.view())?;
        weight.set_working_set(self.weight.working_set());
        Ok(Self { weight: weight.into(), bias: bias.transpose()?, activation: self.activation })
    }
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
    fn row(&self, id: usize, row: &mut [E]) -> Result {
        match self {
            Table::Plain(table) => row.copy_from_slice(table.row(id)),
            Table::Packed(table) => table.row_into(id, row)?,
        }
        Ok(())
    }
}

/// The encoder or the decoder.
pub(crate) struct Stack<E: Element> {
    /// What turns ids into the first residual stream.
    pub(crate) table: Arc<Table<E>>,
    /// Learned positions, `[max_length, D]`; none where they are sinusoidal.
    pub(crate) positions: Option<Matrix>,
    pub(crate) layers: Vec<Layer<E>>,
    /// After the last layer.
    pub(crate) norm: Option<Norm>,
}

/// All of a model's weights.
pub(crate) struct Weights<E: Element> {
    pub(crate) encoder: Stack<E>,
    pub(crate) decoder: Stack<E>,
    pub(crate) generator: Linear<E>,
    /// Bytes in memory of all that.
    pub(crate) bytes: usize,
}

impl<E: Element> Weights<E> {
    /// Reads and packs everything, one tensor at a time.
    pub(crate) fn read(config: &Config, total: usize, source: &mut impl TensorSource) -> Result<Self> {
        let mut reader = Reader { config, source, block: Vec::new(), bytes: 0, total };
        let [sources, targets] = reader.tables()?;
        let generator = reader.generator(&targets)?;
        let encoder = reader.stack("encoder", sources, "src_positions.weight", config.encoder_layers, None)?;
        let cross = Some("multihead_attn");
        let decoder = reader.stack("decoder", targets, "tgt_positions.weight", config.decoder_layers, cross)?;
        reader.source.finish()?;
        Ok(Self { encoder, decoder, generator, bytes: reader.bytes })
    }
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
    /// What `bytes` will be.
    total: usize,
}

impl<S: TensorSource> Reader<'_, S> {
    fn vector(&mut self, name: &str, length: usize) -> Result<Vec<f32>> {
        self.source.open(name, &[length])?;
        let mut values = list::filled(0.0, length)?;
        self.source.read(&mut values)?;
        self.bytes += size_of_val(&values[..]);
        Ok(values)
    }

    fn bias(&mut self, name: &str, length: usize) -> Result<Option<Vec<f32>>> {
        if self.config.bias { self.vector(name, length).map(Some) } else { Ok(None) }
    }

    fn matrix<E: Element>(&mut self, name: &str, rows: usize, cols: usize) -> Result<Matrix<E>> {
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
    fn read(&mut self, elements: usize) -> Result {
        list::resize(&mut self.block, elements, 0.0)?;
        self.source.read(&mut self.block)
    }

    /// Reads the next rows of the open tensor, at most `limit`.
    fn rows(&mut self, limit: usize, cols: usize) -> Result<MatRef<'_, f32>> {
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
    ) -> Result<[Arc<PackedRhs<E>>; N]> {
        self.source.open(name, &[outputs.iter().sum(), inputs])?;
        let mut packed = Vec::with_capacity(N);
        for outputs in outputs {
            let mut builder = PackedRhsBuilder::new(inputs, outputs)?;
            while builder.left() > 0 {
                builder.push(self.rows(builder.left(), inputs)?)?;
            }
            let mut weight = builder.finish()?;
            weight.set_working_set(self.total);
            self.bytes += weight.bytes();
            packed.push(Arc::new(weight));
        }
        Ok(packed.try_into().expect("a weight for each number of outputs"))
    }

    fn linear<E: Element>(&mut self, name: &str, inputs: usize, outputs: usize) -> Result<Linear<E>> {
        let [weight] = self.packed(&format!("{name}.weight"), inputs, [outputs])?;
        Ok(Linear { weight, bias: self.bias(&format!("{name}.bias"), outputs)?, activation: Activation::Identity })
    }

    fn norm(&mut self, name: &str) -> Result<Norm> {
        let width = self.config.d_model;
        let gamma = self.vector(&format!("{name}.weight"), width)?;
        Ok(Norm { gamma, beta: self.bias(&format!("{name}.bias"), width)? })
    }

    /// The stacked query, key and value projections, cut into linear layers of so many outputs.
    fn in_proj<E: Element, const N: usize>(&mut self, name: &str, outputs: [usize; N]) -> Result<[Linear<E>; N]> {
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
    fn sublayer<E: Element>(&mut self, first: Linear<E>, last: &str, inputs: usize, norm: &str) -> Result<Sublayer<E>> {
        Ok(Sublayer { first, last: self.linear(last, inputs, self.config.d_model)?, norm: self.norm(norm)? })
    }

    /// The encoder or the decoder; `cross` names what attends to sources, where there is such a thing.
    fn stack<E: Element>(
        &mut self,
        name: &str,
        table: Arc<Table<E>>,
        positions: &str,
        layers: usize,
        cross: Option<&str>,
    ) -> Result<Stack<E>> {
        let &Config { d_model, final_norm, .. } = self.config;
        let max_length = self.config.max_length();
        Ok(Stack {
            table,
            positions: max_length.map(|max_length| self.matrix(positions, max_length, d_model)).transpose()?,
            layers: list::try_collect((0..layers).map(|n| self.layer(&format!("{name}.layers.{n}"), cross)))?,
            norm: if final_norm { Some(self.norm(&format!("{name}.norm"))?) } else { None },
        })
    }

    fn layer<E: Element>(&mut self, name: &str, cross: Option<&str>) -> Result<Layer<E>> {
        let (d, ff) = (self.config.d_model, self.config.d_ff);
        let within = |part: &str| format!("{name}.{part}");
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
    }

    /// The embeddings of sources and targets, which may be one table.
    fn tables<E: Element>(&mut self) -> Result<[Arc<Table<E>>; 2]> {
        let &Config { d_model: d, tgt_vocab, src_vocab, tied_embeddings, tied_output, .. } = self.config;
        // Either name will do for a shared table; only a source that can tell has both, and then they must agree.
        let only_source = tied_embeddings && self.source.has(SRC_EMBED) && !self.source.has(TGT_EMBED);
        let (name, other) = if only_source { (SRC_EMBED, TGT_EMBED) } else { (TGT_EMBED, SRC_EMBED) };
        let targets = Arc::new(if tied_output {
            let [packed] = self.packed(name, d, [tgt_vocab])?;
            let table = Table::Packed(packed);
            self.check_tied(GENERATOR, &table)?;
            table
        } else {
            Table::Plain(self.matrix(name, tgt_vocab, d)?)
        });
        let sources = if tied_embeddings {
            self.check_tied(other, &targets)?;
            Arc::clone(&targets)
        } else {
            Arc::new(Table::Plain(self.matrix(SRC_EMBED, src_vocab, d)?))
        };
        Ok([sources, targets])
    }

    /// The product that gives logits; its weight may be the table of targets.
    fn generator<E: Element>(&mut self, targets: &Table<E>) -> Result<Linear<E>> {
        let (d, tgt_vocab, bias) = (self.config.d_model, self.config.tgt_vocab, "generator.bias");
        let weight = match targets {
            Table::Packed(table) => Arc::clone(table),
            Table::Plain(_) => self.packed(GENERATOR, d, [tgt_vocab])?[0].clone(),
        };
        let bias = if self.source.has(bias) { Some(self.vector(bias, tgt_vocab)?) } else { None };
        Ok(Linear { weight, bias, activation: Activation::Identity })
    }

    /// Checks that tensor `name`, if it is there, equals the target table as it is stored.
    fn check_tied<E: Element>(&mut self, name: &'static str, table: &Table<E>) -> Result {
        let Config { d_model, tgt_vocab, .. } = *self.config;
        if !self.source.has(name) {
            return Ok(());
        }
        self.source.open(name, &[tgt_vocab, d_model])?;
        let mut expected = list::filled(E::default(), d_model)?;
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
