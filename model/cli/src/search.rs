//! How `gristmill generate` searches.

use gristmill_model::{Config, Error, GenerateOptions, Sampling};

#[derive(clap::Args)]
pub(crate) struct Search {
    /// The most ids to generate after the beginning token.
    #[arg(long, value_name = "N", default_value_t = GenerateOptions::default().max_new_tokens)]
    max_new_tokens: usize,
    /// No end token before so many ids; as many as the most for a fixed length.
    #[arg(long, value_name = "N", default_value_t = 0)]
    min_new_tokens: usize,
    /// Hypotheses to follow for each sentence.
    #[arg(long, value_name = "N", default_value_t = 1)]
    beams: usize,
    /// Hypotheses to write for each sentence at most, best first, each on a line of its own; above 1, lines begin with
    /// the number of the sentence's line, from 1, and a tab.
    #[arg(long, value_name = "N", default_value_t = 1)]
    n_best: usize,
    /// Hypotheses compete by their log-probability over their length to this power.
    #[arg(long, value_name = "X", default_value_t = 1.0, allow_negative_numbers = true)]
    length_penalty: f32,
    /// Go on after as many hypotheses have ended as there are beams, while a better one can come.
    #[arg(long)]
    exhaustive: bool,
    /// Draw ids, beginning with this seed.
    #[arg(long, value_name = "SEED")]
    sample: Option<u64>,
    /// Divide logits by this before drawing.
    #[arg(long, value_name = "X", default_value_t = 1.0, requires = "sample")]
    temperature: f32,
    /// Draw among so many of the likeliest ids; 0 for all.
    #[arg(long, value_name = "N", default_value_t = 0, requires = "sample")]
    top_k: usize,
    /// Draw among the likeliest ids that together have this probability.
    #[arg(long, value_name = "X", default_value_t = 1.0, requires = "sample")]
    top_p: f32,
    /// Generate only these ids, and the end token.
    #[arg(long, value_name = "ID,ID,...", value_delimiter = ',')]
    shortlist: Option<Vec<u32>>,
}

impl Search {
    /// Finds what the options contradict, among themselves or in the configuration.
    pub(crate) fn check(&self, config: &Config) -> Result<(), Error> {
        self.options(0).validate()?;
        config.bos.ok_or(Error::NoBeginning)?;
        let (ids, vocabulary) = (self.shortlist.as_deref().unwrap_or_default(), config.tgt_vocab);
        let stranger = ids.iter().position(|&id| id as usize >= vocabulary);
        stranger.map_or(Ok(()), |position| Err(Error::IdOutOfRange { position, id: ids[position], vocabulary }))
    }

    /// The options for a batch whose first sentence has this number.
    pub(crate) fn options(&self, first_sentence: usize) -> GenerateOptions<'_> {
        let &Search { temperature, top_k, top_p, .. } = self;
        let first_sentence = first_sentence as u64;
        GenerateOptions {
            max_new_tokens: self.max_new_tokens,
            min_new_tokens: self.min_new_tokens,
            beams: self.beams,
            n_best: self.n_best,
            length_penalty: self.length_penalty,
            early_stopping: !self.exhaustive,
            sampling: self.sample.map(|seed| Sampling { temperature, top_k, top_p, seed, first_sentence }),
            shortlist: self.shortlist.as_deref(),
        }
    }
}
