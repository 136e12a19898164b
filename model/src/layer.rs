//! Encoder and decoder layers.

use crate::attend::{Attend, attend_within};
use crate::batch::Spans;
use crate::config::{Activation, NormOrder};
use crate::matrix::Matrix;
use crate::profile::Operation;
use crate::run::{Epilogue, Run};
use crate::weights::{DecoderLayer, EncoderLayer, FeedForward, Linear, Norm};
use crate::{Config, Error};
use gristmill::MatRef;
use gristmill::simd::Element;

/// The buffers of a pass through the layers.
#[derive(Debug, Default)]
pub(crate) struct Buffers<E> {
    pub(crate) stream: Stream<E>,
    /// Queries, or queries, keys and values.
    projected: Matrix<E>,
    /// What attention found.
    context: Matrix<E>,
    hidden: Matrix<E>,
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
    /// Prepares the input of a sublayer.
    fn open(&mut self, run: &mut Run, norm: &Norm) -> Result<(), Error> {
        match run.config.norm {
            NormOrder::Pre => run.norm(norm, &self.x, &mut self.spare),
            NormOrder::Post => Ok(()),
        }
    }

    /// The input of the open sublayer.
    fn input(&self, config: &Config) -> MatRef<'_, E> {
        match config.norm {
            NormOrder::Pre => self.spare.view(),
            NormOrder::Post => self.x.view(),
        }
    }

    /// Adds the sublayer's last product, of `last` and `y`.
    fn close(
        &mut self,
        run: &mut Run,
        norm: &Norm,
        operation: Operation,
        last: &Linear<E>,
        y: &Matrix<E>,
    ) -> Result<(), Error> {
        match run.config.norm {
            NormOrder::Pre => {
                let epilogue = Epilogue { residual: Some(&self.x), ..Epilogue::default() };
                run.linear(operation, last, y.view(), &mut self.spare, epilogue)?;
                std::mem::swap(&mut self.x, &mut self.spare);
                Ok(())
            }
            NormOrder::Post => {
                run.linear(operation, last, y.view(), &mut self.addend, Epilogue::default())?;
                run.add_norm(norm, &self.addend, &mut self.x)
            }
        }
    }

    /// The norm after the last layer, where there is one.
    pub(crate) fn finish(&mut self, run: &mut Run, norm: Option<&Norm>) -> Result<(), Error> {
        if let Some(norm) = norm {
            run.norm(norm, &self.x, &mut self.spare)?;
            std::mem::swap(&mut self.x, &mut self.spare);
        }
        Ok(())
    }
}

impl<E: Element> EncoderLayer<E> {
    /// Takes packed sentences through the layer.
    pub(crate) fn apply(&self, run: &mut Run, buffers: &mut Buffers<E>, sources: &Spans) -> Result<(), Error> {
        let Buffers { stream, projected, context, .. } = buffers;
        let [attention_norm, feed_forward_norm] = &self.norms;
        stream.open(run, attention_norm)?;
        run.linear(
            Operation::SelfProjection,
            &self.attention.qkv,
            stream.input(run.config),
            projected,
            Epilogue::default(),
        )?;
        attend_within(run, projected, sources, None, context)?;
        stream.close(run, attention_norm, Operation::SelfOutput, &self.attention.out, context)?;
        self.feed_forward.apply(run, buffers, feed_forward_norm)
    }
}

impl<E: Element> DecoderLayer<E> {
    /// Takes target rows through the layer, the `index`-th of the decoder, attending as `keys` says.
    pub(crate) fn apply(
        &self,
        run: &mut Run,
        buffers: &mut Buffers<E>,
        index: usize,
        keys: &mut impl Attend<E>,
    ) -> Result<(), Error> {
        let Buffers { stream, projected, context, .. } = buffers;
        let [attention_norm, cross_norm, feed_forward_norm] = &self.norms;
        stream.open(run, attention_norm)?;
        run.linear(
            Operation::SelfProjection,
            &self.attention.qkv,
            stream.input(run.config),
            projected,
            Epilogue::default(),
        )?;
        keys.to_targets(run, index, projected, context)?;
        stream.close(run, attention_norm, Operation::SelfOutput, &self.attention.out, context)?;

        stream.open(run, cross_norm)?;
        run.linear(Operation::CrossQuery, &self.cross.q, stream.input(run.config), projected, Epilogue::default())?;
        keys.to_sources(run, index, projected, context)?;
        stream.close(run, cross_norm, Operation::CrossOutput, &self.cross.out, context)?;
        self.feed_forward.apply(run, buffers, feed_forward_norm)
    }
}

impl<E: Element> FeedForward<E> {
    fn apply(&self, run: &mut Run, buffers: &mut Buffers<E>, norm: &Norm) -> Result<(), Error> {
        let Buffers { stream, hidden, .. } = buffers;
        let activation = match run.config.activation {
            Activation::Relu => gristmill::Activation::Relu,
            Activation::Gelu => gristmill::Activation::Gelu,
        };
        stream.open(run, norm)?;
        let epilogue = Epilogue { activation, ..Epilogue::default() };
        run.linear(Operation::FeedForwardUp, &self.up, stream.input(run.config), hidden, epilogue)?;
        stream.close(run, norm, Operation::FeedForwardDown, &self.down, hidden)
    }
}
