//! Bytes that a model holds, from its sizes alone.

use crate::config::Positions;
use crate::{Config, Error, Precision};

/// Columns of a packed weight come in so many at a time.
const PANEL: f64 = 16.0;

/// Tokens of a page of a cache.
const PAGE: usize = 64;

impl Config {
    /// Bytes of a model's weights in memory, to the byte: see [`Transformer::bytes`](crate::Transformer::bytes). A
    /// `generator.bias` adds 4 for every target id. Loading needs no more than a block of some hundred KiB beside it.
    ///
    /// # Errors
    /// As [`parameters`](Config::parameters).
    pub fn model_bytes(&self, precision: Precision) -> Result<usize, Error> {
        self.parameters()?;
        let [d, ff, source, target] = [self.d_model, self.d_ff, self.src_vocab, self.tgt_vocab].map(|size| size as f64);
        let size = precision.size() as f64;
        let vector = |length: f64| if self.bias { 4.0 * length } else { 0.0 };
        let packed = |inputs: f64, outputs: f64| size * inputs * (outputs / PANEL).ceil() * PANEL;
        let linear = |inputs: f64, outputs: f64| packed(inputs, outputs) + vector(outputs);
        let norm = 4.0 * d + vector(d);
        let feed_forward = linear(d, ff) + linear(ff, d);
        let encoder = linear(d, 3.0 * d) + linear(d, d) + feed_forward + 2.0 * norm;
        let cross = linear(d, d) + linear(d, 2.0 * d) + linear(d, d);
        let decoder = linear(d, 3.0 * d) + linear(d, d) + cross + feed_forward + 3.0 * norm;
        let table = |vocabulary: f64| size * vocabulary * d;
        let generator = packed(d, target);
        let tables = match (self.tied_output, self.tied_embeddings) {
            (true, true) => generator,
            (true, false) => generator + table(source),
            (false, true) => generator + table(target),
            (false, false) => generator + table(target) + table(source),
        };
        let positions = match self.positions {
            Positions::Sinusoidal => 0.0,
            Positions::Learned { max_length } => 2.0 * 4.0 * max_length as f64 * d,
        };
        let layers = self.encoder_layers as f64 * encoder + self.decoder_layers as f64 * decoder;
        let norms = if self.final_norm { 2.0 * norm } else { 0.0 };
        Ok((layers + norms + tables + positions) as usize)
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
        let copies = if beams > 1 { 1 } else { 0 };
        let of_sentence = pages(source_tokens).saturating_add(beams.saturating_mul(pages(target_tokens) + copies));
        [self.decoder_layers, sentences, 2 * PAGE * self.d_model, precision.size()]
            .into_iter()
            .fold(of_sentence, usize::saturating_mul)
    }

    /// Bytes of weights that the encoder reads, and that each decoder step reads, the logits included: what binds
    /// small batches.
    ///
    /// # Errors
    /// As [`parameters`](Config::parameters).
    pub fn weight_bytes(&self, precision: Precision) -> Result<[usize; 2], Error> {
        self.parameters()?;
        let [encoder, decoder] = self.stacks();
        // The source's keys and values are projected once.
        let d = self.d_model as f64;
        let sources = self.decoder_layers as f64 * 2.0 * self.linear(d, d);
        let step = decoder - sources + self.tgt_vocab as f64 * d;
        Ok([encoder, step].map(|values| values as usize * precision.size()))
    }
}
