//! The operands of a product without their types, and the chain that its elements are.

use crate::epilogue::{Bias, Block, Epilogue};
use crate::panels::reads_columns;
use crate::plan::Sizes;
use crate::tile::PANEL;
use crate::{GemmOptions, Rhs};
use gristmill_core::{Activation, Operand};
use gristmill_simd::{Bf16Magnitudes, Dtype, Element, Isa, Simd, TypedPtr};
use std::marker::PhantomData;

/// The right-hand side without its type.
#[derive(Clone, Copy)]
pub(crate) enum Right<'p> {
    Plain(Operand<'p>),
    /// Panels of a packed matrix.
    Packed {
        panels: TypedPtr,
        /// Bytes that are read in turn, these among them.
        working_set: usize,
        magnitudes: Bf16Magnitudes,
    },
}

impl<'p, B: Element> From<Rhs<'p, B>> for Right<'p> {
    fn from(b: Rhs<'p, B>) -> Self {
        match b {
            Rhs::Plain(b) => Right::Plain(b.into()),
            Rhs::Packed(b) => b.erased(),
        }
    }
}

impl Right<'_> {
    pub(crate) fn dtype(&self) -> Dtype {
        match self {
            Right::Plain(b) => b.dtype(),
            Right::Packed { panels, .. } => panels.dtype(),
        }
    }

    /// Bytes that are read in turn, B among them.
    pub(crate) fn working_set(&self) -> usize {
        match self {
            Right::Plain(b) => b.rows().saturating_mul(b.cols()).saturating_mul(b.dtype().size()),
            Right::Packed { working_set, .. } => *working_set,
        }
    }
}

/// The options without their types.
#[derive(Clone, Copy)]
pub(crate) struct Steps<'p> {
    pub(crate) alpha: f32,
    pub(crate) beta: f32,
    pub(crate) bias: Bias<'p>,
    pub(crate) activation: Activation,
    pub(crate) residual: Option<Operand<'p>>,
}

impl<'p, C: Element, V: Element> From<&GemmOptions<'p, C, V>> for Steps<'p> {
    fn from(options: &GemmOptions<'p, C, V>) -> Self {
        let GemmOptions { alpha, beta, bias, activation, residual, threads: _, level: _ } = *options;
        let bias = bias.map_or(Bias::None, |bias| Bias::PerColumn(TypedPtr::new(bias.as_ptr()), PhantomData));
        Self { alpha, beta, bias, activation, residual: residual.map(Operand::from) }
    }
}

/// The order and the instruction of a chain's multiply-adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chain {
    /// In the order of k. A is read as f32.
    InOrder,
    /// bf16 by bf16: multiply-adds, the odd element of each pair first. A is read as f32, with pairs swapped and whole.
    OddFirst,
    /// bf16 by bf16: dot products of pairs. A is read as bf16, its steps side by side.
    Dot,
}

/// The operands of a product whose sizes agree. C was a matrix that may be written.
#[derive(Clone, Copy)]
pub(crate) struct Product<'p> {
    pub(crate) a: Operand<'p>,
    pub(crate) b: Right<'p>,
    pub(crate) c: Operand<'p>,
    pub(crate) steps: Steps<'p>,
}

// SAFETY: views of slices whose elements may be sent and shared; C is borrowed exclusively by whoever made it.
unsafe impl Send for Product<'_> {}
// SAFETY: as above. Writing to C through a shared product is up to the jobs, which write different blocks.
unsafe impl Sync for Product<'_> {}

impl<'p> Product<'p> {
    pub(crate) fn sizes(&self) -> Sizes {
        Sizes { m: self.c.rows(), n: self.c.cols(), k: self.a.cols() }
    }

    /// The product as it is computed: C^T = B^T A^T, with the same chains of multiply-adds, where C is column-major, since
    /// tiles store rows, and where that spares packing B.
    #[inline]
    pub(crate) fn turned<I: Isa>(self) -> Self {
        let Product { a, b, c, steps } = self;
        match b {
            Right::Plain(b) if (c.strides()[1] != 1 && c.strides()[0] == 1) || self.pays_turned::<I>(&b) => {
                let steps =
                    Steps { bias: steps.bias.turned(), residual: steps.residual.map(Operand::transposed), ..steps };
                Product { a: b.transposed(), b: Right::Plain(a.transposed()), c: c.transposed(), steps }
            }
            _ => self,
        }
    }

    /// Whether turning a row-major C pays: tiles read the long columns of B in place, as the rows that they are then, once
    /// for all rows of A, which nearly fill the few panels that they are packed into.
    fn pays_turned<I: Isa>(&self, b: &Operand<'_>) -> bool {
        let Sizes { m, n, k } = self.sizes();
        let columns = b.strides()[0] == 1 && b.strides()[1] != 1 && b.dtype() == Dtype::F32;
        // Tiles of few rows end too often.
        columns
            && I::LANES >= 8
            && self.c.strides()[1] == 1
            && (PANEL - 3..=3 * PANEL).contains(&m)
            && m.next_multiple_of(PANEL) - m <= PANEL / 4
            && n >= 2 * m
            && k >= 8 * PANEL
    }

    /// The epilogue of the tile whose first element is (i, j).
    #[inline]
    pub(crate) fn epilogue(&self, i: usize, j: usize) -> Epilogue<'_> {
        let Steps { alpha, beta, bias, activation, residual, .. } = self.steps;
        let bias = match bias {
            Bias::None => Bias::None,
            Bias::PerColumn(bias, life) => Bias::PerColumn(bias.offset(j as isize), life),
            Bias::PerRow(bias, life) => Bias::PerRow(bias.offset(i as isize), life),
        };
        let residual = residual.map(|r| Block { ptr: r.ptr_at(i, j), row: r.strides()[0], col: r.strides()[1] });
        let [c_row, c_col] = self.c.strides();
        Epilogue { alpha, beta, bias, activation, residual, c: self.c.ptr_at(i, j), c_row, c_col }
    }

    /// Whether both factors are bf16.
    pub(crate) fn is_bf16(&self) -> bool {
        self.a.dtype() == Dtype::Bf16 && self.b.dtype() == Dtype::Bf16
    }

    /// Whether plain multiply-adds give the bits of the product, where both factors are bf16.
    fn allows_plain<I: Isa>(&self, isa: I) -> bool {
        let b = match &self.b {
            Right::Plain(b) => b.bf16_magnitudes(isa),
            Right::Packed { magnitudes, .. } => *magnitudes,
        };
        self.a.bf16_magnitudes(isa).allow_plain(b, I::FUSED)
    }
}

/// The chain of the bf16 by bf16 products among these, one for all of them.
pub(crate) fn pairs<'p, I: Isa>(isa: I, simd: Simd, products: impl Iterator<Item = Product<'p>>) -> Chain {
    let mut products = products.filter(|product| product.is_bf16() && !product.sizes().is_empty()).peekable();
    // Where shuffles are the limit it costs nothing, and spares looking at B.
    let columns =
        |product: &Product| matches!(product.b, Right::Plain(b) if reads_columns::<I>(product.sizes(), &b, Chain::Dot));
    if products.peek().is_some_and(|first| I::DOT && (simd.dot_pays() || columns(first))) {
        return Chain::Dot;
    }
    if products.all(|product| product.allows_plain(isa)) { Chain::OddFirst } else { Chain::Dot }
}
