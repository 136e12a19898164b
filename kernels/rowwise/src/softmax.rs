//! Softmax of rows and its logarithm.

use crate::plain::{self, PlainRow, Summed};
use crate::scores::{self, Exponential, Finish, NearExponential};
use crate::{SoftmaxOptions, check};
use gristmill_core::{Error, MatMut, MatRef, Operand};
use gristmill_simd::slices::{self, Chain, Map};
use gristmill_simd::{Divisor, Element, Isa, Simd, math};

/// `y[i] = exp(s[i] - max) / sum`, row by row, for the scores `s = scale * x` as the mask leaves them; `x` and `y` are
/// [rows, n].
///
/// A score more than 87 below its row's largest gives exactly 0, and so do minus infinity and a hidden score; a row of
/// nothing else gives zeros. A visible NaN or plus infinity makes its row NaN, hidden columns too; what the hidden values
/// are does not matter. Given
/// the differences from the largest score as rounded, the result is within 6 ULP on rows of up to 37,000 elements,
/// before it is rounded to the type of `y`.
///
/// ```
/// use gristmill_core::{Causal, Mask, MatMut, MatRef};
/// use gristmill_rowwise::{SoftmaxOptions, softmax};
///
/// let scores = [0.0, f32::NAN, 1.0, 1.0];
/// let mut p = [0.0; 4];
/// let mask = Mask { causal: Some(Causal::BottomRight), ..Mask::default() };
/// let options = SoftmaxOptions { mask, ..SoftmaxOptions::default() };
/// softmax(MatRef::new(&scores, 2, 2)?, MatMut::new(&mut p, 2, 2)?, &options)?;
/// assert_eq!(p, [1.0, 0.0, 0.5, 0.5]);
/// # Ok::<(), gristmill_core::Error>(())
/// ```
///
/// # Errors
/// [`Error::ShapeMismatch`] when shapes, or the sizes of the mask, disagree, [`Error::SizeOverflow`] when `batch * heads`
/// is too large, [`Error::KeyLength`], [`Error::Level`]. Then `y` is untouched.
pub fn softmax<X: Element, Y: Element>(
    x: MatRef<'_, X>,
    y: MatMut<'_, Y>,
    options: &SoftmaxOptions<'_>,
) -> Result<(), Error> {
    check::same_shape(x, &y)?;
    check::softmax(y.rows(), y.cols(), options)?;
    // SAFETY: shapes agree; y is borrowed exclusively.
    unsafe { scores::run(Quotient::new(options)?, x.into(), y.into(), options) }
}

/// [`softmax`] of `x` into `x`.
///
/// # Errors
/// As [`softmax`]. Then `x` is untouched.
pub fn softmax_in_place<T: Element>(x: MatMut<'_, T>, options: &SoftmaxOptions<'_>) -> Result<(), Error> {
    check::softmax(x.rows(), x.cols(), options)?;
    let x = Operand::from(x);
    // SAFETY: one matrix, borrowed exclusively, is input and output.
    unsafe { scores::run(Quotient::new(options)?, x, x, options) }
}

/// `y[i] = (s[i] - max) - ln(sum(exp(s - max)))`, row by row, for the scores `s` of [`softmax`]; `x` and `y` are
/// [rows, n].
///
/// Minus infinity stays minus infinity, in a row of nothing else too, and hidden scores become it. A visible NaN or
/// plus infinity makes its row NaN. Scores more than 87 below their row's largest add nothing to the sum, but keep
/// their own finite results.
///
/// # Errors
/// As [`softmax`].
pub fn log_softmax<X: Element, Y: Element>(
    x: MatRef<'_, X>,
    y: MatMut<'_, Y>,
    options: &SoftmaxOptions<'_>,
) -> Result<(), Error> {
    check::same_shape(x, &y)?;
    check::softmax(y.rows(), y.cols(), options)?;
    // SAFETY: shapes agree; y is borrowed exclusively.
    unsafe { scores::run(Logarithm, x.into(), y.into(), options) }
}

/// [`log_softmax`] of `x` into `x`.
///
/// # Errors
/// As [`softmax`]. Then `x` is untouched.
pub fn log_softmax_in_place<T: Element>(x: MatMut<'_, T>, options: &SoftmaxOptions<'_>) -> Result<(), Error> {
    check::softmax(x.rows(), x.cols(), options)?;
    let x = Operand::from(x);
    // SAFETY: one matrix, borrowed exclusively, is input and output.
    unsafe { scores::run(Logarithm, x, x, options) }
}

/// `exp(x - max) / sum`.
#[derive(Clone, Copy)]
struct Quotient {
    /// Whether the divider is used beside the multiply-adds.
    beside: bool,
}

impl Quotient {
    fn new(options: &SoftmaxOptions<'_>) -> Result<Self, Error> {
        Ok(Self { beside: Simd::choose(options.level)?.divider_pays() })
    }
}

/// `x / sum`.
struct Divide<I: Isa>(Divisor<I>);

impl<I: Isa> Map<I> for Divide<I> {
    #[inline(always)]
    fn map(&self, isa: I, x: I::F32) -> I::F32 {
        self.0.divide(isa, x)
    }
}

/// `x / sum`, for exponentials that need no care; with `BESIDE` the divider is used too.
struct DivideSafe<I: Isa, const BESIDE: bool>(Divisor<I>);

