//! The Transformer on seeded weights.

use crate::{
    buffer::Output,
    cases::{self, Dtype, Task},
    contest::{Contender, Contest, Difference},
    rivals::{self, SentenceOperands},
};
use gristmill_model::{Error, GenerateOptions, Precision, Session, SessionOptions, Transformer};

/// Of the weights.
const SEED: u64 = 0;

pub(super) struct Sentences {
    case: cases::Model,
    model: Transformer,
    sources: Vec<Vec<u32>>,
}

impl Sentences {
    /// `None` for sentences of no tokens as well.
    pub(super) fn new(case: cases::Model) -> Result<Option<Self>, Error> {
        let precision = match case.dtype {
            Dtype::F32 => Precision::F32,
            Dtype::F16 => Precision::F16,
            Dtype::Bf16 => Precision::Bf16,
            Dtype::F16w | Dtype::Bf16w => return Ok(None),
        };
        let Some(config) = case.configuration().filter(|_| case.batch > 0 && case.seq > 0) else { return Ok(None) };
        let model = Transformer::seeded(config, SEED, precision)?;
        let sources = (0..case.batch).map(|index| sentence(&model, index, case.seq)).collect();
        Ok(Some(Sentences { case, model, sources }))
    }

    /// A session that is ready for the task: for a step, all but the last token has been decoded.
    fn session(&self, sources: &[Vec<u32>]) -> Result<Session<'_>, Error> {
        let mut session = self.model.session(SessionOptions::default())?;
        if self.case.task == Task::Step {
            let mut decoding = session.start(sources)?;
            (1..self.case.seq).try_for_each(|position| decoding.step(&self.tokens(sources, position)).map(drop))?;
        }
        Ok(session)
    }

    /// Target tokens number `position`, which is at least 1, of every sentence.
    fn tokens(&self, sources: &[Vec<u32>], position: usize) -> Vec<u32> {
        sources.iter().map(|source| source[(position - 1) % source.len()]).collect()
    }

    /// Runs the task; the output is the last token's row of the last sentence, or that sentence's new ids.
    fn run(&self, session: &mut Session<'_>, sources: &[Vec<u32>], output: &mut [f32]) -> Result<(), Error> {
        match self.case.task {
            Task::Encoder => last_of(session.encode(sources)?.values(), output),
            Task::Forced => last_of(session.forward(sources, sources)?.values(), output),
            Task::Step => {
                let mut decoding = session.resume();
                let before = decoding.length();
                let logits = decoding.step(&self.tokens(sources, self.case.seq))?;
                output.copy_from_slice(logits.row(logits.rows() - 1).expect("rows are contiguous"));
                decoding.rewind(before);
            }
            Task::Greedy | Task::Beam4 => {
                let beams = if self.case.task == Task::Beam4 { 4 } else { 1 };
                let options = GenerateOptions { max_new_tokens: self.case.seq, beams, ..Default::default() };
                let sentences = session.generate(sources, &options)?;
                let ids = sentences.last().map_or(&[][..], |ids| &ids[1..]);
                output.iter_mut().zip(ids).for_each(|(output, &id)| *output = id as f32);
            }
        }
        Ok(())
    }
}

/// Ids without a pattern that a cache could learn.
fn sentence(model: &Transformer, index: usize, seq: usize) -> Vec<u32> {
    let vocabulary = model.config().src_vocab.min(model.config().tgt_vocab);
    (0..seq).map(|position| ((index * seq + position + 1) * 7919 % vocabulary) as u32).collect()
}

fn last_of(values: &[f32], output: &mut [f32]) {
    output.copy_from_slice(&values[values.len() - output.len()..]);
}

impl Contest for Sentences {
    fn output(&self) -> Output {
        Output::of::<f32>(match self.case.task {
            Task::Encoder => self.model.config().d_model,
            Task::Forced | Task::Step => self.model.config().tgt_vocab,
            Task::Greedy | Task::Beam4 => self.case.seq,
        })
    }

    fn ours(&self) -> Contender<'_> {
        let mut session = self.session(&self.sources).expect("the level was chosen before");
        Contender::new("ours", move |output| {
            self.run(&mut session, &self.sources, output).expect("the sentences fit the model");
        })
    }

    fn rivals(&self) -> Vec<Contender<'_>> {
        if self.case.dtype != Dtype::F32 {
            return Vec::new();
        }
        rivals::sentences(SentenceOperands { case: &self.case, seed: SEED, sources: &self.sources })
    }

    /// There is no naive model; but a sentence has the same bits in any company.
    fn exact(&self, output: &[f32]) -> Result<(), Difference> {
        let company = sentence(&self.model, self.case.batch, self.case.seq / 2 + 1);
        let sources: Vec<_> = [company].into_iter().chain(self.sources.last().cloned()).collect();
        let mut expected = vec![f32::NAN; output.len()];
        let session = self.session(&sources).and_then(|mut session| self.run(&mut session, &sources, &mut expected));
        session.expect("the sentences fit the model");
        Difference::in_bits(output, &expected, 0)
    }

    /// Activations and logits are of order 1 after some thirty operations; ids are the same or not.
    fn tolerance(&self) -> f32 {
        match self.case.task {
            Task::Encoder | Task::Forced => 1e-3,
            Task::Step | Task::Greedy | Task::Beam4 => 0.0,
        }
    }
}
