//! Matrix products.

use crate::{
    dispatch::{get, same_type, stored, threads, typed},
    handles::{Packed, Panels, Workspace, with_scratch},
    status::{Failure, Status, guard},
    view::{self, Matrix, Span},
};
use gristmill::{Activation, GemmOptions, Rhs, gemm, simd::Element};

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

/// The activation of a code.
fn activation(code: u32) -> Result<Activation, Failure> {
    use Activation::{Gelu, GeluTanh, Identity, Relu, Silu};
    let known = [Identity, Relu, Gelu, GeluTanh, Silu];
    known.get(code as usize).copied().ok_or_else(|| Failure::invalid(format!("unknown activation {code}")))
}

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
    // SAFETY: the caller's promise, for all pointers.
    let (a, c, options) = unsafe { (get("a", a)?, get("c", c)?, options.as_ref().unwrap_or(&PLAIN)) };
    // SAFETY: as above.
    let residual = unsafe { options.residual.as_ref() };
    same_type(&[("a", a.element), ("c", c.element), ("residual", residual.map_or(c.element, |r| r.element))])?;
    typed!("c", c.element, T => {
        // SAFETY: as above; a bias has a value per column.
        let bias = unsafe { view::read_optional("bias", options.bias, b.n())? };
        let residual_span = residual.map(|residual| residual.span::<T>("residual")).transpose()?;
        let others =
            [("a", Some(a.span::<T>("a")?)), ("b", b_span), ("residual", residual_span), ("bias", bias.map(Span::of))];
        c.span::<T>("c")?.apart("c", &others)?;
        // SAFETY: as above, and C shares no memory with the others.
        let (a, c) = unsafe { (a.view::<T>("a")?, c.view_mut::<T>("c")?) };
        // SAFETY: as above.
        let residual = residual.map(|residual| unsafe { residual.view::<T>("residual") }).transpose()?;
        let options = GemmOptions {
            alpha: options.alpha,
            beta: options.beta,
            bias,
            activation: activation(options.activation)?,
            residual,
            threads: threads(options.serial != 0),
            level: None,
        };
        // SAFETY: the caller's promise.
        unsafe { with_scratch(workspace, |scratch| gemm(a, b, c, &options, scratch)) }.map_err(Failure::from)
    })
}
