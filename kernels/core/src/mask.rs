//! Which keys a query attends to.

use crate::{Error, ScoresRef};
use std::ops::Range;

/// Which keys each query sees. Everything that is given must allow a key; the default hides nothing.
///
/// A hidden key takes part in no sum, and what its value holds does not matter.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mask<'a> {
    /// Hides the keys after a query.
    pub causal: Option<Causal<'a>>,
    /// Hides keys from `key_lengths[b]` on in sequence `b`: one length per sequence, each at most `S_k`.
    pub key_lengths: Option<&'a [usize]>,
    /// Hides the keys for which it is false. Broadcasts.
    pub keep: Option<ScoresRef<'a, bool>>,
    /// Added to the scaled score. Minus infinity hides the key; NaN propagates. Broadcasts.
    pub bias: Option<ScoresRef<'a, f32>>,
}

/// Query `i` sees key `j` iff `j <= i + offset`.
#[derive(Clone, Copy, Debug)]
pub enum Causal<'a> {
    /// `S_k - S_q`: the last query sees every key, the one before it all but one.
    BottomRight,
    /// This offset, of any sign.
    Offset(isize),
    /// One offset per sequence of the batch.
    PerBatch(&'a [isize]),
}

impl Mask<'_> {
    /// Checks the mask against the sizes of an attention call.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for a part of another shape, [`Error::KeyLength`] for a length above `sk`.
    pub fn validate(&self, b: usize, h: usize, sq: usize, sk: usize) -> Result<(), Error> {
        if let Some(Causal::PerBatch(offsets)) = self.causal {
            check_count("causal offsets", b, offsets.len())?;
        }
        if let Some(lengths) = self.key_lengths {
            check_count("key lengths", b, lengths.len())?;
            if let Some(batch) = lengths.iter().position(|&length| length > sk) {
                return Err(Error::KeyLength { batch, length: lengths[batch], keys: sk });
            }
        }
        let sizes = [b, h, sq, sk];
        if let Some(keep) = self.keep {
            keep.check_covers(sizes, ["batch of keep", "heads of keep", "queries of keep", "keys of keep"])?;
        }
        if let Some(bias) = self.bias {
            bias.check_covers(sizes, ["batch of bias", "heads of bias", "queries of bias", "keys of bias"])?;
        }
        Ok(())
    }

    /// The keys that `causal` and `key_lengths` leave to query `i` of sequence `b`. It never ends below that of an
    /// earlier query.
    ///
    /// # Panics
    /// If the mask was not validated and has no such sequence.
    #[inline]
    pub fn key_range(&self, b: usize, i: usize, sq: usize, sk: usize) -> Range<usize> {
        let length = self.key_lengths.map_or(sk, |lengths| lengths[b].min(sk));
        let offset = match self.causal {
            None => return 0..length,
            // Slices of zero-sized vectors may be longer than isize::MAX.
            Some(Causal::BottomRight) => sk as i128 - sq as i128,
            Some(Causal::Offset(offset)) => offset as i128,
            Some(Causal::PerBatch(offsets)) => offsets[b] as i128,
        };
        let end = (i as i128 + offset + 1).clamp(0, length as i128);
        0..end as usize
    }

    /// Whether query `i` sees key `j` in head `h` of sequence `b`, for sequences of `sq` queries and `sk` keys.
    ///
    /// # Panics
    /// If the mask was not validated and has no such query or key.
    pub fn visible(&self, [b, h, i, j]: [usize; 4], sq: usize, sk: usize) -> bool {
        self.key_range(b, i, sq, sk).contains(&j)
            && self.keep.is_none_or(|keep| keep.at(b, h, i, j))
            && self.bias.is_none_or(|bias| bias.at(b, h, i, j) != f32::NEG_INFINITY)
    }

    /// Whether queries see every key of [`key_range`](Mask::key_range): there is neither `keep` nor `bias`.
    #[inline]
    pub fn is_dense(&self) -> bool {
        self.keep.is_none() && self.bias.is_none()
    }
}

fn check_count(what: &'static str, expected: usize, found: usize) -> Result<(), Error> {
    if expected == found { Ok(()) } else { Err(Error::ShapeMismatch { what, expected, found }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number of visible keys of each query of sequence 1, head 0.
    fn seen(mask: &Mask, sq: usize, sk: usize) -> Vec<usize> {
        (0..sq).map(|i| (0..sk).filter(|&j| mask.visible([1, 0, i, j], sq, sk)).count()).collect()
    }

    #[test]
    fn causal_offsets_of_every_sign() {
        let causal = |causal| Mask { causal: Some(causal), ..Mask::default() };
        assert_eq!(seen(&causal(Causal::BottomRight), 2, 4), [3, 4]);
        assert_eq!(seen(&causal(Causal::BottomRight), 4, 2), [0, 0, 1, 2]);
        assert_eq!(seen(&causal(Causal::Offset(0)), 3, 2), [1, 2, 2]);
        assert_eq!(seen(&causal(Causal::Offset(-2)), 3, 2), [0, 0, 1]);
        assert_eq!(seen(&causal(Causal::PerBatch(&[0, 1])), 2, 4), [2, 3]);
        assert_eq!(seen(&causal(Causal::Offset(isize::MAX)), 2, 2), [2, 2]);
        assert_eq!(seen(&causal(Causal::Offset(isize::MIN)), 2, 2), [0, 0]);
    }

    #[test]
    fn everything_must_allow_a_key() -> Result<(), Error> {
        let keep = [true, true, false, true, true];
        let bias = [0.0, f32::NEG_INFINITY, 0.0, f32::NAN, 0.0];
        let mask = Mask {
            causal: Some(Causal::Offset(2)),
            key_lengths: Some(&[0, 4]),
            keep: Some(ScoresRef::new(&keep, [1, 1, 1, 5])?),
            bias: Some(ScoresRef::new(&bias, [1, 1, 1, 5])?),
        };
        mask.validate(2, 3, 4, 5)?;
        assert_eq!(seen(&mask, 4, 5), [1, 2, 2, 2]);
        assert_eq!(mask.key_range(1, 3, 4, 5), 0..4);
        assert_eq!(seen(&Mask::default(), 2, 3), [3, 3]);
        assert!(Mask::default().is_dense() && !mask.is_dense());
        Ok(())
    }

    #[test]
    fn mistakes_are_refused() -> Result<(), Error> {
        let mask = Mask { key_lengths: Some(&[3, 6]), ..Mask::default() };
        assert_eq!(mask.validate(2, 1, 1, 5), Err(Error::KeyLength { batch: 1, length: 6, keys: 5 }));
        let mismatch = |what, expected, found| Err(Error::ShapeMismatch { what, expected, found });
        assert_eq!(mask.validate(3, 1, 1, 6), mismatch("key lengths", 3, 2));
        let mask = Mask { causal: Some(Causal::PerBatch(&[0])), ..Mask::default() };
        assert_eq!(mask.validate(2, 1, 1, 5), mismatch("causal offsets", 2, 1));
        let keep = [true; 4];
        let mask = Mask { keep: Some(ScoresRef::new(&keep, [1, 2, 1, 2])?), ..Mask::default() };
        assert_eq!(mask.validate(2, 3, 1, 2), mismatch("heads of keep", 3, 2));
        Ok(())
    }
}
