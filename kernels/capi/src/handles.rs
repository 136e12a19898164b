//! What C owns through pointers: scratch memory and packed weights.

use crate::{
    dispatch::{get, typed},
    status::{Failure, Status, guard},
    view::Matrix,
};
use gristmill::{PackedRhs, Workspace as Scratch, bf16, f16};

/// `gristmill_workspace`: scratch memory that grows to the largest call's need and is kept from call to call.
#[derive(Debug, Default)]
pub struct Workspace(pub(crate) Scratch);

/// Makes an empty workspace.
#[unsafe(no_mangle)]
pub extern "C" fn gristmill_workspace_new() -> *mut Workspace {
    Box::into_raw(Box::default())
}

/// Frees a workspace; nothing for null.
///
/// # Safety
/// The pointer is null, or came from [`gristmill_workspace_new`] and is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gristmill_workspace_free(workspace: *mut Workspace) {
    if !workspace.is_null() {
        // SAFETY: it was made by `Box::into_raw`, and this is the last use.
        drop(unsafe { Box::from_raw(workspace) });
    }
}

/// Calls `body` with the workspace, or with a fresh one for null.
///
/// # Safety
/// The pointer is null or that of a workspace which nobody else uses meanwhile.
pub(crate) unsafe fn with_scratch<R>(workspace: *mut Workspace, body: impl FnOnce(&mut Scratch) -> R) -> R {
    // SAFETY: the caller's promise.
    match unsafe { workspace.as_mut() } {
        Some(workspace) => body(&mut workspace.0),
        None => body(&mut Scratch::new()),
    }
}

/// `gristmill_packed`: a right-hand side in the layout that the kernels want.
#[derive(Debug)]
pub struct Packed(pub(crate) Panels);

#[derive(Debug)]
pub(crate) enum Panels {
    F32(PackedRhs<f32>),
    F16(PackedRhs<f16>),
    Bf16(PackedRhs<bf16>),
}

macro_rules! into_panels {
    ($t:ty, $variant:ident) => {
        impl From<PackedRhs<$t>> for Panels {
            fn from(packed: PackedRhs<$t>) -> Panels {
                Panels::$variant(packed)
            }
        }
    };
}

into_panels!(f32, F32);
into_panels!(f16, F16);
into_panels!(bf16, Bf16);

/// Packs `b` for `a b`, or the weight `b` of a linear layer, `[out, in]`, for `a b^T` if `transposed` is not 0.
///
/// # Safety
/// `b` and `packed` are null or point to values; what `b` describes is readable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gristmill_pack(b: *const Matrix, transposed: i32, packed: *mut *mut Packed) -> Status {
    guard(|| {
        if packed.is_null() {
            return Err(Failure::null("packed"));
        }
        // SAFETY: the caller's promise.
        let b = unsafe { get("b", b)? };
        let panels = typed!("b", b.element, B => {
            // SAFETY: the caller's promise.
            let b = unsafe { b.view::<B>("b")? };
            let packed = if transposed != 0 { PackedRhs::from_out_in(b) } else { PackedRhs::from_in_out(b) };
            packed.map(Panels::from).map_err(Failure::from)
        })?;
        // SAFETY: it is not null, so it points to a pointer.
        unsafe { packed.write(Box::into_raw(Box::new(Packed(panels)))) };
        Ok(())
    })
}

/// Frees a packed right-hand side; nothing for null.
///
/// # Safety
/// The pointer is null, or came from [`gristmill_pack`] and is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gristmill_packed_free(packed: *mut Packed) {
    if !packed.is_null() {
        // SAFETY: it was made by `Box::into_raw`, and this is the last use.
        drop(unsafe { Box::from_raw(packed) });
    }
}
