//! Values in every layout that a view can describe.

use crate::{Fill, Rng};
use gristmill_core::{HeadsMut, HeadsRef, MatMut, MatRef, ScoresRef};
use gristmill_simd::Element;
use std::fmt;

/// How the elements of `N` dimensions lie in a slice.
#[derive(Clone, Debug)]
pub struct Layout<const N: usize> {
    /// The dimensions from the outermost to the innermost.
    pub order: [usize; N],
    /// Elements from one element of the innermost dimension to the next, at least 1.
    pub step: usize,
    /// Elements left free after each index of a dimension.
    pub padding: [usize; N],
    /// Dimensions that run backwards. Inputs only.
    pub reversed: [bool; N],
    /// Dimensions whose stride is zero. Inputs only.
    pub repeated: [bool; N],
    /// Elements before the first and after the last.
    pub margin: usize,
    /// The stride of dimensions by which no element is reached, if it is to be absurd.
    pub idle: Option<isize>,
}

impl<const N: usize> Default for Layout<N> {
    /// Row-major without gaps.
    fn default() -> Self {
        let order = std::array::from_fn(|d| d);
        Self { order, step: 1, padding: [0; N], reversed: [false; N], repeated: [false; N], margin: 0, idle: None }
    }
}

impl<const N: usize> Layout<N> {
    /// Offset and strides for these sizes, and the length of the slice.
    pub fn place(&self, sizes: [usize; N]) -> (usize, [isize; N], usize) {
        let (mut offset, mut strides, mut reach) = (self.margin, [0; N], self.step.max(1));
        for (depth, &d) in self.order.iter().rev().enumerate() {
            if self.repeated[d] {
                continue;
            }
            let stride = if depth == 0 { reach } else { reach + self.padding[d] };
            reach = stride * sizes[d].max(1);
            strides[d] = stride as isize;
            if self.reversed[d] {
                offset += stride * sizes[d].saturating_sub(1);
                strides[d] = -strides[d];
            }
        }
        if let Some(idle) = self.idle {
            let is_idle = |size| size == 1 || sizes.contains(&0);
            strides = std::array::from_fn(|d| if is_idle(sizes[d]) { idle } else { strides[d] });
        }
        (offset, strides, reach + 2 * self.margin)
    }
}

/// Owned values of `N` dimensions in some layout.
#[derive(Clone)]
pub struct Strided<T, const N: usize> {
    /// The slice.
    pub data: Vec<T>,
    /// Where the first element lies.
    pub offset: usize,
    /// Sizes.
    pub sizes: [usize; N],
    /// Strides.
    pub strides: [isize; N],
}

/// A matrix of f32.
pub type Matrix = Strided<f32, 2>;
/// Heads of f32, `[B, S, H, D]`.
pub type Heads = Strided<f32, 4>;

/// What lies between the elements of a float view: a NaN that no arithmetic makes.
pub const GAP: f32 = f32::from_bits(0x7fda_b0de);

impl<T: Copy, const N: usize> Strided<T, N> {
    /// Elements from `value`, in row-major order, and `gap` between them.
    pub fn new(sizes: [usize; N], layout: &Layout<N>, gap: T, mut value: impl FnMut() -> T) -> Self {
        let (offset, strides, len) = layout.place(sizes);
        let mut new = Self { data: vec![gap; len], offset, sizes, strides };
        for address in new.addresses().collect::<Vec<_>>() {
            new.data[address] = value();
        }
        new
    }

    /// Where the elements lie in `data`, in row-major order.
    pub fn addresses(&self) -> impl Iterator<Item = usize> + use<T, N> {
        let (offset, sizes, strides) = (self.offset as isize, self.sizes, self.strides);
        (0..sizes.iter().product()).map(move |mut n: usize| {
            let mut address = offset;
            for d in (0..N).rev() {
                address += (n % sizes[d]) as isize * strides[d];
                n /= sizes[d];
            }
            address as usize
        })
    }

    /// The elements in row-major order.
    pub fn values(&self) -> Vec<T> {
        self.addresses().map(|address| self.data[address]).collect()
    }
}

impl<T: Element, const N: usize> Strided<T, N> {
    /// Elements of a kind; the gaps hold [`GAP`].
    pub fn filled(sizes: [usize; N], layout: &Layout<N>, fill: Fill, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        Self::new(sizes, layout, T::from_f32(GAP), || fill.element(&mut rng))
    }

    /// The same layout with every value, gaps too, widened or rounded to another storage type.
    pub fn to<U: Element>(&self) -> Strided<U, N> {
        let Self { offset, sizes, strides, .. } = *self;
        Strided { data: self.data.iter().map(|x| U::from_f32(x.to_f32())).collect(), offset, sizes, strides }
    }

    /// The elements in row-major order as f32, which has each of them exactly.
    pub fn widened(&self) -> Vec<f32> {
        self.addresses().map(|address| self.data[address].to_f32()).collect()
    }

    /// Asserts that nothing was written between the elements.
    ///
    /// # Panics
    /// When something was.
    #[track_caller]
    pub fn assert_gaps(&self, context: impl fmt::Display) {
        let mut element = vec![false; self.data.len()];
        self.addresses().for_each(|address| element[address] = true);
        let gap = T::from_f32(GAP).to_bits();
        let mut gaps = self.data.iter().zip(&element).enumerate().filter(|(_, (_, element))| !**element);
        let written = gaps.find(|(_, (value, _))| value.to_bits() != gap);
        assert!(written.is_none(), "{context}: {:?} was written between the elements of {self:?}", written.unwrap());
    }

