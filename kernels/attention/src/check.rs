//! Whether the arguments of a call fit together.

use crate::AttentionOptions;
use gristmill_core::{Error, HeadsMut, HeadsRef};

/// Checks views and options against each other.
pub(crate) fn call(
    q: &HeadsRef<f32>,
    k: &HeadsRef<f32>,
    v: &HeadsRef<f32>,
    out: &HeadsMut<f32>,
    options: &AttentionOptions,
) -> Result<(), Error> {
    let equal = |what, expected, found| {
        if expected == found { Ok(()) } else { Err(Error::ShapeMismatch { what, expected, found }) }
    };
    equal("batch of k", q.batch(), k.batch())?;
    equal("batch of v", q.batch(), v.batch())?;
    equal("batch of out", q.batch(), out.batch())?;
    equal("positions of v", k.seq(), v.seq())?;
    equal("positions of out", q.seq(), out.seq())?;
    equal("heads of v", k.heads(), v.heads())?;
    equal("heads of out", q.heads(), out.heads())?;
    equal("head size of k", q.dim(), k.dim())?;
    equal("head size of out", v.dim(), out.dim())?;
    let divides = match k.heads() {
        0 => q.heads() == 0,
        heads => q.heads().is_multiple_of(heads),
    };
    if !divides {
        return Err(Error::HeadGroups { query: q.heads(), key_value: k.heads() });
    }
    if let Some(cap) = options.softcap
        && !(cap > 0.0 && cap.is_finite())
    {
        return Err(Error::InvalidOption { what: "softcap must be finite and positive", value: cap });
    }
    options.mask.validate(q.batch(), q.heads(), q.seq(), k.seq())
}
