//! Generation: whole target sentences from sources.

use crate::beam::Beams;
use crate::probability::{Sampler, Sampling};
use crate::transformer::check_ids;
use crate::{Config, Error, Result, Session};
use gristmill::list;

/// What to generate, how to search, and when to stop.
///
/// By default the search is greedy: always the likeliest id, of equals the first.
#[derive(Clone, Copy, Debug)]
pub struct GenerateOptions<'o> {
    /// Ids after the beginning token; at most 256 by default.
    pub max_new_tokens: usize,
    /// The end token cannot follow fewer ids after the beginning token: probabilities are then those among the others.
    /// If it is the largest number as well, sentences have exactly this length.
    pub min_new_tokens: usize,
    /// Hypotheses of each sentence that are followed at a time; 1 is greedy search, or sampling.
    pub beams: usize,
    /// Hypotheses of each sentence that are returned, at most `beams`; fewer where no more are possible.
    pub n_best: usize,
    /// Hypotheses compete by `log_probability / length.powf(length_penalty)`, the length being the ids after the
    /// beginning token: above 0 favours long ones. 1 by default; others than 0 and 1 may be rounded differently on
    /// another platform.
    pub length_penalty: f32,
    /// Whether a beam search ends with a sentence as soon as `beams` hypotheses have ended. If not, it goes on until
    /// no hypothesis in progress can become one of the `n_best`.
    pub early_stopping: bool,
    /// Draws ids instead of taking the likeliest.
    pub sampling: Option<Sampling>,
    /// Only these ids, and the end token, can be generated. The vocabulary's product shrinks accordingly, and
    /// probabilities are those among these ids. A session that is given the same list again keeps what it prepared.
    pub shortlist: Option<&'o [u32]>,
}

impl Default for GenerateOptions<'_> {
    fn default() -> Self {
        Self {
            max_new_tokens: 256,
            min_new_tokens: 0,
            beams: 1,
            n_best: 1,
            length_penalty: 1.0,
            early_stopping: true,
            sampling: None,
            shortlist: None,
        }
    }
}

impl GenerateOptions<'_> {
    /// Finds the first contradiction.
    ///
    /// # Errors
    /// [`Error::OptionZero`], [`Error::OptionLimit`], [`Error::OptionNumber`] or [`Error::SampledBeams`].
    pub fn validate(&self) -> Result {
        let sizes =
            [("beams", self.beams), ("n_best", self.n_best), ("shortlist", self.shortlist.map_or(1, <[_]>::len))];
        if let Some(&(field, _)) = sizes.iter().find(|(_, size)| *size == 0) {
            return Err(Error::OptionZero { field });
        }
        let pairs = [
            ("n_best", self.n_best, "beams", self.beams),
            ("min_new_tokens", self.min_new_tokens, "max_new_tokens", self.max_new_tokens),
        ];
        if let Some(&(field, value, limited_by, limit)) = pairs.iter().find(|pair| pair.1 > pair.3) {
            return Err(Error::OptionLimit { field, value, limited_by, limit });
        }
        let Sampling { temperature, top_p, .. } = self.sampling.unwrap_or_default();
        let numbers = [
            ("length_penalty", self.length_penalty, self.length_penalty.is_finite()),
            ("temperature", temperature, (f32::MIN_POSITIVE..=f32::MAX).contains(&temperature)),
            ("top_p", top_p, top_p > 0.0 && top_p <= 1.0),
        ];
        if let Some(&(field, value, _)) = numbers.iter().find(|(.., good)| !good) {
            return Err(Error::OptionNumber { field, value });
        }
        match self.sampling {
            Some(_) if self.beams > 1 => Err(Error::SampledBeams { beams: self.beams }),
            _ => Ok(()),
        }
    }
}

/// A generated sentence.
#[derive(Clone, Debug, PartialEq)]
pub struct Hypothesis {
    /// The beginning token and what follows, up to and including the end token where the sentence has ended.
    pub ids: Vec<u32>,
    /// The natural logarithm of the probability of the ids after the first, given `shortlist` and `min_new_tokens`.
    pub log_probability: f32,
    /// What hypotheses compete by: see [`GenerateOptions::length_penalty`].
    pub score: f32,
}

/// An id as it is generated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// The sentence in the batch.
    pub sentence: usize,
    /// The id that it continues with.
    pub id: u32,
}

/// What both searches know.
pub(crate) struct Plan<'o> {
    pub(crate) options: &'o GenerateOptions<'o>,
    pub(crate) bos: u32,
    pub(crate) eos: Option<u32>,
    /// Ids after the beginning token.
    pub(crate) longest: usize,
    pub(crate) scored: bool,
    /// The only ids that can be generated, ascending, where not all can.
    pub(crate) shortlist: Option<Vec<u32>>,
}

impl Plan<'_> {
    /// The id of a column of the logits.
    pub(crate) fn id_of(&self, column: usize) -> u32 {
        self.shortlist.as_ref().map_or(column as u32, |ids| ids[column])
    }

    /// The column of the logits that the end token has.
    fn end_column(&self) -> Option<usize> {
        let eos = self.eos?;
        self.shortlist.as_ref().map_or(Some(eos as usize), |ids| ids.binary_search(&eos).ok())
    }

    /// What a hypothesis of so many ids competes by.
    pub(crate) fn score(&self, log_probability: f32, length: usize) -> f32 {
        log_probability / (length.max(1) as f32).powf(self.options.length_penalty)
    }
}

