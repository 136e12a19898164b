//! Masks: which keys a query attends to, and what is added to its scores.

use crate::{
    attention::Options,
    status::Failure,
    view::{self, Named, Span, extent},
};
use gristmill::{Causal, Error, Mask, ScoresRef, list};
use std::{borrow::Cow, ffi::c_void, slice};

/// `gristmill_scores`: element (b, h, i, j) is
/// `data[b * batch_stride + h * head_stride + i * query_stride + j * key_stride]`; a size of 1 broadcasts.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Scores {
    /// The first element; may be null where there is none.
    pub data: *const c_void,
    /// Sequences, or 1.
    pub batch: usize,
    /// Query heads, or 1.
    pub heads: usize,
    /// Queries, or 1.
    pub queries: usize,
    /// Keys, or 1.
    pub keys: usize,
    /// Elements from a sequence to the next.
    pub batch_stride: usize,
    /// Elements from a head to the next.
    pub head_stride: usize,
    /// Elements from a query to the next.
    pub query_stride: usize,
    /// Elements from a key to the next.
    pub key_stride: usize,
}

impl Scores {
    fn sizes(&self) -> [usize; 4] {
        [self.batch, self.heads, self.queries, self.keys]
    }

    /// All that lies from the first element to the last, and a view of it.
    ///
    /// # Safety
    /// As [`view::read`].
    unsafe fn view<'a, T: 'a>(&self, name: &str) -> Result<(&'a [T], ScoresRef<'a, T>), Failure> {
        let strides = [self.batch_stride, self.head_stride, self.query_stride, self.key_stride];
        // SAFETY: the caller's promise.
        let data = unsafe { view::read::<T>(name, self.data, extent(name, self.sizes(), strides)?)? };
        Ok((data, ScoresRef::strided(data, 0, self.sizes(), strides.map(|stride| stride as isize))?))
    }
}

/// Elements as in [`Scores`].
struct Keep<'a> {
    values: Cow<'a, [bool]>,
    sizes: [usize; 4],
    strides: [isize; 4],
}

/// A mask whose memory was found to be there.
pub(crate) struct Parts<'a> {
    causal: Option<Causal<'a>>,
    key_lengths: Option<&'a [usize]>,
    keep: Option<Keep<'a>>,
    bias: Option<ScoresRef<'a, f32>>,
    /// Where all of it lies.
    pub(crate) spans: [Named; 4],
}

impl<'a> Parts<'a> {
    /// The mask that the options describe, for `[batch, heads, queries, keys]`.
    ///
    /// # Safety
    /// Pointers are null, or point to what the header says, which is readable for `'a`; nobody writes it meanwhile.
    pub(crate) unsafe fn read(options: &Options, [batch, heads, queries, keys]: [usize; 4]) -> Result<Self, Failure> {
        let count = match options.causal {
            0 | 1 => 0,
            2 => 1,
            3 => batch,
            unknown => return Err(Failure::invalid(format!("unknown causal mask {unknown}"))),
        };
        // SAFETY: the caller's promise, here and below.
        let offsets: &[isize] = unsafe { view::read("causal_offsets", options.causal_offsets.cast(), count)? };
        let causal = match options.causal {
            0 => None,
            1 => Some(Causal::BottomRight),
            2 => Some(Causal::Offset(offsets[0])),
            _ => Some(Causal::PerBatch(offsets)),
        };
        // SAFETY: as above.
        let key_lengths = unsafe { view::read_optional("key_lengths", options.key_lengths, batch)? };
        // SAFETY: as above.
        let keep = unsafe { options.keep.as_ref().map(|keep| keep.view::<u8>("keep")).transpose()? };
        // SAFETY: as above.
        let bias = unsafe { options.bias.as_ref().map(|bias| bias.view::<f32>("bias")).transpose()? };
        let spans = [
            ("causal_offsets", Some(Span::of(offsets))),
            ("key_lengths", key_lengths.map(Span::of)),
            ("keep", keep.map(|(data, _)| Span::of(data))),
            ("bias", bias.map(|(data, _)| Span::of(data))),
        ];
        let keep = keep.map(|(data, view)| {
            // Before any byte is read: of wrong sizes there may be fewer.
            let shape = ScoresRef::strided(&[true], 0, view.sizes(), [0; 4])?;
            Mask { keep: Some(shape), ..Mask::default() }.validate(batch, heads, queries, keys)?;
            Ok::<_, Failure>(Keep { values: bools(data)?, sizes: view.sizes(), strides: view.strides() })
        });
        let keep = keep.transpose()?;
        Ok(Self { causal, key_lengths, keep, bias: bias.map(|(_, bias)| bias), spans })
    }

    pub(crate) fn mask(&self) -> Result<Mask<'_>, Failure> {
        let keep = self.keep.as_ref().map(|keep| ScoresRef::strided(&keep.values, 0, keep.sizes, keep.strides));
        let keep = keep.transpose()?;
        Ok(Mask { causal: self.causal, key_lengths: self.key_lengths, keep, bias: self.bias })
    }
}

/// Which bytes are not 0. Bytes of C may have any value, bools of Rust may not: without others these are the bytes.
fn bools(bytes: &[u8]) -> Result<Cow<'_, [bool]>, Error> {
    if bytes.iter().fold(0, |all, byte| all | byte) <= 1 {
        // SAFETY: every byte is 0 or 1, that is, a bool.
        return Ok(Cow::Borrowed(unsafe { slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len()) }));
    }
    let mut values = list::with_capacity(bytes.len())?;
    values.extend(bytes.iter().map(|&byte| byte != 0));
    Ok(Cow::Owned(values))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_become_bools() {
        assert!(matches!(bools(&[0, 1, 1]).unwrap(), Cow::Borrowed([false, true, true])));
        assert!(matches!(bools(&[]).unwrap(), Cow::Borrowed([])));
        assert_eq!(bools(&[0, 1, 2, 255]).unwrap(), Cow::<[bool]>::Owned(vec![false, true, true, true]));
    }
}
