//! Marian, the encoder-decoder of `candle-transformers`, with the weights of our seeded model.
//!
//! It differs from the paper in one thing: its positions are all sines, then all cosines, where the paper's alternate.
//! That is the same model with the columns of its residual stream in another order, so ours is translated by moving
//! columns of what reads the stream and rows of what writes it.

use super::tensor;
use crate::{cases::Task, contest::Contender, rivals::SentenceOperands};
use candle_core::{D, DType, Device, Result, Tensor};
use candle_nn::{Activation, VarBuilder};
use candle_transformers::models::marian::{Config, MTModel};
use gristmill_model::{Activation as OurActivation, Config as OurConfig, SeededWeights, TensorSource};
use std::collections::HashMap;

/// `None` for what Marian's published code cannot do: beams, or a step again and again from one cache.
pub(in crate::rivals) fn contender(operands: SentenceOperands<'_>) -> Option<Contender<'_>> {
    let SentenceOperands { case, sources, .. } = operands;
    let config = case.configuration()?;
    let translated = config.tied_embeddings && config.tied_output && config.activation == OurActivation::Relu;
    if !translated || matches!(case.task, Task::Step | Task::Beam4) {
        return None;
    }
    let (task, seq) = (case.task, case.seq);
    let mut marian = Marian::new(&config, operands).expect("Marian from our weights");
    let ids: Vec<u32> = sources.concat();
    let sources = Tensor::from_vec(ids, (case.batch, seq), &Device::Cpu).expect("sentences of one length");
    let call = move || match task {
        Task::Encoder => marian.encode(&sources),
        Task::Forced => marian.forward(&sources),
        Task::Greedy | Task::Step | Task::Beam4 => marian.greedy(&sources, seq),
    };
    Some(Contender::owning("candle-marian", call, move |result, output| {
        let result = result.as_ref().expect("Marian runs");
        read_last(task, result, output).expect("a tensor in memory");
    }))
}

/// Of the last sentence, its last token's row, or its ids.
fn read_last(task: Task, result: &Tensor, output: &mut [f32]) -> Result<()> {
    let last = |result: &Tensor| result.get(result.dim(0)? - 1);
    let sentence = last(result)?;
    match task {
        Task::Encoder => {
            let row = last(&sentence)?.to_vec1::<f32>()?;
            row.iter().enumerate().for_each(|(j, &value)| output[ours(j, row.len())] = value);
        }
        Task::Forced => output.copy_from_slice(&last(&sentence)?.to_vec1::<f32>()?),
        Task::Greedy | Task::Step | Task::Beam4 => {
            output.copy_from_slice(&sentence.to_dtype(DType::F32)?.to_vec1::<f32>()?);
        }
    }
    Ok(())
}

/// Our column of the stream that is Marian's column `j` of `d`: sines are our even columns, cosines the odd ones.
fn ours(j: usize, d: usize) -> usize {
    if j < d / 2 { 2 * j } else { 2 * (j - d / 2) + 1 }
}

struct Marian {
    model: MTModel,
    bos: u32,
}

impl Marian {
    fn new(config: &OurConfig, operands: SentenceOperands<'_>) -> Result<Marian> {
        let bos = config.bos.unwrap_or(0);
        let theirs = Config {
            vocab_size: config.tgt_vocab,
            decoder_vocab_size: None,
            max_position_embeddings: operands.case.seq + 1,
            encoder_layers: config.encoder_layers,
            encoder_ffn_dim: config.d_ff,
            encoder_attention_heads: config.heads,
            decoder_layers: config.decoder_layers,
            decoder_ffn_dim: config.d_ff,
            decoder_attention_heads: config.heads,
            use_cache: true,
            is_encoder_decoder: true,
            activation_function: Activation::Relu,
            d_model: config.d_model,
            decoder_start_token_id: bos,
            scale_embedding: true,
            pad_token_id: config.pad.unwrap_or(0),
            eos_token_id: config.eos.unwrap_or(0),
            forced_eos_token_id: config.eos.unwrap_or(0),
            share_encoder_decoder_embeddings: true,
        };
        let tensors = Translation::new(config, operands.seed).all()?;
        let variables = VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
        Ok(Marian { model: MTModel::new(&theirs, variables)?, bos })
    }

    fn encode(&mut self, sources: &Tensor) -> Result<Tensor> {
        self.model.reset_kv_cache();
        self.model.encoder().forward(sources, 0)
    }

    /// The logits of what follows each token, the sources being the targets as well.
    fn forward(&mut self, sources: &Tensor) -> Result<Tensor> {
        let memory = self.encode(sources)?;
        self.model.decode(sources, &memory, 0)
    }

    /// `count` ids for each sentence, the likeliest each time.
    fn greedy(&mut self, sources: &Tensor, count: usize) -> Result<Tensor> {
        let memory = self.encode(sources)?;
        let mut ids = Tensor::full(self.bos, (sources.dim(0)?, 1), &Device::Cpu)?;
        let mut all = Vec::with_capacity(count);
        for past in 0..count {
            ids = self.model.decode(&ids, &memory, past)?.argmax(D::Minus1)?;
            all.push(ids.clone());
        }
        Tensor::cat(&all, 1)
    }
}

/// Our weights under Marian's names, in Marian's order of columns.
struct Translation<'a> {
    config: &'a OurConfig,
    weights: SeededWeights,
    tensors: HashMap<String, Tensor>,
}

