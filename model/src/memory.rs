//! Bytes that a model holds, from its sizes alone.

use crate::{Config, Error, Precision, Result};
use gristmill::{attention::PAGE, gemm::tile::PANEL};

impl Config {
    /// How many numbers the model learns, tied tensors counted once, without a `generator.bias`.
    ///
    /// # Errors
    /// [`Error::ConfigSize`] when they would not fit the address space as f32.
    pub fn parameters(&self) -> Result<usize> {
        let total = self.sum(|inputs, outputs| inputs * outputs, 1.0, 1.0);
        let limit = (isize::MAX as usize / size_of::<f32>()) as f64;
        // Exact below 2^53, far beyond any memory.
        if total < limit.min(2f64.powi(53)) { Ok(total as usize) } else { Err(Error::ConfigSize) }
    }

    /// Bytes of a model's weights in memory, to the byte: see [`Transformer::bytes`](crate::Transformer::bytes). A
    /// `generator.bias` adds 4 for every target id. Loading needs no more than a block of some hundred KiB beside it.
    ///
    /// # Errors
    /// As [`parameters`](Config::parameters).
    pub fn model_bytes(&self, precision: Precision) -> Result<usize> {
        self.parameters()?;
        // Packed weights are whole panels of outputs and, in bf16, whole pairs of inputs.
        let (size, pair) = (precision.size() as f64, if precision == Precision::Bf16 { 2.0 } else { 1.0 });
        let whole = |count: f64, n: f64| (count / n).ceil() * n;
        let packed = |inputs, outputs| size * whole(inputs, pair) * whole(outputs, PANEL as f64);
        Ok(self.sum(packed, size, 4.0) as usize)
    }

    /// The sum over all tensors: `weight` of the inputs and outputs of each packed one, so much for each value of a
    /// table of embeddings, and for each of what is kept in f32. It cannot overflow, as a term is a product of three
    /// sizes at most, and is exact wherever it passes the check of [`parameters`](Config::parameters).
    fn sum(&self, weight: impl Fn(f64, f64) -> f64, value: f64, number: f64) -> f64 {
        let [d, source, target] = [self.d_model, self.src_vocab, self.tgt_vocab].map(|size| size as f64);
        let table = |is_tied, vocabulary: f64| if is_tied { 0.0 } else { value * vocabulary * d };
        let tables = table(self.tied_output, target) + table(self.tied_embeddings, source);
        let positions = number * 2.0 * self.max_length().unwrap_or(0) as f64 * d;
        self.stacks(&weight, number).iter().sum::<f64>() + weight(d, target) + tables + positions
    }

    /// The same over the layers of the encoder and of the decoder.
    fn stacks(&self, weight: impl Fn(f64, f64) -> f64, number: f64) -> [f64; 2] {
        let [d, ff] = [self.d_model, self.d_ff].map(|size| size as f64);
        let bias = if self.bias { number } else { 0.0 };
        let linear = |inputs, outputs| weight(inputs, outputs) + bias * outputs;
        let norm = (number + bias) * d;
        let encoder = linear(d, 3.0 * d) + linear(d, d) + linear(d, ff) + linear(ff, d) + 2.0 * norm;
        let decoder = encoder + linear(d, d) + linear(d, 2.0 * d) + linear(d, d) + norm;
        let final_norm = if self.final_norm { norm } else { 0.0 };
        [self.encoder_layers as f64 * encoder + final_norm, self.decoder_layers as f64 * decoder + final_norm]
    }

    /// Bytes of the keys and values that a generation keeps, at most: for `sentences` sources of up to
    /// `source_tokens`, each with `beams` targets of up to `target_tokens`. Without beams it is what a
    /// [`Session`](crate::Session) keeps if all sentences are as long; beams that share their beginnings need less.
    pub fn cache_bytes(
        &self,
        precision: Precision,
        sentences: usize,
        beams: usize,
        [source_tokens, target_tokens]: [usize; 2],
    ) -> usize {
        let pages = |tokens: usize| tokens.div_ceil(PAGE);
        // A page that beams share is copied before the first of them is done with it.
        let of_beam = pages(target_tokens) + usize::from(beams > 1);
        let of_sentence = pages(source_tokens).saturating_add(beams.saturating_mul(of_beam));
        // Pages of bf16 hold whole pairs of a key's elements, and whole panels of a value's.
        let whole = if precision == Precision::Bf16 { [2, PANEL] } else { [1; 2] };
        let [key, value] = whole.map(|n| self.d_head().div_ceil(n).saturating_mul(n));
        [self.decoder_layers, sentences, PAGE, self.heads, key.saturating_add(value), precision.size()]
            .into_iter()
            .fold(of_sentence, usize::saturating_mul)
    }

    /// Bytes of weights that the encoder reads, and that each decoder step reads, the logits included: what binds
    /// small batches.
    ///
    /// # Errors
    /// As [`parameters`](Config::parameters).
    pub fn weight_bytes(&self, precision: Precision) -> Result<[usize; 2]> {
        self.parameters()?;
        let [encoder, decoder] = self.stacks(|inputs, outputs| inputs * outputs, 1.0);
        // The source's keys and values are projected once.
        let d = self.d_model as f64;
        let sources = self.decoder_layers as f64 * 2.0 * d * (d + if self.bias { 1.0 } else { 0.0 });
        let step = decoder - sources + self.tgt_vocab as f64 * d;
        Ok([encoder, step].map(|values| values as usize * precision.size()))
    }
}
