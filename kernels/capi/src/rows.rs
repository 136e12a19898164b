//! Operations on each row.

use crate::{
    dispatch::{get, same_type, threads, typed},
    status::{Status, guard},
    view::Matrix,
};
use gristmill::{SoftmaxOptions, softmax, softmax_in_place};

/// `y = softmax(x)`, row by row; `y` may be `x`. `serial` not 0: the calling thread alone.
///
/// # Safety
/// Pointers are null or point to values; what they describe is readable, `y` writable; nobody uses `y` meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gristmill_softmax(x: *const Matrix, y: *const Matrix, serial: i32) -> Status {
    guard(|| {
        // SAFETY: the caller's promise.
        let (x, y) = unsafe { (get("x", x)?, get("y", y)?) };
        same_type(&[("x", x.element), ("y", y.element)])?;
        let options = SoftmaxOptions { threads: threads(serial != 0), ..SoftmaxOptions::default() };
        typed!("x", x.element, T => {
            let in_place = x.same_as(y);
            let x_span = if in_place { None } else { Some(x.span::<T>("x")?) };
            y.span::<T>("y")?.apart("y", &[("x", x_span)])?;
            // SAFETY: the caller's promise; Y shares no memory with X, or is X and X is not viewed.
            unsafe {
                let out = y.view_mut::<T>("y")?;
                if in_place { softmax_in_place(out, &options)? } else { softmax(x.view::<T>("x")?, out, &options)? }
            }
            Ok(())
        })
    })
}
