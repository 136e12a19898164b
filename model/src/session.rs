//! Running a model: buffers that are reused from call to call.

use crate::batch::{Batch, Spans};
use crate::engine::Engine;
use crate::matrix::Matrix;
use crate::probability::Peaks;
use crate::profile::{Clock, Profile};
use crate::run::Run;
use crate::{Error, Result, Transformer};
use gristmill::{Level, MatRef, Simd, Threads, Workspace, list};
use std::fmt;

/// Where a [`Session`] runs. Results do not depend on it, to the bit, among levels whose multiply-add is fused.
#[derive(Clone, Copy, Debug, Default)]
pub struct SessionOptions<'a> {
    /// The threads of every call.
    pub threads: Threads<'a>,
    /// The instruction set; by default the best one.
    pub level: Option<Level>,
}

/// A model at work. It owns what changes: buffers, which grow to the largest call's need, and the cache of a
/// generation in progress.
pub struct Session<'a> {
    pub(crate) model: &'a Transformer,
    pub(crate) run: Run<'a>,
    pub(crate) engine: Box<dyn Engine + 'a>,
    pub(crate) sources: Batch,
    pub(crate) targets: Batch,
    /// Results that had to be widened.
    wide: Matrix,
    pub(crate) logits: Matrix,
    pub(crate) peaks: Peaks,
    /// What a greedy step chose.
    likeliest: Vec<u32>,
}

impl Transformer {
    /// What is needed to run the model.
    ///
    /// # Errors
    /// [`Error::Kernel`] when the level, or the one that `GRISTMILL_LEVEL` pins, cannot be used.
    pub fn session<'a>(&'a self, options: SessionOptions<'a>) -> Result<Session<'a>> {
        let (SessionOptions { threads, level }, config) = (options, self.config());
        Simd::choose(level).map_err(gristmill::Error::from)?;
        let run = Run { config, threads, level, workspace: Workspace::new(), clock: Clock::default() };
        let engine = self.weights.engine(config)?;
        let (sources, targets, wide, logits, peaks, likeliest) = Default::default();
        Ok(Session { model: self, run, engine, sources, targets, wide, logits, peaks, likeliest })
    }
}

impl<'a> Session<'a> {
    /// Begins to write down what every operation takes from now on, at the cost of reading the clock twice for each.
    pub fn start_profile(&mut self) {
        self.run.clock.profile = Some(Box::default());
    }

    /// Forgets what was written down, and writes nothing more.
    pub fn stop_profile(&mut self) {
        self.run.clock.profile = None;
    }

    /// What the operations took since [`start_profile`](Session::start_profile); none before it.
    pub fn profile(&self) -> Option<&Profile> {
        self.run.clock.profile.as_deref()
    }

    /// Bytes of keys and values that are kept, in use or for later. [`Config::cache_bytes`](crate::Config::cache_bytes)
    /// bounds them beforehand. The other buffers hold a few rows of activations for every token of the largest batch,
    /// and of logits for every sentence.
    pub fn cache_bytes(&self) -> usize {
        self.engine.progress().bytes()
    }

