//! From logits to probabilities, choices, and their logarithms.

use crate::matrix::Matrix;
use crate::profile::Operation;
use crate::run::Run;
use crate::seeded::SplitMix;
use crate::{Result, Session};
use gristmill::rowwise::{argmax, softmax, softmax_in_place, top_k};
use gristmill::{MatMut, Simd, SoftmaxOptions, list, simd::naive};

/// How ids are drawn.
///
/// A sentence's ids depend on the seed, its number and its source alone: not on its company, the threads or the
/// level (among those whose multiply-add is fused).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Logits are divided by this, a normal number above 0; below 1 prefers likely ids.
    pub temperature: f32,
    /// Only so many of the likeliest ids can be drawn; 0 for all.
    pub top_k: usize,
    /// Only the likeliest ids can be drawn that together have this part of the probability that `top_k` leaves.
    pub top_p: f32,
    /// Where the draws begin.
    pub seed: u64,
    /// The number of the batch's first sentence, for those who cut a text into batches: every number has draws of its
    /// own.
    pub first_sentence: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { temperature: 1.0, top_k: 0, top_p: 1.0, seed: 0, first_sentence: 0 }
    }
}

/// The draws of a batch.
pub(crate) struct Sampler {
    sampling: Sampling,
    /// One for each sentence.
    random: Vec<SplitMix>,
    /// Probabilities and columns that can be drawn.
    candidates: Vec<(f32, u32)>,
    probabilities: Matrix,
}

impl Sampler {
    pub(crate) fn new(sampling: Sampling, sentences: usize) -> Result<Self> {
        let Sampling { seed, first_sentence, .. } = sampling;
        let numbers = (0..sentences as u64).map(|index| first_sentence.wrapping_add(index));
        // A step of the generator itself tells neighbouring numbers apart.
        let random = list::collect(numbers.map(|number| SplitMix(SplitMix(seed ^ SplitMix(number).next()).next())))?;
        Ok(Self { sampling, random, candidates: Vec::new(), probabilities: Matrix::default() })
    }

    /// A column by its probability.
    fn draw(&mut self, sentence: usize, row: usize) -> Result<Option<usize>> {
        let Sampling { top_k, top_p, .. } = self.sampling;
        let candidates = &mut self.candidates;
        let possible = self.probabilities.row(row).iter().zip(0..).filter(|(p, _)| **p > 0.0);
        list::refill(candidates, possible.map(|(&p, column)| (p, column)))?;
        let likelier = |a: &(f32, u32), b: &(f32, u32)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        if top_k > 0 && top_k < candidates.len() {
            candidates.select_nth_unstable_by(top_k - 1, likelier);
            candidates.truncate(top_k);
        }
        if top_k > 0 || top_p < 1.0 {
            candidates.sort_unstable_by(likelier);
        }
        let sum = |candidates: &[(f32, u32)]| candidates.iter().map(|(p, _)| f64::from(*p)).sum::<f64>();
        let mut left = sum(candidates) * f64::from(top_p);
        let kept = candidates.iter().position(|(p, _)| {
            left -= f64::from(*p);
            left <= 0.0
        });
        candidates.truncate(kept.map_or(usize::MAX, |last| last + 1));
        let unit = (self.random[sentence].next() >> 11) as f64 / (1u64 << 53) as f64;
        let mut place = unit * sum(candidates);
        let drawn = candidates.iter().find(|(p, _)| {
            place -= f64::from(*p);
            place < 0.0
        });
        Ok(drawn.or(candidates.last()).map(|&(_, column)| column as usize))
    }
}

/// The largest logit of each row and its log-probability.
#[derive(Default)]
pub(crate) struct Peaks {
    /// Columns; of equal logits the first.
    pub(crate) columns: Vec<usize>,
    /// Known after [`normalise`](Peaks::normalise).
    pub(crate) logarithms: Vec<f32>,
}

impl Peaks {
    pub(crate) fn find(&mut self, run: &mut Run, logits: &Matrix) -> Result {
        let start = run.clock.start();
        list::resize(&mut self.columns, logits.rows(), 0)?;
        argmax(logits.view(), &mut self.columns, &run.row_options())?;
        run.clock.stop(start, Operation::Choice, || [0, size_of_val(logits.values())]);
        Ok(())
    }

    /// Finds the columns of the `count` largest logits of each row as well, in order, of equals the first; a NaN is the
    /// largest. There are that many.
    pub(crate) fn rank(&mut self, run: &mut Run, logits: &Matrix, count: usize, ranked: &mut Vec<usize>) -> Result {
        let start = run.clock.start();
        list::resize(ranked, logits.rows() * count, 0)?;
        top_k(logits.view(), MatMut::new(ranked, logits.rows(), count)?, &run.row_options())?;
        list::refill(&mut self.columns, ranked.iter().copied().step_by(count))?;
        run.clock.stop(start, Operation::Choice, || [0, size_of_val(logits.values())]);
        Ok(())
    }

