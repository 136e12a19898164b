//! One case made ready: its data, our call, the rivals' calls, and what all of them must return.

use crate::{
    buffer::{Output, Stored},
    cases::{Case, Work},
    contests,
};
use serde::Serialize;
use std::{fmt, marker::PhantomData};

/// Somebody who computes a case.
pub struct Contender<'a> {
    /// The library, and the way it is used where there are several.
    pub name: &'static str,
    body: Box<dyn Body + 'a>,
}

/// What a contender does.
trait Body: Send {
    fn call(&mut self, output: &mut Output);

    /// Writes the result of the last call to the output, if the call has not done so.
    fn deliver(&mut self, _output: &mut Output) {}
}

impl<'a> Contender<'a> {
    /// A contender from its name and its call, which writes its result to the slice, whose contents before are
    /// unspecified.
    pub fn new(name: &'static str, call: impl FnMut(&mut [f32]) + Send + 'a) -> Self {
        Self::of::<f32>(name, call)
    }

    /// [`Contender::new`] for a case whose output is of type `T`.
    pub fn of<T: Stored>(name: &'static str, call: impl FnMut(&mut [T]) + Send + 'a) -> Self {
        Contender { name, body: Box::new(Writing { call, values: PhantomData::<fn(&mut T)> }) }
    }

    /// A contender whose library returns a value of its own. `read` copies it to the output for the check; that is no
    /// part of the call, and not timed.
    pub fn owning<T: Stored, R: Send + 'a>(
        name: &'static str,
        call: impl FnMut() -> R + Send + 'a,
        read: impl FnMut(&R, &mut [T]) + Send + 'a,
    ) -> Self {
        Contender { name, body: Box::new(Owning { call, read, result: None, values: PhantomData::<fn(&mut T)> }) }
    }

    /// One call. Where the result goes is the contender's business until [`Contender::deliver`].
    pub fn call(&mut self, output: &mut Output) {
        self.body.call(output);
    }

    /// Makes sure that the result of the last call is in the output.
    pub fn deliver(&mut self, output: &mut Output) {
        self.body.deliver(output);
    }
}

struct Writing<T, C> {
    call: C,
    values: PhantomData<fn(&mut T)>,
}

impl<T: Stored, C: FnMut(&mut [T]) + Send> Body for Writing<T, C> {
    fn call(&mut self, output: &mut Output) {
        (self.call)(T::slice(output));
    }
}

struct Owning<T, C, F, R> {
    call: C,
    read: F,
    result: Option<R>,
    values: PhantomData<fn(&mut T)>,
}

impl<T: Stored, R: Send, C: FnMut() -> R + Send, F: FnMut(&R, &mut [T]) + Send> Body for Owning<T, C, F, R> {
    fn call(&mut self, _output: &mut Output) {
        // The previous result goes first, as in a loop that makes one after another.
        self.result = None;
        self.result = Some((self.call)());
    }

    fn deliver(&mut self, output: &mut Output) {
        if let Some(result) = &self.result {
            (self.read)(result, T::slice(output));
        }
    }
}

/// A case with its data. The calls run inside a pool of the case's thread count.
pub trait Contest: Sync {
    /// A fresh output of the type and length that the calls write.
    fn output(&self) -> Output;

    /// Our call, prepared: packed weights and workspace are its own.
    fn ours(&self) -> Contender<'_>;

    /// The others' calls, prepared through their own public means.
    fn rivals(&self) -> Vec<Contender<'_>>;

    /// Compares our output, whose values were widened, with the naive version, bit by bit, on as many rows as are
    /// affordable.
    ///
    /// # Errors
    /// The first difference.
    fn exact(&self, output: &[f32]) -> Result<(), Difference>;

    /// The largest absolute difference from our output that a rival may have.
    fn tolerance(&self) -> f32;
}

/// Allocates and fills the data of a case.
///
/// # Errors
/// When there is no kernel for the case, or its model cannot be made.
pub fn prepare(case: &Case) -> Result<Box<dyn Contest>, Unprepared> {
    let contest = match &case.work {
        Work::Gemm(work) => contests::gemm(work, case.threads),
        Work::Attention(work) => contests::attention(work, case.threads),
        Work::Rows(work) => contests::rows(work),
        Work::Model(work) => contests::model(work).map_err(Unprepared::Model)?,
    };
    contest.ok_or(Unprepared::Unsupported)
}

/// Why a case cannot be made ready.
#[derive(Debug)]
pub enum Unprepared {
    /// There is no kernel for it.
    Unsupported,
    /// Its model cannot be made.
    Model(gristmill_model::Error),
}

impl fmt::Display for Unprepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unprepared::Unsupported => write!(f, "no kernel computes it"),
            Unprepared::Model(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Unprepared {}

/// Two outputs that should agree and do not.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Index into the output.
    pub index: usize,
    /// What is there.
    pub found: f32,
    /// What should be there.
    pub expected: f32,
}

impl Difference {
    /// The first place from `start` on where `found` has other bits than `expected`; all NaN are the same.
    ///
    /// # Errors
    /// That place.
    pub fn in_bits(found: &[f32], expected: &[f32], start: usize) -> Result<(), Difference> {
        Self::first(found, expected, start, |x, y| x.to_bits() == y.to_bits() || (x.is_nan() && y.is_nan()))
    }

    /// The first place where `found` is not within `tolerance` of `expected`; a NaN is within nothing.
    ///
    /// # Errors
    /// That place.
    pub fn beyond(found: &[f32], expected: &[f32], tolerance: f32) -> Result<(), Difference> {
        Self::first(found, expected, 0, |x, y| (x - y).abs() <= tolerance)
    }

    fn first(found: &[f32], expected: &[f32], start: usize, same: impl Fn(f32, f32) -> bool) -> Result<(), Difference> {
        assert_eq!(found.len(), expected.len(), "outputs of different lengths");
        match found.iter().zip(expected).position(|(&x, &y)| !same(x, y)) {
            Some(i) => Err(Difference { index: start + i, found: found[i], expected: expected[i] }),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:e} instead of {:e} at {}", self.found, self.expected, self.index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_kernel_computes_is_refused() {
        for id in ["softmax/f16w/3x3/t1", "model/step/bf16w/base/1x1/t1", "model/step/f32/tiny/1x1/t1"] {
            let error = prepare(&id.parse().unwrap()).err();
            assert!(matches!(error, Some(Unprepared::Unsupported)), "{id}: {error:?}");
        }
    }

    #[test]
    fn bits_and_tolerances() {
        let nan = f32::NAN;
        assert_eq!(Difference::in_bits(&[1.0, nan], &[1.0, -nan], 0), Ok(()));
        let difference = Difference { index: 11, found: -0.0, expected: 0.0 };
        assert_eq!(Difference::in_bits(&[1.0, -0.0], &[1.0, 0.0], 10), Err(difference));
        assert_eq!(Difference::beyond(&[1.0, 2.5], &[1.5, 2.0], 0.5), Ok(()));
        assert_eq!(Difference::beyond(&[1.0, 2.5], &[1.5, 2.0], 0.25).map_err(|d| d.index), Err(0));
        assert!(Difference::beyond(&[nan], &[0.0], 1.0).is_err());
        assert!(Difference::beyond(&[0.0], &[nan], 1.0).is_err());
    }
}
