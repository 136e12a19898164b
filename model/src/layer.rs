//! Encoder and decoder layers.

use crate::attend::{Attend, attend_within};
use crate::batch::Spans;
use crate::config::{Activation, NormOrder};
use crate::matrix::Matrix;
use crate::profile::Operation;
use crate::run::{Epilogue, Run};
use crate::weights::{DecoderLayer, EncoderLayer, FeedForward, Linear, Norm};
use crate::{Config, Error};

/// The buffers of a pass through the layers.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    pub(crate) stream: Stream,
    /// Queries, or queries, keys and values.
    projected: Matrix,
    /// What attention found.
    context: Matrix,
    hidden: Matrix,
}

/// The residual stream: `x = x + sublayer(x)`, with a norm before the sublayer or after the sum.
///
/// The sum is the sublayer's last product with the stream as its residual: one rounding more than the product. Every
/// pass does it so, and their bits agree.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    pub(crate) x: Matrix,
    normed: Matrix,
    sum: Matrix,
}

impl Stream {
    /// Prepares the input of a sublayer.
    fn open(&mut self, run: &mut Run, norm: &Norm) -> Result<(), Error> {
        match run.config.norm {
            NormOrder::Pre => run.norm(norm, &self.x, &mut self.normed),
            NormOrder::Post => Ok(()),
        }
    }

    /// The input of the open sublayer.
    fn input(&self, config: &Config) -> &Matrix {
        match config.norm {
            NormOrder::Pre => &self.normed,
            NormOrder::Post => &self.x,
        }
    }

    /// Adds the sublayer's last product, of `last` and `y`.
    fn close(
        &mut self,
        run: &mut Run,
        norm: &Norm,
        operation: Operation,
        last: &Linear,
        y: &Matrix,
    ) -> Result<(), Error> {
        let epilogue = Epilogue { residual: Some(&self.x), ..Epilogue::default() };
        run.linear(operation, last, y.view(), &mut self.sum, epilogue)?;
        match run.config.norm {
            NormOrder::Pre => std::mem::swap(&mut self.x, &mut self.sum),
            NormOrder::Post => run.norm(norm, &self.sum, &mut self.x)?,
        }
        Ok(())
    }

    /// The norm after the last layer, where there is one.
    pub(crate) fn finish(&mut self, run: &mut Run, norm: Option<&Norm>) -> Result<(), Error> {
        if let Some(norm) = norm {
            run.norm(norm, &self.x, &mut self.sum)?;
            std::mem::swap(&mut self.x, &mut self.sum);
        }
        Ok(())
    }
}

impl EncoderLayer {
    /// Takes packed sentences through the layer.
    pub(crate) fn apply(&self, run: &mut Run, buffers: &mut Buffers, sources: &Spans) -> Result<(), Error> {
        let Buffers { stream, projected, context, .. } = buffers;
        let [attention_norm, feed_forward_norm] = &self.norms;
        stream.open(run, attention_norm)?;
        run.linear(
            Operation::SelfProjection,
            &self.attention.qkv,
            stream.input(run.config).view(),
            projected,
            Epilogue::default(),
        )?;
        attend_within(run, projected, sources, None, context)?;
        stream.close(run, attention_norm, Operation::SelfOutput, &self.attention.out, context)?;
        self.feed_forward.apply(run, buffers, feed_forward_norm)
    }
}

impl DecoderLayer {
    /// Takes target rows through the layer, the `index`-th of the decoder, attending as `keys` says.
    pub(crate) fn apply(
        &self,
        run: &mut Run,
        buffers: &mut Buffers,
        index: usize,
        keys: &mut impl Attend,
    ) -> Result<(), Error> {
        let Buffers { stream, projected, context, .. } = buffers;
        let [attention_norm, cross_norm, feed_forward_norm] = &self.norms;
        stream.open(run, attention_norm)?;
        run.linear(
            Operation::SelfProjection,
            &self.attention.qkv,
            stream.input(run.config).view(),
            projected,
            Epilogue::default(),
        )?;
        keys.to_targets(run, index, projected, context)?;
        stream.close(run, attention_norm, Operation::SelfOutput, &self.attention.out, context)?;

        stream.open(run, cross_norm)?;
        run.linear(
            Operation::CrossQuery,
            &self.cross.q,
            stream.input(run.config).view(),
            projected,
            Epilogue::default(),
        )?;
        keys.to_sources(run, index, projected, context)?;
        stream.close(run, cross_norm, Operation::CrossOutput, &self.cross.out, context)?;
        self.feed_forward.apply(run, buffers, feed_forward_norm)
    }
}

impl FeedForward {
    fn apply(&self, run: &mut Run, buffers: &mut Buffers, norm: &Norm) -> Result<(), Error> {
        let Buffers { stream, hidden, .. } = buffers;
        let activation = match run.config.activation {
            Activation::Relu => gristmill::Activation::Relu,
            Activation::Gelu => gristmill::Activation::Gelu,
        };
        stream.open(run, norm)?;
        let epilogue = Epilogue { activation, ..Epilogue::default() };
        run.linear(Operation::FeedForwardUp, &self.up, stream.input(run.config).view(), hidden, epilogue)?;
        stream.close(run, norm, Operation::FeedForwardDown, &self.down, hidden)
    }
}