    /// The encoder's output, D values for every source token.
    ///
    /// # Errors
    /// [`Error::Sentence`] for an id outside the vocabulary or a sentence too long for learned positions,
    /// [`Error::Kernel`] when there is no memory.
    pub fn encode(&mut self, sources: &[impl AsRef<[u32]>]) -> Result<Rows<'_>> {
        self.pack(sources)?;
        self.entered(|Session { engine, run, sources, .. }| engine.encode(run, sources))?;
        Ok(Rows { matrix: self.engine.values(&mut self.wide)?, spans: &self.sources.spans })
    }

    /// The decoder's output, D values for every target token, each from the source and the target tokens up to its
    /// own.
    ///
    /// # Errors
    /// As [`forward`](Session::forward).
    pub fn decode(&mut self, sources: &[impl AsRef<[u32]>], targets: &[impl AsRef<[u32]>]) -> Result<Rows<'_>> {
        self.pack_pairs(sources, targets)?;
        self.entered(Self::decode_targets)?;
        Ok(Rows { matrix: self.engine.values(&mut self.wide)?, spans: &self.targets.spans })
    }

    /// The logits of what follows each target token (teacher forcing): a value per target id for every target
    /// token, from the source and the target tokens up to its own.
    ///
    /// # Errors
    /// [`Error::BatchSize`] unless there is a target for every source, and as [`encode`](Session::encode).
    pub fn forward(&mut self, sources: &[impl AsRef<[u32]>], targets: &[impl AsRef<[u32]>]) -> Result<Rows<'_>> {
        self.pack_pairs(sources, targets)?;
        self.entered(|session| {
            session.decode_targets()?;
            session.engine.logits(&mut session.run, 0..session.targets.ids.len(), false, &mut session.logits)
        })?;
        Ok(Rows { matrix: &self.logits, spans: &self.targets.spans })
    }

    /// Encodes the sources and makes ready to decode token by token.
    ///
    /// # Errors
    /// As [`encode`](Session::encode). What was in progress is then as it was, or nothing is.
    pub fn start(&mut self, sources: &[impl AsRef<[u32]>]) -> Result<Decoding<'_, 'a>> {
        self.pack(sources)?;
        self.entered(|Session { engine, run, sources, .. }| engine.start(run, sources))?;
        Ok(self.resume())
    }

    /// What [`start`](Session::start) began, to go on with it; after a generation, the sentences that it left
    /// unfinished.
    pub fn resume(&mut self) -> Decoding<'_, 'a> {
        Decoding { session: self }
    }

    /// Calls `work` inside the pool: what it calls then enters no more.
    pub(crate) fn entered<R: Send>(&mut self, work: impl FnOnce(&mut Self) -> R + Send) -> R {
        let threads = self.run.threads;
        threads.enter(|| work(self))
    }

    pub(crate) fn pack(&mut self, sources: &[impl AsRef<[u32]>]) -> Result {
        self.sources.pack(sources, |ids| self.model.check_source(ids))
    }

    pub(crate) fn pack_pairs(&mut self, sources: &[impl AsRef<[u32]>], targets: &[impl AsRef<[u32]>]) -> Result {
        if sources.len() != targets.len() {
            return Err(Error::BatchSize { expected: sources.len(), found: targets.len() });
        }
        self.pack(sources)?;
        self.targets.pack(targets, |ids| self.model.check_target(ids))
    }

    /// The decoder's output for the packed targets.
    pub(crate) fn decode_targets(&mut self) -> Result {
        self.engine.decode(&mut self.run, &self.sources, &self.targets)
    }
}

impl fmt::Debug for Session<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (level, progress) = (&self.run.level, self.engine.progress());
        let mut debug = f.debug_struct("Session");
        debug.field("level", level).field("sentences", &progress.sentences()).field("length", &progress.length());
        debug.finish_non_exhaustive()
    }
}

/// Results of a batch: a matrix per sentence with a row per token.
#[derive(Clone, Copy)]
pub struct Rows<'s> {
    matrix: &'s Matrix,
    spans: &'s Spans,
}

impl<'s> Rows<'s> {
    /// Sentences.
    pub fn sentences(&self) -> usize {
        self.spans.len()
    }

    /// Columns: values per token.
    pub fn width(&self) -> usize {
        self.matrix.cols()
    }

    /// The rows of one sentence; None beyond the last.
    pub fn sentence(&self, index: usize) -> Option<MatRef<'s, f32>> {
        (index < self.sentences()).then(|| self.matrix.rows_view(self.spans.rows(index..index + 1)))
    }

    /// The rows of all sentences, one sentence after another, row-major.
    pub fn values(&self) -> &'s [f32] {
        self.matrix.values()
    }
}

impl fmt::Debug for Rows<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Rows");
        debug.field("sentences", &self.sentences()).field("width", &self.width()).finish_non_exhaustive()
    }
}

