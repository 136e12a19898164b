//! Masks: which keys a query attends to, and what is added to its scores.

use crate::{
    attention::Options,
    status::Failure,
    view::{self, Named, Span, extent},
};
use gristmill::{Causal, Error, Mask, ScoresRef, list};
use std::ffi::c_void;

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

    /// The memory that they lie in, and a view of it.
    ///
    /// # Safety
    /// As [`view::read`].
    unsafe fn view<'a, T: 'a>(&self, name: &str) -> Result<(Span, ScoresRef<'a, T>), Failure> {
        let strides = [self.batch_stride, self.head_stride, self.query_stride, self.key_stride];
        // SAFETY: the caller's promise.
        let data = unsafe { view::read::<T>(name, self.data, extent(name, self.sizes(), strides)?)? };
        Ok((Span::of(data), ScoresRef::strided(data, 0, self.sizes(), strides.map(|stride| stride as isize))?))
    }
}

/// A mask whose memory was found to be there.
pub(crate) struct Parts<'a> {
    causal: Option<Causal<'a>>,
    key_lengths: Option<&'a [usize]>,
    /// Bytes of C may have any value, bools of Rust may not: these are copies.
    keep: Option<([usize; 4], Vec<bool>)>,
    bias: Option<ScoresRef<'a, f32>>,
    /// Where all of it lies.
    pub(crate) spans: [Named; 4],
}

impl<'a> Parts<'a> {
    /// The mask that the options describe, of `batch` sequences.
    ///
    /// # Safety
    /// Pointers are null, or point to what the header says, which is readable for `'a`; nobody writes it meanwhile.
    pub(crate) unsafe fn read(options: &Options, batch: usize) -> Result<Self, Failure> {
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
            ("keep", keep.map(|(span, _)| span)),
            ("bias", bias.map(|(span, _)| span)),
        ];
        let keep = keep.map(|(_, bytes)| Ok::<_, Failure>((bytes.sizes(), bools(bytes)?))).transpose()?;
        Ok(Self { causal, key_lengths, keep, bias: bias.map(|(_, bias)| bias), spans })
    }

    pub(crate) fn mask(&self) -> Result<Mask<'_>, Failure> {
        let keep = self.keep.as_ref().map(|(sizes, values)| ScoresRef::new(values, *sizes)).transpose()?;
        Ok(Mask { causal: self.causal, key_lengths: self.key_lengths, keep, bias: self.bias })
    }
}

/// Which bytes are not 0, in the order of the sizes.
fn bools(bytes: ScoresRef<'_, u8>) -> Result<Vec<bool>, Failure> {
    let [batch, heads, queries, keys] = bytes.sizes();
    if bytes.sizes().contains(&0) {
        // The other sizes may be more than can be counted through.
        return Ok(Vec::new());
    }
    let count = [batch, heads, queries, keys].iter().try_fold(1_usize, |product, &size| product.checked_mul(size));
    let count = count.ok_or(Error::SizeOverflow { what: "elements of keep" })?;
    let mut values = list::with_capacity(count)?;
    for (b, h) in (0..batch).flat_map(|b| (0..heads).map(move |h| (b, h))) {
        for i in 0..queries {
            match bytes.row(b, h, i) {
                Some(row) => values.extend(row.iter().map(|&byte| byte != 0)),
                None => values.extend((0..keys).map(|j| bytes.at(b, h, i, j) != 0)),
            }
        }
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_become_bools_in_the_order_of_the_sizes() {
        let bytes = [0, 1, 2, 255, 0, 7];
        let view = |strides| bools(ScoresRef::strided(&bytes, 0, [1, 1, 2, 3], strides).unwrap()).unwrap();
        assert_eq!(view([0, 0, 3, 1]), [false, true, true, true, false, true]);
        assert_eq!(view([0, 0, 1, 2]), [false, true, false, true, true, true]);
        for sizes in [[usize::MAX, 1, 1, 0], [1 << 62, 1 << 62, 0, 1]] {
            assert_eq!(bools(ScoresRef::new(&[], sizes).unwrap()).unwrap(), []);
        }
    }
}
