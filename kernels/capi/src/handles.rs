//! What C owns through pointers: how it is given away and freed, scratch memory, packed weights.

use crate::{
    dispatch::{get, get_mut, of_any_type, stored, typed},
    status::{Failure, Status, guard},
    view::Matrix,
};
use gristmill::{Error, PackedRhs, Workspace as Scratch};

/// What `Box::new` gives, or the error that there is no memory.
fn boxed<T>(value: T) -> Result<Box<T>, Error> {
    let mut one = Vec::new();
    one.try_reserve_exact(1).map_err(|_| Error::OutOfMemory { bytes: size_of::<T>() })?;
    one.push(value);
    // SAFETY: a slice of one value has its layout, and came from a box.
    Ok(unsafe { Box::from_raw(Box::into_raw(one.into_boxed_slice()).cast()) })
}

/// Gives C a value to own, until it is [`free`]d.
///
/// # Safety
/// `place` is null or points to a pointer.
pub(crate) unsafe fn give<T>(name: &str, place: *mut *mut T, value: T) -> Result<(), Failure> {
    if place.is_null() {
        return Err(Failure::null(name));
    }
    // SAFETY: it is not null; the caller's promise.
    unsafe { place.write(Box::into_raw(boxed(value)?)) };
    Ok(())
}

/// Drops what C owned; nothing for null.
///
/// # Safety
/// The pointer is null, or was made by `Box::into_raw` and is not used again.
pub(crate) unsafe fn free<T>(pointer: *mut T) {
    if !pointer.is_null() {
        // SAFETY: the caller's promise.
        drop(unsafe { Box::from_raw(pointer) });
    }
}

/// `gristmill_workspace`: scratch memory that grows to the largest call's need and is kept from call to call.
#[derive(Debug, Default)]
pub struct Workspace(pub(crate) Scratch);

/// Makes an empty workspace; null without memory.
#[unsafe(no_mangle)]
pub extern "C" fn gristmill_workspace_new() -> *mut Workspace {
    boxed(Workspace::default()).map_or(std::ptr::null_mut(), Box::into_raw)
}

/// Frees a workspace; nothing for null.
///
/// # Safety
/// The pointer is null, or came from [`gristmill_workspace_new`] and is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gristmill_workspace_free(workspace: *mut Workspace) {
    // SAFETY: the caller's promise.
    unsafe { free(workspace) }
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

of_any_type! {
    /// A packed matrix of one of the storage types.
    Panels of PackedRhs
}

/// Packs `b` for `a b`, or the weight `b` of a linear layer, `[out, in]`, for `a b^T` if `transposed` is not 0.
///
/// # Safety
/// `b` and `packed` are null or point to values; what `b` describes is readable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gristmill_pack(b: *const Matrix, transposed: i32, packed: *mut *mut Packed) -> Status {
    guard(|| {
        // SAFETY: the caller's promise.
        let b = unsafe { get("b", b)? };
        let panels = typed!("b", b.element, B => {
            // SAFETY: the caller's promise.
            let b = unsafe { b.view::<B>("b")? };
            let packed = if transposed != 0 { PackedRhs::from_out_in(b) } else { PackedRhs::from_in_out(b) };
            packed.map(Panels::from).map_err(Failure::from)
        })?;
        // SAFETY: the caller's promise.
        unsafe { give("packed", packed, Packed(panels)) }
    })
}

/// Says that so many bytes are read in turn, those of `packed` among them: see [`PackedRhs::set_working_set`].
///
/// # Safety
/// The pointer is null, or came from [`gristmill_pack`] and nobody uses it meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gristmill_packed_set_working_set(packed: *mut Packed, bytes: usize) -> Status {
    guard(|| {
        // SAFETY: the caller's promise.
        let packed = unsafe { get_mut("packed", packed)? };
        stored!(Panels, &mut packed.0, panels => panels.set_working_set(bytes));
        Ok(())
    })
}

/// Frees a packed right-hand side; nothing for null.
///
/// # Safety
/// The pointer is null, or came from [`gristmill_pack`] and is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gristmill_packed_free(packed: *mut Packed) {
    // SAFETY: the caller's promise.
    unsafe { free(packed) }
}