/// Sentences in progress, decoded one token at a time with the keys and values of earlier tokens kept.
///
/// Logits have the bits that [`Session::forward`] gives for the same tokens.
#[derive(Debug)]
pub struct Decoding<'s, 'a> {
    session: &'s mut Session<'a>,
}

impl Decoding<'_, '_> {
    /// Sentences in progress.
    pub fn sentences(&self) -> usize {
        self.session.engine.progress().sentences()
    }

    /// Tokens that each of them has been given.
    pub fn length(&self) -> usize {
        self.session.engine.progress().length()
    }

    /// Gives one more token to every sentence; the logits of what follows, `[sentences, target ids]`.
    ///
    /// # Errors
    /// [`Error::BatchSize`] unless there is an id per sentence, [`Error::IdOutOfRange`] (its position is the
    /// sentence's) for one outside the vocabulary, [`Error::TooLong`] when there are no more learned positions,
    /// [`Error::Kernel`] when there is no memory. The sentences stay as they were.
    pub fn step(&mut self, ids: &[u32]) -> Result<MatRef<'_, f32>> {
        let session = &mut *self.session;
        let progress = session.engine.progress();
        if ids.len() != progress.rows() {
            return Err(Error::BatchSize { expected: progress.rows(), found: ids.len() });
        }
        session.model.check(ids, session.model.config().tgt_vocab, progress.length() + 1)?;
        session.entered(|Session { engine, run, logits, .. }| engine.step(run, ids, false, logits))?;
        Ok(session.logits.view())
    }

    /// As [`step`](Decoding::step), but gives the likeliest next ids: of equal logits the first, of a row with a NaN
    /// that of the NaN.
    ///
    /// # Errors
    /// As [`step`](Decoding::step).
    pub fn step_greedy(&mut self, ids: &[u32]) -> Result<&[u32]> {
        let length = self.length();
        self.step(ids)?;
        let Session { engine, run, peaks, logits, likeliest, .. } = &mut *self.session;
        let found = peaks
            .find(run, logits)
            .and_then(|()| Ok(list::refill(likeliest, peaks.columns.iter().map(|&column| column as u32))?));
        found.inspect_err(|_| engine.progress_mut().rewind(length))?;
        Ok(likeliest)
    }

    /// Takes a sentence out, with all of its targets; the last one takes its place. Nothing happens if there is no
    /// such sentence.
    ///
    /// # Errors
    /// [`Error::Kernel`] when there is no memory for the new order; nothing is in progress then.
    pub fn swap_remove(&mut self, sentence: usize) -> Result {
        if sentence < self.sentences() { self.session.engine.progress_mut().swap_remove(sentence) } else { Ok(()) }
    }

    /// Goes back to the first `length` tokens; nothing happens if there are no more.
    pub fn rewind(&mut self, length: usize) {
        self.session.engine.progress_mut().rewind(length);
    }

    /// From now on every sentence has `width` targets, side by side: target i goes on from what was target
    /// `parents[i]`. This is what a beam search does between steps. At first there is one target of each sentence.
    ///
    /// # Errors
    /// [`Error::BatchSize`] unless there are `width` parents for each sentence, [`Error::Parent`] for one that is not a
    /// target of the same sentence: everything stays as it was. [`Error::Kernel`] when there is no memory; nothing is in
    /// progress then.
    pub fn reorder(&mut self, width: usize, parents: &[usize]) -> Result {
        let cache = self.session.engine.progress_mut();
        let (sentences, old) = (cache.sentences(), cache.rows() / cache.sentences().max(1));
        if parents.len() != sentences.saturating_mul(width) {
            return Err(Error::BatchSize { expected: sentences.saturating_mul(width), found: parents.len() });
        }
        let stranger = |&(target, &parent): &(usize, &usize)| parent / old.max(1) != target / width;
        if let Some((target, &parent)) = parents.iter().enumerate().find(stranger) {
            return Err(Error::Parent { target, parent });
        }
        cache.reorder(width, parents)
    }
}
