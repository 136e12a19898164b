//! From the types that C names to those of Rust.

/// Evaluates the body with `$T` the type that the code stands for; an unknown code is a failure.
macro_rules! typed {
    ($name:expr, $element:expr, $T:ident => $body:expr) => {
        match $element {
            $crate::view::F32 => {
                type $T = f32;
                $body
            }
            $crate::view::F16 => {
                type $T = gristmill::f16;
                $body
            }
            $crate::view::BF16 => {
                type $T = gristmill::bf16;
                $body
            }
            unknown => Err($crate::status::Failure::invalid(format!("{} has the unknown type {unknown}", $name))),
        }
    };
}
pub(crate) use typed;

use crate::{status::Failure, view::Type};
use gristmill::Threads;

/// Operands of one call that must have one type.
pub(crate) fn same_type(pairs: &[(&str, Type)]) -> Result<(), Failure> {
    match pairs.windows(2).find(|pair| pair[0].1 != pair[1].1) {
        Some(pair) => Err(Failure::invalid(format!("{} and {} have different types", pair[0].0, pair[1].0))),
        None => Ok(()),
    }
}

/// The threads that a flag asks for.
pub(crate) fn threads(serial: bool) -> Threads<'static> {
    if serial { Threads::Serial } else { Threads::Global }
}

/// What a pointer points to.
///
/// # Safety
/// A pointer that is not null points to a value that lives for `'a`, unchanged.
pub(crate) unsafe fn get<'a, T>(name: &str, pointer: *const T) -> Result<&'a T, Failure> {
    // SAFETY: the caller's promise.
    unsafe { pointer.as_ref() }.ok_or_else(|| Failure::null(name))
}