impl<'a> Translation<'a> {
    fn new(config: &'a OurConfig, seed: u64) -> Self {
        Translation { config, weights: SeededWeights::new(seed), tensors: HashMap::new() }
    }

    fn all(mut self) -> Result<HashMap<String, Tensor>> {
        let OurConfig { d_model, tgt_vocab, encoder_layers, decoder_layers, .. } = *self.config;
        let table = self.ours("tgt_embed.weight", &[tgt_vocab, d_model]);
        self.put("model.shared.weight", reading(&table, d_model), &[tgt_vocab, d_model])?;
        self.put("final_logits_bias", vec![0.0; tgt_vocab], &[1, tgt_vocab])?;
        for layer in 0..encoder_layers {
            self.layer("encoder", layer, &[("self_attn", "self_attn")])?;
        }
        for layer in 0..decoder_layers {
            self.layer("decoder", layer, &[("self_attn", "self_attn"), ("multihead_attn", "encoder_attn")])?;
        }
        Ok(self.tensors)
    }

    /// A layer whose attentions have these names, ours and Marian's; each is followed by a norm.
    fn layer(&mut self, stack: &str, layer: usize, attentions: &[(&str, &str)]) -> Result<()> {
        let (d, ff) = (self.config.d_model, self.config.d_ff);
        let (from, to) = (format!("{stack}.layers.{layer}"), format!("model.{stack}.layers.{layer}"));
        for (index, (ours, theirs)) in attentions.iter().enumerate() {
            let (ours, theirs) = (format!("{from}.{ours}"), format!("{to}.{theirs}"));
            let weight = self.ours(&format!("{ours}.in_proj_weight"), &[3 * d, d]);
            let bias = self.ours(&format!("{ours}.in_proj_bias"), &[3 * d]);
            for (part, name) in ["q_proj", "k_proj", "v_proj"].into_iter().enumerate() {
                let weight = reading(&weight[part * d * d..(part + 1) * d * d], d);
                self.put(&format!("{theirs}.{name}.weight"), weight, &[d, d])?;
                self.put(&format!("{theirs}.{name}.bias"), bias[part * d..(part + 1) * d].to_vec(), &[d])?;
            }
            self.written(&format!("{ours}.out_proj"), &format!("{theirs}.out_proj"), d)?;
            self.norm(&format!("{from}.norm{}", index + 1), &format!("{theirs}_layer_norm"))?;
        }
        let up = self.ours(&format!("{from}.linear1.weight"), &[ff, d]);
        self.put(&format!("{to}.fc1.weight"), reading(&up, d), &[ff, d])?;
        let bias = self.ours(&format!("{from}.linear1.bias"), &[ff]);
        self.put(&format!("{to}.fc1.bias"), bias, &[ff])?;
        self.written(&format!("{from}.linear2"), &format!("{to}.fc2"), ff)?;
        self.norm(&format!("{from}.norm{}", attentions.len() + 1), &format!("{to}.final_layer_norm"))
    }

    /// A linear layer from `inputs` to the stream.
    fn written(&mut self, ours: &str, theirs: &str, inputs: usize) -> Result<()> {
        let d = self.config.d_model;
        let weight = self.ours(&format!("{ours}.weight"), &[d, inputs]);
        let bias = self.ours(&format!("{ours}.bias"), &[d]);
        self.put(&format!("{theirs}.weight"), writing(&weight, d), &[d, inputs])?;
        self.put(&format!("{theirs}.bias"), writing(&bias, d), &[d])
    }

    fn norm(&mut self, ours: &str, theirs: &str) -> Result<()> {
        let d = self.config.d_model;
        for part in ["weight", "bias"] {
            let values = self.ours(&format!("{ours}.{part}"), &[d]);
            self.put(&format!("{theirs}.{part}"), writing(&values, d), &[d])?;
        }
        Ok(())
    }

    fn ours(&mut self, name: &str, shape: &[usize]) -> Vec<f32> {
        let mut values = vec![0.0; shape.iter().product()];
        let opened = self.weights.open(name, shape);
        opened.and_then(|()| self.weights.read(&mut values)).expect("seeded weights have every name");
        values
    }

    fn put(&mut self, name: &str, values: Vec<f32>, shape: &[usize]) -> Result<()> {
        self.tensors.insert(name.to_owned(), tensor(&values, shape)?);
        Ok(())
    }
}

/// A weight of rows over the stream, `d` values each, with its columns in Marian's order.
fn reading(weight: &[f32], d: usize) -> Vec<f32> {
    weight.chunks_exact(d).flat_map(|row| (0..d).map(|j| row[ours(j, d)])).collect()
}

/// `d` rows of equal length, one per column of the stream, in Marian's order.
fn writing(rows: &[f32], d: usize) -> Vec<f32> {
    let len = rows.len() / d;
    (0..d).flat_map(|j| &rows[ours(j, d) * len..][..len]).copied().collect()
}
