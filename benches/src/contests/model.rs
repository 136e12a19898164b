//! The Transformer on seeded weights.

use crate::{
    buffer::Output,
    cases::{self, Task},
    contest::{Contender, Contest, Difference},
};
use gristmill_model::{Error, GenerateOptions, Session, SessionOptions, Transformer};

pub(super) struct Sentences {
    case: cases::Model,
    model: Transformer,
    sources: Vec<Vec<u32>>,
}

impl Sentences {
    pub(super) fn new(case: cases::Model) -> Option<Self> {
        if !matches!(case.task, Task::Encoder | Task::Forced | Task::Greedy) {
            return None;
        }
        let model = Transformer::seeded(case.configuration()?, 0).ok()?;
        let sources = (0..case.batch).map(|index| sentence(&model, index, case.seq)).collect();
        Some(Sentences { case, model, sources })
    }

    fn session(&self) -> Session<'_> {
        self.model.session(SessionOptions::default()).expect("the level was chosen before")
    }

    /// Runs the task; the output is the last token's row of the last sentence, or that sentence's new ids.
    fn run(&self, session: &mut Session<'_>, sources: &[Vec<u32>], output: &mut [f32]) -> Result<(), Error> {
        match self.case.task {
            Task::Encoder => last_of(session.encode(sources)?.values(), output),
            Task::Forced => last_of(session.forward(sources, sources)?.values(), output),
            Task::Step | Task::Greedy | Task::Beam4 => {
                let options = GenerateOptions { max_new_tokens: self.case.seq, ..Default::default() };
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
            Task::Forced => self.model.config().tgt_vocab,
            Task::Step | Task::Greedy | Task::Beam4 => self.case.seq,
        })
    }

    fn ours(&self) -> Contender<'_> {
        let mut session = self.session();
        Contender::new("ours", move |output| {
            self.run(&mut session, &self.sources, output).expect("the sentences fit the model");
        })
    }

    fn rivals(&self) -> Vec<Contender<'_>> {
        Vec::new()
    }

    /// There is no naive model; but a sentence has the same bits in any company.
    fn exact(&self, output: &[f32]) -> Result<(), Difference> {
        let company = sentence(&self.model, self.case.batch, self.case.seq / 2 + 1);
        let sources: Vec<_> = [company].into_iter().chain(self.sources.last().cloned()).collect();
        let mut expected = vec![f32::NAN; output.len()];
        self.run(&mut self.session(), &sources, &mut expected).expect("the sentences fit the model");
        Difference::in_bits(output, &expected, 0)
    }

    fn tolerance(&self) -> f32 {
        0.0
    }
}
