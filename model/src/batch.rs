//! Sentences of any lengths, packed one after another: there is no padding.

use crate::{Error, Result};
use gristmill::list;
use std::ops::Range;

/// The ids of some sentences.
#[derive(Clone, Debug, Default)]
pub(crate) struct Batch {
    pub(crate) ids: Vec<u32>,
    /// Of each id, from 0 in its sentence.
    pub(crate) positions: Vec<u32>,
    pub(crate) spans: Spans,
}

impl Batch {
    /// Replaces the sentences, each checked by `check`.
    pub(crate) fn pack(&mut self, sentences: &[impl AsRef<[u32]>], check: impl Fn(&[u32]) -> Result) -> Result {
        for (index, sentence) in sentences.iter().enumerate() {
            check(sentence.as_ref()).map_err(|cause| Error::Sentence { index, cause: Box::new(cause) })?;
        }
        self.ids.clear();
        self.positions.clear();
        self.spans.ends.clear();
        for sentence in sentences.iter().map(AsRef::as_ref) {
            list::extend(&mut self.ids, sentence.iter().copied())?;
            list::extend(&mut self.positions, 0..sentence.len() as u32)?;
            self.spans.push(sentence.len())?;
        }
        Ok(())
    }
}

/// Which rows of a packed matrix belong to which sentence.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spans {
    /// Sentence i ends before row `ends[i]`.
    ends: Vec<usize>,
}

impl Spans {
    pub(crate) fn push(&mut self, length: usize) -> Result {
        let end = self.total() + length;
        Ok(list::extend(&mut self.ends, [end])?)
    }

    /// Sentences.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Rows of all sentences together.
    pub(crate) fn total(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    /// The rows of some neighbouring sentences.
    pub(crate) fn rows(&self, sentences: Range<usize>) -> Range<usize> {
        let end = |count: usize| count.checked_sub(1).map_or(0, |last| self.ends[last]);
        end(sentences.start)..end(sentences.end)
    }

    /// The length of a sentence.
    pub(crate) fn length(&self, sentence: usize) -> usize {
        self.rows(sentence..sentence + 1).len()
    }

    /// Splits the sentences into runs of neighbours that have equal lengths here and equal lengths in `other`: each
    /// run is a rectangular batch, although nothing is padded.
    pub(crate) fn runs(&self, other: &Spans) -> impl Iterator<Item = Range<usize>> {
        let mut next = 0;
        std::iter::from_fn(move || {
            let start = next;
            let lengths = |sentence| (self.length(sentence), other.length(sentence));
            next = (start..self.len()).find(|&sentence| lengths(sentence) != lengths(start)).unwrap_or(self.len());
            (start < next).then_some(start..next)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(lengths: &[usize]) -> Spans {
        let mut spans = Spans::default();
        lengths.iter().for_each(|&length| spans.push(length).unwrap());
        spans
    }

    #[test]
    fn rows_follow_each_other() {
        let spans = spans(&[2, 0, 3]);
        assert_eq!((spans.len(), spans.total()), (3, 5));
        assert_eq!([0, 1, 2].map(|sentence| spans.rows(sentence..sentence + 1)), [0..2, 2..2, 2..5]);
        assert_eq!(spans.rows(1..3), 2..5);
        assert_eq!([0, 1, 2].map(|sentence| spans.length(sentence)), [2, 0, 3]);
    }

    #[test]
    fn runs_are_rectangular_and_complete() {
        let runs = |ours: &[usize], other: &[usize]| spans(ours).runs(&spans(other)).collect::<Vec<_>>();
        assert_eq!(runs(&[3, 3, 2, 2, 3], &[3, 3, 2, 2, 3]), [0..2, 2..4, 4..5]);
        assert_eq!(runs(&[3, 3, 3], &[1, 4, 4]), [0..1, 1..3]);
        assert_eq!(runs(&[], &[]), []);
    }

    #[test]
    fn a_refused_batch_changes_nothing() {
        let mut batch = Batch::default();
        batch.pack(&[vec![1, 2], vec![3]], |_| Ok(())).unwrap();
        let refuse = |ids: &[u32]| if ids.is_empty() { Err(Error::NoBeginning) } else { Ok(()) };
        let error = batch.pack(&[vec![9], vec![]], refuse).unwrap_err();
        assert!(matches!(error, Error::Sentence { index: 1, .. }));
        assert_eq!((batch.ids, batch.positions, batch.spans.len()), (vec![1, 2, 3], vec![0, 1, 0], 2));
    }
}
