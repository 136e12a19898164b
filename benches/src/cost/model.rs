//! The operations of a Transformer, one after another.

use super::Cost;
use crate::cases::{Attention, Dtype, Gemm, Layout, MaskKind, Model, RowOp, Rows, Task};
use gristmill_model::Config;

impl Model {
    /// The configuration of the name, generating sentences of any length; `None` for a name that stands for none.
    pub fn configuration(&self) -> Option<Config> {
        let config = match self.config.as_str() {
            "base" => Config::base(),
            "big" => Config::big(),
            _ => return None,
        };
        Some(Config { eos: None, ..config })
    }

    /// Products with biases and what follows them on the tile, attention and norms, each with its own cost; embedding
    /// is free. Nothing for an unknown configuration.
    pub fn operations(&self) -> Vec<Cost> {
        self.configuration().map(|config| Passes { model: self, config: &config, beams: 1 }.all()).unwrap_or_default()
    }

    /// Bytes that are read again and again: the weights of the encoder, of one decoder step, or of the whole pass.
    pub fn footprint(&self) -> u64 {
        let Some(config) = self.configuration() else { return 0 };
        // Without sentences, what is left are the weights.
        let passes = Passes { model: &Model { batch: 0, ..self.clone() }, config: &config, beams: 1 };
        let pass = match self.task {
            Task::Encoder | Task::Forced => passes.all(),
            Task::Step | Task::Greedy | Task::Beam4 => passes.step(self.seq),
        };
        pass.into_iter().sum::<Cost>().bytes
    }
}

#[derive(Clone, Copy)]
struct Passes<'a> {
    model: &'a Model,
    config: &'a Config,
    /// Targets of each sentence.
    beams: usize,
}

