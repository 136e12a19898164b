//! Matrix products, alone and in batches.

use crate::{
    dispatch::{activation, get, same_type, stored, threads, typed},
    handles::{Packed, Panels, Workspace, with_scratch},
    status::{Failure, Status, guard},
    view::{self, Batch, Matrix, Named, Span},
};
use gristmill::{BatchRhs, GemmOptions, Rhs, gemm, gemm_batch, simd::Element};

/// `gristmill_gemm_options`; null stands for a plain product.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Factor of the product.
    pub alpha: f32,
    /// Factor of what C holds before; with 0 it is not read.
    pub beta: f32,
    /// A value per column, of f32; null for none.
    pub bias: *const f32,
    /// `gristmill_activation`: 0 none, 1 ReLU, 2 GELU, 3 GELU by tanh, 4 SiLU.
    pub activation: u32,
    /// Added last; null for nothing. Of C's type and shape.
    pub residual: *const Matrix,
    /// Not 0: the calling thread alone.
    pub serial: i32,
}

const PLAIN: Options =
    Options { alpha: 1.0, beta: 0.0, bias: std::ptr::null(), activation: 0, residual: std::ptr::null(), serial: 0 };

/// `c = epilogue(a b)`, or `a b^T` if `b_transposed` is not 0.
///
/// # Safety
/// Pointers are null or point to values; what they describe is readable, C writable; nobody uses C or the workspace
/// meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gristmill_gemm(
    a: *const Matrix,
    b: *const Matrix,
    b_transposed: i32,
    c: *const Matrix,
    options: *const Options,
    workspace: *mut Workspace,
) -> Status {
    guard(|| {
        // SAFETY: the caller's promise.
        let b = unsafe { get("b", b)? };
        typed!("b", b.element, B => {
            // SAFETY: the caller's promise.
            let view = unsafe { b.view::<B>("b")? };
            let rhs = Rhs::Plain(if b_transposed != 0 { view.transposed() } else { view });
            // SAFETY: the caller's promise.
            unsafe { multiply(a, rhs, Some(b.span::<B>("b")?), c, options, workspace) }
        })
    })
}

/// [`gristmill_gemm`] with a right-hand side packed before.
///
/// # Safety
/// As [`gristmill_gemm`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gristmill_gemm_packed(
    a: *const Matrix,
    b: *const Packed,
    c: *const Matrix,
    options: *const Options,
    workspace: *mut Workspace,
) -> Status {
    // SAFETY: the caller's promise.
    guard(|| unsafe { stored!(Panels, &get("b", b)?.0, b => multiply(a, Rhs::Packed(b), None, c, options, workspace)) })
}

/// [`gristmill_gemm`] for every product of a batch; all have the same bias and residual.
///
/// # Safety
/// As [`gristmill_gemm`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gristmill_gemm_batch(
    a: *const Batch,
    b: *const Batch,
    b_transposed: i32,
    c: *const Batch,
    options: *const Options,
    workspace: *mut Workspace,
) -> Status {
    guard(|| {
        // SAFETY: the caller's promise.
        let b = unsafe { get("b", b)? };
        typed!("b", b.element, B => {
            // SAFETY: the caller's promise.
            let view = unsafe { b.view::<B>("b")? };
            let rhs = BatchRhs::Plain(if b_transposed != 0 { view.transposed() } else { view });
            // SAFETY: the caller's promise.
            unsafe { multiply_batch(a, rhs, Some(b.span::<B>("b")?), c, options, workspace) }
        })
    })
}

/// [`gristmill_gemm_batch`] with one right-hand side for all products, packed before.
///
/// # Safety
/// As [`gristmill_gemm`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gristmill_gemm_batch_packed(
    a: *const Batch,
    b: *const Packed,
    c: *const Batch,
    options: *const Options,
    workspace: *mut Workspace,
) -> Status {
    // SAFETY: the caller's promise.
    guard(|| unsafe {
        stored!(Panels, &get("b", b)?.0, b => multiply_batch(a, BatchRhs::Packed(b), None, c, options, workspace))
    })
}

/// # Safety
/// As [`gristmill_gemm`]; `b_span` is where a plain `b` lies.
unsafe fn multiply<B: Element>(
    a: *const Matrix,
    b: Rhs<'_, B>,
    b_span: Option<Span>,
    c: *const Matrix,
    options: *const Options,
    workspace: *mut Workspace,
) -> Result<(), Failure> {
    // SAFETY: the caller's promise.
    let (a, c) = unsafe { (get("a", a)?, get("c", c)?) };
    typed!("a", a.element, A => typed!("c", c.element, C => {
        let inputs = [("a", Some(a.span::<A>("a")?)), ("b", b_span)];
        // SAFETY: the caller's promise, and C shares no memory with the others.
        unsafe {
            let options = read::<C>(options, c.element, b.n(), c.span::<C>("c")?, &inputs)?;
            let (a, c) = (a.view::<A>("a")?, c.view_mut::<C>("c")?);
            with_scratch(workspace, |scratch| Ok(gemm(a, b, c, &options, scratch)?))
        }
    }))
}

/// # Safety
/// As [`multiply`].
unsafe fn multiply_batch<B: Element>(
    a: *const Batch,
    b: BatchRhs<'_, B>,
    b_span: Option<Span>,
    c: *const Batch,
    options: *const Options,
    workspace: *mut Workspace,
) -> Result<(), Failure> {
    // SAFETY: the caller's promise.
    let (a, c) = unsafe { (get("a", a)?, get("c", c)?) };
    let n = match b {
        BatchRhs::Plain(b) => b.cols(),
        BatchRhs::Packed(b) => b.n(),
    };
    typed!("a", a.element, A => typed!("c", c.element, C => {
        let inputs = [("a", Some(a.span::<A>("a")?)), ("b", b_span)];
        // SAFETY: the caller's promise, and C shares no memory with the others.
        unsafe {
            let options = read::<C>(options, c.element, n, c.span::<C>("c")?, &inputs)?;
            let (a, c) = (a.view::<A>("a")?, c.view_mut::<C>("c")?);
            with_scratch(workspace, |scratch| Ok(gemm_batch(a, b, c, &options, scratch)?))
        }
    }))
}

/// The options for `n` columns and a result of type `T`, `element` to C, once it is known that the result, at `c`, shares
/// no memory with the inputs and what the options name.
///
/// # Safety
/// As [`gristmill_gemm`]; what is read stays as it is for `'a`.
unsafe fn read<'a, T: Element>(
    options: *const Options,
    element: view::Type,
    n: usize,
    c: Span,
    inputs: &[Named],
) -> Result<GemmOptions<'a, T>, Failure> {
    // SAFETY: the caller's promise, for all pointers; a bias has a value per column.
    let (options, residual, bias) = unsafe {
        let options = options.as_ref().unwrap_or(&PLAIN);
        (options, options.residual.as_ref(), view::read_optional("bias", options.bias, n)?)
    };
    same_type(&[("c", element), ("residual", residual.map_or(element, |residual| residual.element))])?;
    let residual_span = residual.map(|residual| residual.span::<T>("residual")).transpose()?;
    c.apart("c", inputs)?;
    c.apart("c", &[("residual", residual_span), ("bias", bias.map(Span::of))])?;
    Ok(GemmOptions {
        alpha: options.alpha,
        beta: options.beta,
        bias,
        activation: activation(options.activation)?,
        // SAFETY: the caller's promise.
        residual: residual.map(|residual| unsafe { residual.view::<T>("residual") }).transpose()?,
        threads: threads(options.serial != 0),
        level: None,
    })
}