impl Session<'_> {
    /// A target sentence for every source, the best that the search finds: the beginning token and what follows, up
    /// to and including the end token, or to `max_new_tokens`, or to as many ids as there are learned positions.
    ///
    /// A sentence that is finished leaves the batch. The pool is entered once.
    ///
    /// # Errors
    /// [`Error::NoBeginning`] when the configuration has no `bos`, [`Error::IdOutOfRange`] for the shortlist, and as
    /// [`GenerateOptions::validate`] and [`Session::encode`].
    pub fn generate(&mut self, sources: &[impl AsRef<[u32]>], options: &GenerateOptions) -> Result<Vec<Vec<u32>>> {
        let best = self.search(sources, options, false, &mut |_| ())?;
        Ok(list::collect(best.into_iter().map(|mut hypotheses| hypotheses.swap_remove(0).ids))?)
    }

    /// As [`generate`](Session::generate), giving every id to `receive` as it is chosen: sentence by sentence within a
    /// step, step by step. Where beams compete, no id is certain before a sentence has ended, and its ids come then.
    ///
    /// # Errors
    /// As [`generate`](Session::generate).
    pub fn generate_each(
        &mut self,
        sources: &[impl AsRef<[u32]>],
        options: &GenerateOptions,
        mut receive: impl FnMut(Token) + Send,
    ) -> Result {
        self.search(sources, options, false, &mut receive).map(drop)
    }

    /// At most `n_best` hypotheses of every source, best first, with their log-probabilities.
    ///
    /// # Errors
    /// As [`generate`](Session::generate).
    pub fn hypotheses(
        &mut self,
        sources: &[impl AsRef<[u32]>],
        options: &GenerateOptions,
    ) -> Result<Vec<Vec<Hypothesis>>> {
        self.search(sources, options, true, &mut |_| ())
    }

    fn search(
        &mut self,
        sources: &[impl AsRef<[u32]>],
        options: &GenerateOptions,
        scored: bool,
        receive: &mut (dyn FnMut(Token) + Send),
    ) -> Result<Vec<Vec<Hypothesis>>> {
        options.validate()?;
        let config = self.run.config;
        let bos = config.bos.ok_or(Error::NoBeginning)?;
        let longest = options.max_new_tokens.min(config.max_length().map_or(usize::MAX, |length| length - 1));
        let shortlist = options.shortlist.map(|ids| shortlist(ids, config)).transpose()?;
        let plan = Plan { options, bos, eos: config.eos, longest, scored, shortlist };
        self.pack(sources)?;
        let sentences = sources.len();
        self.entered(|session| {
            session.engine.start(&mut session.run, &session.sources)?;
            if let Some(ids) = &plan.shortlist {
                session.engine.select(ids)?;
            }
            if options.beams > 1 {
                Beams::new(&plan, sentences)?.run(session, receive)
            } else {
                session.follow(&plan, sentences, receive)
            }
        })
    }

    /// One hypothesis for each sentence.
    fn follow(
        &mut self,
        plan: &Plan,
        sentences: usize,
        receive: &mut (dyn FnMut(Token) + Send),
    ) -> Result<Vec<Vec<Hypothesis>>> {
        let begun = |_| {
            let mut ids = list::with_capacity(1 + plan.longest.min(1024))?;
            ids.push(plan.bos);
            Ok::<_, Error>(Hypothesis { ids, log_probability: 0.0, score: 0.0 })
        };
        let mut found = list::try_collect((0..sentences).map(begun))?;
        let mut sampler = plan.options.sampling.map(|sampling| Sampler::new(sampling, sentences)).transpose()?;
        // Place i of the batch holds sentence live[i], which so far ends with last[i].
        let mut live = list::collect(0..sentences)?;
        let mut last = list::filled(plan.bos, sentences)?;
        let mut picks = list::filled((0, 0.0), sentences)?;
        for length in 0..plan.longest {
            if live.is_empty() {
                break;
            }
            self.next_logits(plan, &last, length)?;
            let picks = &mut picks[..live.len()];
            self.pick(sampler.as_mut(), &live, plan.scored, picks)?;
            for place in 0..live.len() {
                let (column, log_probability) = picks[place];
                let (id, hypothesis) = (plan.id_of(column), &mut found[live[place]]);
                list::extend(&mut hypothesis.ids, [id])?;
                hypothesis.log_probability += log_probability;
                last[place] = id;
                receive(Token { sentence: live[place], id });
            }
            // From the end, so that a place is refilled only by one that has been dealt with.
            for place in (0..live.len()).rev() {
                if Some(last[place]) == plan.eos {
                    live.swap_remove(place);
                    last.swap_remove(place);
                    self.engine.progress_mut().swap_remove(place)?;
                }
            }
        }
        for hypothesis in &mut found {
            hypothesis.score = plan.score(hypothesis.log_probability, hypothesis.ids.len() - 1);
        }
        list::try_collect(found.into_iter().map(|hypothesis| Ok(list::collect([hypothesis])?)))
    }

    /// `logits` = those that follow `ids`, which are number `length` of the rows in progress.
    pub(crate) fn next_logits(&mut self, plan: &Plan, ids: &[u32], length: usize) -> Result {
        self.engine.step(&mut self.run, ids, plan.shortlist.is_some(), &mut self.logits)?;
        if let Some(column) = plan.end_column().filter(|_| length < plan.options.min_new_tokens) {
            (0..self.logits.rows()).for_each(|row| self.logits.row_mut(row)[column] = f32::NEG_INFINITY);
        }
        Ok(())
    }
}

/// These ids and the end token, ascending.
fn shortlist(ids: &[u32], config: &Config) -> Result<Vec<u32>> {
    check_ids(ids, config.tgt_vocab)?;
    let mut ids = list::collect(ids.iter().copied().chain(config.eos))?;
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}
