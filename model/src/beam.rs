//! Beam search.

use crate::generate::{Hypothesis, Plan, Token};
use crate::{Result, Session};
use gristmill::list;

/// The hypotheses of a batch: `width` rows for each sentence in progress, one at first.
pub(crate) struct Beams<'p> {
    plan: &'p Plan<'p>,
    /// Which sentences are in progress.
    live: Vec<usize>,
    /// One for each row of the batch.
    rows: Vec<Row>,
    next: Vec<Row>,
    /// Of each of the rows in `next`, the row that it continues.
    parents: Vec<usize>,
    /// The ids of all hypotheses, each after its parent.
    nodes: Vec<Node>,
    /// Hypotheses that have ended, for each sentence, best first, at most as many as there are beams.
    ended: Vec<Vec<Hypothesis>>,
    last: Vec<u32>,
    /// Columns of the largest logits of each row, in order.
    ranked: Vec<usize>,
    /// These logits.
    logits: Vec<f32>,
    candidates: Vec<Candidate>,
}

/// A hypothesis in progress.
#[derive(Clone, Copy)]
struct Row {
    log_probability: f32,
    /// Its last id.
    node: usize,
}

#[derive(Clone, Copy)]
struct Node {
    id: u32,
    parent: usize,
}

/// A hypothesis with one more id.
#[derive(Clone, Copy)]
struct Candidate {
    log_probability: f32,
    row: usize,
    /// Of its row's, by the logits.
    rank: usize,
    column: usize,
}

impl<'p> Beams<'p> {
    pub(crate) fn new(plan: &'p Plan<'p>, sentences: usize) -> Result<Self> {
        let rows = list::filled(Row { log_probability: 0.0, node: 0 }, sentences)?;
        // Unless many hypotheses end, or the search is very large, its ids need no more room.
        let all = sentences.saturating_mul(plan.options.beams).saturating_mul(plan.longest);
        let mut nodes = list::with_capacity(1 + all.min(1 << 16))?;
        nodes.push(Node { id: plan.bos, parent: 0 });
        let (live, ended) = (list::collect(0..sentences)?, list::filled(Vec::new(), sentences)?);
        let (next, parents, last, ranked, logits, candidates) = Default::default();
        Ok(Self { plan, live, rows, next, parents, nodes, ended, last, ranked, logits, candidates })
    }

    pub(crate) fn run(
        mut self,
        session: &mut Session,
        receive: &mut (dyn FnMut(Token) + Send),
    ) -> Result<Vec<Vec<Hypothesis>>> {
        for length in 1..=self.plan.longest {
            if self.live.is_empty() {
                break;
            }
            list::refill(&mut self.last, self.rows.iter().map(|row| self.nodes[row.node].id))?;
            session.next_logits(self.plan, &self.last, length - 1)?;
            self.continue_rows(session, length)?;
            // From the end, so that a place is refilled only by one that has been dealt with.
            for place in (0..self.live.len()).rev() {
                if self.is_done(place, length) {
                    let sentence = self.live.swap_remove(place);
                    // Where nothing is possible, something must be given.
                    if self.ended[sentence].is_empty() {
                        self.end(sentence, self.rows[place * self.plan.options.beams], length)?;
                    }
                    self.finish(sentence, receive);
                    // Those of the last place take it.
                    let last = self.rows.len() - self.plan.options.beams;
                    self.rows.copy_within(last.., place * self.plan.options.beams);
                    self.rows.truncate(last);
                    session.engine.progress_mut().swap_remove(place)?;
                }
            }
        }
        // What has not ended by now competes as it is.
        let beams = self.rows.len() / self.live.len().max(1);
        for place in 0..self.live.len() {
            for row in place * beams..(place + 1) * beams {
                self.end(self.live[place], self.rows[row], self.plan.longest)?;
            }
            self.finish(self.live[place], receive);
        }
        Ok(self.ended)
    }

