//! Encoder and decoder layers.

use crate::Result;
use crate::attend::Attend;
use crate::config::NormOrder;
use crate::matrix::Matrix;
use crate::profile::Operation;
use crate::run::Run;
use crate::weights::{Layer, Norm, Sublayer};
use gristmill::simd::Element;

/// The buffers of a pass through the layers.
#[derive(Debug, Default)]
pub(crate) struct Buffers<E> {
    pub(crate) stream: Stream<E>,
    /// What the first product of a sublayer gives.
    projected: Matrix<E>,
    /// What attention found.
    context: Matrix<E>,
}

/// The residual stream: `x = x + sublayer(x)`, with a norm before the sublayer or after the sum.
///
/// Every pass does it in the same way, and their bits agree.
#[derive(Debug, Default)]
pub(crate) struct Stream<E> {
    pub(crate) x: Matrix<E>,
    /// The input of a sublayer behind a norm; and what takes the place of x.
    spare: Matrix<E>,
    /// What a sublayer adds, where a norm follows: not rounded before that.
    addend: Matrix,
}

impl<E: Element> Stream<E> {
    /// The first product of a sublayer.
    fn open(&mut self, run: &mut Run, operation: Operation, sublayer: &Sublayer<E>, y: &mut Matrix<E>) -> Result {
        let x = match run.config.norm {
            NormOrder::Pre => {
                run.norm(&sublayer.norm, &self.x, &mut self.spare)?;
                &self.spare
            }
            NormOrder::Post => &self.x,
        };
        run.linear(operation, &sublayer.first, x.view(), None, y)
    }

    /// Adds the last product of a sublayer.
    fn close(&mut self, run: &mut Run, operation: Operation, sublayer: &Sublayer<E>, y: &Matrix<E>) -> Result {
        match run.config.norm {
            NormOrder::Pre => {
                run.linear(operation, &sublayer.last, y.view(), Some(&self.x), &mut self.spare)?;
                std::mem::swap(&mut self.x, &mut self.spare);
                Ok(())
            }
            NormOrder::Post => {
                run.linear(operation, &sublayer.last, y.view(), None, &mut self.addend)?;
                run.add_norm(&sublayer.norm, &self.addend, &mut self.x)
            }
        }
    }

    /// The norm after the last layer, where there is one.
    pub(crate) fn finish(&mut self, run: &mut Run, norm: Option<&Norm>) -> Result {
        if let Some(norm) = norm {
            run.norm(norm, &self.x, &mut self.spare)?;
            std::mem::swap(&mut self.x, &mut self.spare);
        }
        Ok(())
    }
}

impl<E: Element> Layer<E> {
    /// Takes rows through the layer, attending to `keys`.
    pub(crate) fn apply(&self, run: &mut Run, buffers: &mut Buffers<E>, keys: &mut impl Attend<E>) -> Result {
        let Buffers { stream, projected, context } = buffers;
        stream.open(run, Operation::SelfProjection, &self.attention, projected)?;
        keys.to_own(run, projected, context)?;
        stream.close(run, Operation::SelfOutput, &self.attention, context)?;
        if let Some(cross) = &self.cross {
            stream.open(run, Operation::CrossQuery, &cross.sublayer, projected)?;
            keys.to_sources(run, cross, projected, context)?;
            stream.close(run, Operation::CrossOutput, &cross.sublayer, context)?;
        }
        stream.open(run, Operation::FeedForwardUp, &self.feed_forward, projected)?;
        stream.close(run, Operation::FeedForwardDown, &self.feed_forward, projected)
    }
}