impl Passes<'_> {
    fn all(self) -> Vec<Cost> {
        let seq = self.model.seq;
        match self.model.task {
            Task::Encoder => self.encoder(),
            Task::Forced => {
                [self.encoder(), self.source_keys(), self.decoder(seq, seq, MaskKind::Causal), self.logits(seq)]
                    .concat()
            }
            Task::Step => self.step(seq),
            Task::Greedy | Task::Beam4 => {
                // A search begins with one target of each sentence.
                let beams = |keys| if self.model.task == Task::Beam4 && keys > 1 { 4 } else { 1 };
                let steps = (1..=seq).flat_map(|keys| Passes { beams: beams(keys), ..self }.step(keys));
                self.encoder().into_iter().chain(self.source_keys()).chain(steps).collect()
            }
        }
    }

    fn encoder(&self) -> Vec<Cost> {
        let seq = self.model.seq;
        let layer = [self.attend(seq, seq, seq, MaskKind::None), self.feed_forward(seq)].concat();
        layer.repeat(self.config.encoder_layers)
    }

    /// Keys and values of the source for every decoder layer.
    fn source_keys(&self) -> Vec<Cost> {
        let d = self.config.d_model;
        vec![self.linear(self.model.seq, 2 * d, d); self.config.decoder_layers]
    }

    /// One token of every hypothesis, which then has `keys` tokens.
    fn step(&self, keys: usize) -> Vec<Cost> {
        [self.decoder(1, keys, MaskKind::None), self.logits(1)].concat()
    }

    /// The decoder's layers over `queries` tokens of each sentence.
    fn decoder(&self, queries: usize, keys: usize, mask: MaskKind) -> Vec<Cost> {
        let d = self.config.d_model;
        let cross =
            [self.linear(queries, d, d), self.cross_attention(queries), self.linear(queries, d, d), self.norm(queries)];
        let layer = [self.attend(queries, queries, keys, mask), cross.to_vec(), self.feed_forward(queries)].concat();
        layer.repeat(self.config.decoder_layers)
    }

    fn logits(&self, queries: usize) -> Vec<Cost> {
        vec![self.linear(queries, self.config.tgt_vocab, self.config.d_model)]
    }

    /// A sublayer of self-attention: projections of `projected` tokens, attention, output, norm.
    fn attend(&self, projected: usize, queries: usize, keys: usize, mask: MaskKind) -> Vec<Cost> {
        let d = self.config.d_model;
        vec![
            self.linear(projected, 3 * d, d),
            self.attention(queries, keys, mask),
            self.linear(queries, d, d),
            self.norm(queries),
        ]
    }

    fn feed_forward(&self, tokens: usize) -> Vec<Cost> {
        let (d, ff) = (self.config.d_model, self.config.d_ff);
        vec![self.linear(tokens, ff, d), self.linear(tokens, d, ff), self.norm(tokens)]
    }

    /// `tokens` of each sentence through a weight `[n, k]`.
    fn linear(&self, tokens: usize, n: usize, k: usize) -> Cost {
        let (m, dtype) = (self.rows(tokens), self.model.dtype);
        Gemm { odd: false, dtype, layout: Layout::NtPacked, m, n, k }.cost()
    }

    fn attention(&self, queries: usize, keys: usize, mask: MaskKind) -> Cost {
        let (batch, heads, dim) = (self.rows(1), self.config.heads, self.config.d_head());
        Attention { dtype: self.activations(), batch, heads, queries, keys, dim, mask }.cost()
    }

    /// The targets of a sentence share its keys and values.
    fn cross_attention(&self, queries: usize) -> Cost {
        Passes { beams: 1, ..*self }.attention(self.beams * queries, self.model.seq, MaskKind::None)
    }

    fn norm(&self, tokens: usize) -> Cost {
        let (rows, cols) = (self.rows(tokens), self.config.d_model);
        Rows { op: RowOp::LayerNorm, dtype: self.activations(), rows, cols }.cost()
    }

    /// Rows of `tokens` of every target.
    fn rows(&self, tokens: usize) -> usize {
        self.model.batch * self.beams * tokens
    }

    fn activations(&self) -> Dtype {
        match self.model.dtype {
            Dtype::F16w | Dtype::Bf16w => Dtype::F32,
            dtype => dtype,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(task: Task, batch: usize, seq: usize) -> Model {
        Model { task, dtype: Dtype::F32, config: "base".into(), batch, seq }
    }

    fn flops(task: Task, batch: usize, seq: usize) -> u64 {
        model(task, batch, seq).operations().into_iter().sum::<Cost>().flops
    }

    #[test]
    fn the_encoder_counts_its_weights_for_every_token() {
        // Four projections and two halves of the feed-forward network: 12 d^2 weights in each of six layers.
        let weights = 6 * 12 * 512 * 512;
        let attention = 6 * 4 * 512 * 32 * 32;
        let norms = 6 * 2 * 10 * 512 * 32;
        assert_eq!(flops(Task::Encoder, 3, 32), 3 * (2 * weights * 32 + attention + norms));
    }

    #[test]
    fn a_generation_is_its_encoder_and_its_steps() {
        let steps: u64 = (1..=4)
            .map(|keys| {
                let [one, all] = [flops(Task::Step, 2, 4), 4 * 6 * 4 * 512 * 2];
                // Self-attention grows with the tokens so far.
                one - all / 4 * (4 - keys)
            })
            .sum();
        let source_keys = 6 * 2 * 2 * 512 * 512 * 4 * 2;
        assert_eq!(flops(Task::Greedy, 2, 4), flops(Task::Encoder, 2, 4) + source_keys + steps);
    }

    #[test]
    fn beams_share_their_source() {
        // The first of two steps has one target of each sentence, the second has four.
        let more = flops(Task::Beam4, 2, 2) - flops(Task::Greedy, 2, 2);
        assert_eq!(more, 3 * flops(Task::Step, 2, 2));
        // What four targets read of their source counts once.
        let rows = Passes { model: &model(Task::Beam4, 2, 2), config: &Config::base(), beams: 4 };
        assert_eq!(rows.cross_attention(1).bytes, 4 * 2 * 512 * 2 * (4 + 2));
    }

    #[test]
    fn a_step_reads_the_decoder_and_the_vocabulary() {
        let weights = 6 * 14 * 512 * 512 + 37_000 * 512;
        let norms = 6 * 3 * 2 * 512;
        assert_eq!(model(Task::Greedy, 7, 32).footprint(), 4 * (weights + norms));
    }
}