    /// Turns the logits into probabilities. The logarithm of any of them is that of the row's largest plus the
    /// difference of their logits: no exponential is lost on the way.
    pub(crate) fn normalise(&mut self, run: &mut Run, logits: &mut Matrix) -> Result {
        let start = run.clock.start();
        softmax_in_place(logits.view_mut(), &run.softmax_options())?;
        let fused = Simd::choose(run.level).map_err(gristmill::Error::from)?.level().fused();
        let logarithm = if fused { naive::ln::<true> } else { naive::ln::<false> };
        let largest = self.columns.iter().enumerate().map(|(row, &column)| logits.row(row)[column]);
        list::refill(&mut self.logarithms, largest.map(logarithm))?;
        run.clock.stop(start, Operation::Choice, || [0, 2 * size_of_val(logits.values())]);
        Ok(())
    }
}

impl Session<'_> {
    /// A column for each row and, if it is `scored`, its log-probability: the largest logit, or one that is drawn.
    /// Row i belongs to sentence `live[i]`. What the logits are afterwards is unspecified.
    pub(crate) fn pick(
        &mut self,
        sampler: Option<&mut Sampler>,
        live: &[usize],
        scored: bool,
        picks: &mut [(usize, f32)],
    ) -> Result {
        let Session { run, peaks, logits, .. } = self;
        peaks.find(run, logits)?;
        picks.iter_mut().zip(&peaks.columns).for_each(|(pick, &column)| *pick = (column, 0.0));
        if let Some(sampler) = sampler {
            let start = run.clock.start();
            let options = SoftmaxOptions { scale: sampler.sampling.temperature.recip(), ..run.softmax_options() };
            sampler.probabilities.reshape(logits.rows(), logits.cols())?;
            softmax(logits.view(), sampler.probabilities.view_mut(), &options)?;
            for (row, pick) in picks.iter_mut().enumerate() {
                // Where nothing is possible nothing is drawn.
                let Some(column) = sampler.draw(live[row], row)? else { continue };
                *pick = (column, logits.row(row)[column] - logits.row(row)[pick.0]);
            }
            run.clock.stop(start, Operation::Choice, || [0, size_of_val(logits.values())]);
        }
        if scored {
            peaks.normalise(run, logits)?;
            picks.iter_mut().zip(&peaks.logarithms).for_each(|(pick, logarithm)| pick.1 += logarithm);
        }
        Ok(())
    }

    /// Teacher-forced scores: the natural logarithm of the probability of each target id after the first, given the
    /// source and the ids before it. A target of n ids has n - 1 scores.
    ///
    /// Logits are computed some rows at a time and not kept.
    ///
    /// # Errors
    /// As [`Session::forward`].
    pub fn score(&mut self, sources: &[impl AsRef<[u32]>], targets: &[impl AsRef<[u32]>]) -> Result<Vec<Vec<f32>>> {
        self.pack_pairs(sources, targets)?;
        self.entered(|session| {
            session.decode_targets()?;
            let Session { run, engine, logits, peaks, targets, .. } = session;
            let ids = &targets.ids;
            let mut scores = list::with_capacity(ids.len())?;
            for first in (0..ids.len()).step_by(SCORED_ROWS) {
                let rows = first..ids.len().min(first + SCORED_ROWS);
                engine.logits(run, rows.clone(), false, logits)?;
                peaks.find(run, logits)?;
                // The last id of a sentence is followed by nothing; its score is never read.
                let next = |row: usize| ids.get(row + 1).map_or(0, |&id| id as usize);
                let below = |row| logits.row(row)[next(first + row)] - logits.row(row)[peaks.columns[row]];
                scores.extend((0..rows.len()).map(below));
                peaks.normalise(run, logits)?;
                scores[first..].iter_mut().zip(&peaks.logarithms).for_each(|(score, logarithm)| *score += logarithm);
            }
            let spans = (0..targets.spans.len()).map(|sentence| targets.spans.rows(sentence..sentence + 1));
            let own = spans.map(|rows| &scores[rows.start..rows.end.max(rows.start + 1) - 1]);
            list::try_collect(own.map(|scores| Ok(list::collect(scores.iter().copied())?)))
        })
    }
}

/// Rows whose logits [`Session::score`] holds at a time: enough for a product at full speed.
const SCORED_ROWS: usize = 128;