impl<I: Isa, const BESIDE: bool> Map<I> for DivideSafe<I, BESIDE> {
    #[inline(always)]
    fn map(&self, isa: I, x: I::F32) -> I::F32 {
        self.0.divide_safe(isa, x)
    }
    #[inline(always)]
    fn map_four(&self, isa: I, x: [I::F32; 4]) -> [I::F32; 4] {
        self.0.divide_four(isa, x, BESIDE)
    }
}

/// One function and then another.
struct Then<F, G>(F, G);

impl<I: Isa, F: Map<I>, G: Map<I>> Map<I> for Then<F, G> {
    #[inline(always)]
    fn map(&self, isa: I, x: I::F32) -> I::F32 {
        self.1.map(isa, self.0.map(isa, x))
    }
    #[inline(always)]
    fn map_four(&self, isa: I, x: [I::F32; 4]) -> [I::F32; 4] {
        self.1.map_four(isa, self.0.map_four(isa, x))
    }
}

impl Finish for Quotient {
    #[inline(always)]
    fn hidden(sum: f32) -> f32 {
        0.0 / sum
    }

    #[inline(always)]
    fn finish<I: Isa>(isa: I, scores: &mut [f32], max: f32, sum: f32) {
        slices::map_in_place(isa, scores, &Exponential(isa.splat(max)));
        slices::map_in_place(isa, scores, &Divide(Divisor::new(isa, sum)));
    }

    const NEAR: f32 = -41.0;

    #[inline(always)]
    unsafe fn sum<I: Isa, X: Element, Y: Element>(
        isa: I,
        PlainRow { x, kept, n, .. }: PlainRow<X, Y>,
        f: &impl Chain<I>,
        next: *const X,
    ) -> I::Lanes64 {
        let lanes = isa.splat_lanes64(0.0);
        // SAFETY: the caller's promise.
        unsafe {
            match kept.is_null() {
                true => slices::sum_of_raw(isa, n, x, lanes, f, [next]),
                false => slices::map_sum_raw(isa, n, x, kept, lanes, f, [next]),
            }
        }
    }

    #[inline(always)]
    unsafe fn last<I: Isa, X: Element, Y: Element>(
        self,
        isa: I,
        Summed { row, max, sum, near }: Summed<X, Y>,
        next: Option<PlainRow<X, Y>>,
    ) -> [f32; 2] {
        let (max, divisor) = (isa.splat(max), Divisor::new(isa, sum));
        let (x, y) = ((row.x, row.y), (row.kept.cast_const(), row.y));
        // SAFETY: the caller's promise.
        unsafe {
            match (near, self.beside) {
                // Without a place the exponentials are computed again.
                (true, _) if row.kept.is_null() => {
                    let f = Then(NearExponential(max), DivideSafe::<I, false>(divisor));
                    plain::map_beside(isa, row.n, x, &f, next)
                }
                (false, _) if row.kept.is_null() => {
                    plain::map_beside(isa, row.n, x, &Then(Exponential(max), Divide(divisor)), next)
                }
                (true, true) => plain::map_beside(isa, row.n, y, &DivideSafe::<I, true>(divisor), next),
                (true, false) => plain::map_beside(isa, row.n, y, &DivideSafe::<I, false>(divisor), next),
                (false, _) => {
                    slices::map_raw(isa, row.n, y.0, y.1, &Divide(divisor));
                    plain::extremes(isa, next)
                }
            }
        }
    }
}

/// `(x - max) - ln(sum)`.
#[derive(Clone, Copy)]
struct Logarithm;

/// `(x - max) - ln`.
struct Shift<V> {
    max: V,
    ln: V,
}

impl<I: Isa> Map<I> for Shift<I::F32> {
    #[inline(always)]
    fn map(&self, isa: I, x: I::F32) -> I::F32 {
        isa.sub(isa.sub(x, self.max), self.ln)
    }
}

impl Shift<f32> {
    /// In every lane.
    #[inline(always)]
    fn new<I: Isa>(isa: I, max: f32, sum: f32) -> Shift<I::F32> {
        Shift { max: isa.splat(max), ln: math::ln(isa, isa.splat(sum)) }
    }
}

impl Finish for Logarithm {
    #[inline(always)]
    fn hidden(sum: f32) -> f32 {
        if sum.is_nan() { sum } else { f32::NEG_INFINITY }
    }

    #[inline(always)]
    fn finish<I: Isa>(isa: I, scores: &mut [f32], max: f32, sum: f32) {
        slices::map_in_place(isa, scores, &Shift::new(isa, max, sum));
    }

    const NEAR: f32 = -87.0;

    #[inline(always)]
    unsafe fn sum<I: Isa, X: Element, Y: Element>(
        isa: I,
        PlainRow { x, n, .. }: PlainRow<X, Y>,
        f: &impl Chain<I>,
        next: *const X,
    ) -> I::Lanes64 {
        // SAFETY: the caller's promise.
        unsafe { slices::sum_of_raw(isa, n, x, isa.splat_lanes64(0.0), f, [next]) }
    }

    #[inline(always)]
    unsafe fn last<I: Isa, X: Element, Y: Element>(
        self,
        isa: I,
        Summed { row, max, sum, .. }: Summed<X, Y>,
        next: Option<PlainRow<X, Y>>,
    ) -> [f32; 2] {
        // SAFETY: the caller's promise.
        unsafe { plain::map_beside(isa, row.n, (row.x, row.y), &Shift::new(isa, max, sum), next) }
    }
}