    /// Asserts that not one bit differs from `before`, gaps included.
    ///
    /// # Panics
    /// When one does.
    #[track_caller]
    pub fn assert_untouched(&self, before: &Self, context: impl fmt::Display) {
        let same = self.data.iter().map(|x| x.to_bits()).eq(before.data.iter().map(|x| x.to_bits()));
        assert!(same, "{context}: {self:?} was touched");
    }
}

impl<T> Strided<T, 2> {
    /// The matrix.
    pub fn mat(&self) -> MatRef<'_, T> {
        MatRef::strided(&self.data, self.offset, self.sizes, self.strides).expect("a layout places elements inside")
    }

    /// The matrix, for writing.
    ///
    /// # Panics
    /// When the layout is not one of outputs.
    pub fn mat_mut(&mut self) -> MatMut<'_, T> {
        MatMut::strided(&mut self.data, self.offset, self.sizes, self.strides).expect("a layout of outputs")
    }
}

impl<T> Strided<T, 4> {
    /// The heads.
    pub fn heads(&self) -> HeadsRef<'_, T> {
        HeadsRef::strided(&self.data, self.offset, self.sizes, self.strides).expect("a layout places elements inside")
    }

    /// The heads, for writing.
    ///
    /// # Panics
    /// When the layout is not one of outputs.
    pub fn heads_mut(&mut self) -> HeadsMut<'_, T> {
        HeadsMut::strided(&mut self.data, self.offset, self.sizes, self.strides).expect("a layout of outputs")
    }

    /// The values as scores `[B, H, S_q, S_k]`.
    pub fn scores(&self) -> ScoresRef<'_, T> {
        ScoresRef::strided(&self.data, self.offset, self.sizes, self.strides).expect("a layout places elements inside")
    }
}

impl<T: Copy + fmt::Debug, const N: usize> fmt::Debug for Strided<T, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {} by {:?}", self.sizes, self.offset, self.strides)?;
        let first: Vec<T> = self.addresses().take(4).map(|address| self.data[address]).collect();
        write!(f, " holding {first:?}..")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_place_what_views_read() {
        let padded = Layout { padding: [3, 0], margin: 2, ..Layout::default() };
        let transposed = Layout { order: [1, 0], step: 2, ..Layout::default() };
        let reversed = Layout { reversed: [true, true], ..Layout::default() };
        for (layout, strides) in [(padded, [8, 1]), (transposed, [2, 6]), (reversed, [-5, -1])] {
            let matrix = Matrix::filled([3, 5], &layout, Fill::Normal, 1);
            assert_eq!(matrix.strides, strides);
            let read: Vec<f32> = (0..15).map(|n| matrix.mat().at(n / 5, n % 5)).collect();
            assert_eq!(read, crate::fill::normal(1, 15));
            assert_eq!(read, matrix.values());
            matrix.assert_gaps("made");
        }
        let repeated = Layout { repeated: [true, false], ..Layout::default() };
        assert_eq!(Matrix::filled([3, 5], &repeated, Fill::Normal, 1).strides, [0, 1]);
        let idle = Layout { idle: Some(isize::MIN), ..Layout::default() };
        let row = Matrix::filled([1, 15], &idle, Fill::Normal, 1);
        assert_eq!((row.strides, row.values()), ([isize::MIN, 1], crate::fill::normal(1, 15)));
        assert_eq!(Matrix::filled([3, 0], &idle, Fill::Normal, 1).strides, [isize::MIN; 2]);
    }

    #[test]
    fn other_storage_types_keep_the_layout() {
        use half::{bf16, f16};
        let padded = Layout { padding: [3, 0], margin: 2, ..Layout::default() };
        let matrix = Matrix::filled([3, 5], &padded, Fill::Special, 1);
        let mut half: Strided<f16, 2> = matrix.to();
        half.assert_gaps("f16");
        matrix.to::<bf16>().assert_gaps("bf16");
        let rounded: Vec<f32> = matrix.values().into_iter().map(|x| f16::from_f32(x).to_f32()).collect();
        crate::assert_bits_eq(&half.widened(), &rounded, "f16");
        let before = half.clone();
        half.mat_mut().set(2, 1, f16::from_f32(9.0));
        assert_eq!(half.mat().at(2, 1).to_f32(), 9.0);
        assert!(std::panic::catch_unwind(|| half.assert_untouched(&before, "f16")).is_err());
    }

    #[test]
    #[should_panic(expected = "was written between")]
    fn a_written_gap_is_found() {
        let padded = Layout { padding: [3, 0], ..Layout::default() };
        let mut matrix = Matrix::filled([3, 5], &padded, Fill::Normal, 1);
        matrix.mat_mut().set(1, 4, 0.0);
        matrix.assert_gaps("an element");
        matrix.data[13] = 0.0;
        matrix.assert_gaps("a gap");
    }

    #[test]
    fn empty_sizes_have_layouts() {
        let mut heads = Heads::filled([2, 0, 3, 4], &Layout::default(), Fill::Normal, 1);
        assert_eq!((heads.values().len(), heads.heads_mut().seq()), (0, 0));
    }
}