    /// Gives every hypothesis its best continuations, of which the best of each sentence are kept.
    fn continue_rows(&mut self, session: &mut Session, length: usize) -> Result {
        let beams = self.plan.options.beams;
        let width = self.rows.len() / self.live.len();
        // As many as can be ends, and as many again.
        let each = beams.saturating_mul(2).min(session.logits.cols());
        session.peaks.rank(&mut session.run, &session.logits, each, &mut self.ranked)?;
        let ranked = self.ranked.iter().enumerate();
        list::refill(&mut self.logits, ranked.map(|(at, &column)| session.logits.row(at / each)[column]))?;
        session.peaks.normalise(&mut session.run, &mut session.logits)?;

        self.next.clear();
        self.parents.clear();
        for place in 0..self.live.len() {
            let sentence = self.live[place];
            self.candidates.clear();
            for row in place * width..(place + 1) * width {
                let of_row = row * each..(row + 1) * each;
                let (columns, logits) = (&self.ranked[of_row.clone()], &self.logits[of_row]);
                let (before, peak) = (self.rows[row].log_probability, session.peaks.logarithms[row]);
                let candidates = columns.iter().zip(logits).enumerate().map(|(rank, (&column, logit))| Candidate {
                    log_probability: before + ((logit - logits[0]) + peak),
                    row,
                    rank,
                    column,
                });
                // Impossible ones are none, nor is what is not a number.
                let possible = candidates.filter(|candidate| candidate.log_probability > f32::NEG_INFINITY);
                list::extend(&mut self.candidates, possible)?;
            }
            let order = |a: &Candidate, b: &Candidate| {
                b.log_probability.total_cmp(&a.log_probability).then((a.row, a.rank).cmp(&(b.row, b.rank)))
            };
            self.candidates.sort_unstable_by(order);
            for rank in 0..self.candidates.len() {
                if self.next.len() == (place + 1) * beams {
                    break;
                }
                let Candidate { log_probability, row, column, .. } = self.candidates[rank];
                let (id, parent) = (self.plan.id_of(column), self.rows[row].node);
                let is_end = self.plan.eos == Some(id);
                if is_end && rank >= beams {
                    continue;
                }
                let longer = Row { log_probability, node: self.nodes.len() };
                list::extend(&mut self.nodes, [Node { id, parent }])?;
                if is_end {
                    self.end(sentence, longer, length)?;
                } else {
                    list::extend(&mut self.next, [longer])?;
                    list::extend(&mut self.parents, [row])?;
                }
            }
            // Fewer continuations than beams: the rest are there for their number only.
            let none = Row { log_probability: f32::NEG_INFINITY, node: self.rows[place * width].node };
            list::resize(&mut self.next, (place + 1) * beams, none)?;
            list::resize(&mut self.parents, (place + 1) * beams, place * width)?;
        }
        std::mem::swap(&mut self.rows, &mut self.next);
        session.engine.progress_mut().reorder(beams, &self.parents)
    }

    /// Adds a hypothesis of so many ids to those that have ended, if it is good enough.
    fn end(&mut self, sentence: usize, Row { log_probability, mut node }: Row, length: usize) -> Result {
        let (score, ended) = (self.plan.score(log_probability, length), &mut self.ended[sentence]);
        // Of equal ones the first.
        let place = ended.partition_point(|other| other.score >= score);
        let is_possible = log_probability > f32::NEG_INFINITY || ended.is_empty();
        if is_possible && place < self.plan.options.beams {
            let mut ids = list::with_capacity(length + 1)?;
            while node != 0 {
                ids.push(self.nodes[node].id);
                node = self.nodes[node].parent;
            }
            ids.push(self.plan.bos);
            ids.reverse();
            ended.truncate(self.plan.options.beams - 1);
            list::reserve(ended, 1)?;
            ended.insert(place, Hypothesis { ids, log_probability, score });
        }
        Ok(())
    }

    fn is_done(&self, place: usize, length: usize) -> bool {
        let options = self.plan.options;
        let ended = &self.ended[self.live[place]];
        let rows = &self.rows[place * options.beams..][..options.beams];
        // They are in order.
        let best = rows[0].log_probability;
        if options.early_stopping && ended.len() >= options.beams {
            return true;
        }
        // A sum only falls, and a penalty above 0 is kindest to the longest.
        let kindest = if options.length_penalty > 0.0 { self.plan.longest } else { length };
        let worst = ended.get(options.n_best - 1);
        best == f32::NEG_INFINITY || worst.is_some_and(|worst| worst.score >= self.plan.score(best, kindest))
    }

    /// Leaves the best of a sentence's hypotheses, which are the result.
    fn finish(&mut self, sentence: usize, receive: &mut (dyn FnMut(Token) + Send)) {
        let ended = &mut self.ended[sentence];
        ended.truncate(self.plan.options.n_best);
        let best = ended.first().into_iter().flat_map(|best| &best.ids[1..]);
        best.for_each(|&id| receive(Token { sentence, id }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, GenerateOptions, SessionOptions, Transformer};

    #[test]
    fn one_beam_is_greedy() {
        let config = Config { d_model: 12, heads: 2, d_ff: 20, src_vocab: 19, tgt_vocab: 19, ..Config::base() };
        let model = Transformer::seeded(config, 3, crate::Precision::F32).unwrap();
        let sources: Vec<Vec<u32>> = (1..8).map(|length| (0..length).map(|id| id * 5 % 19).collect()).collect();
        let mut session = model.session(SessionOptions::default()).unwrap();
        for min_new_tokens in [0, 5] {
            let options = GenerateOptions { max_new_tokens: 15, min_new_tokens, ..Default::default() };
            let greedy = session.hypotheses(&sources, &options).unwrap();
            session.start(&sources).unwrap();
            let plan = Plan { options: &options, bos: 2, eos: Some(3), longest: 15, scored: true, shortlist: None };
            assert_eq!(Beams::new(&plan, 7).unwrap().run(&mut session, &mut |_| ()).unwrap(), greedy);
        }
    }
}
