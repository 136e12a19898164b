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

/// An enum of a generic type with each storage type, and how to make it.
macro_rules! of_any_type {
    ($(#[$doc:meta])* $Any:ident of $Value:ident) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub(crate) enum $Any {
            F32($Value<f32>),
            F16($Value<gristmill::f16>),
            Bf16($Value<gristmill::bf16>),
        }

        $crate::dispatch::of_any_type!(from $Any, $Value: F32 f32, F16 gristmill::f16, Bf16 gristmill::bf16);
    };
    (from $Any:ident, $Value:ident: $($Variant:ident $T:ty),+) => {
        $(impl From<$Value<$T>> for $Any {
            fn from(value: $Value<$T>) -> $Any {
                $Any::$Variant(value)
            }
        })+
    };
}
pub(crate) use of_any_type;

/// Evaluates the body with the value in such an enum.
macro_rules! stored {
    ($Any:ident, $any:expr, $value:ident => $body:expr) => {
        match $any {
            $Any::F32($value) => $body,
            $Any::F16($value) => $body,
            $Any::Bf16($value) => $body,
        }
    };
}
pub(crate) use stored;

use crate::{status::Failure, view::Type};
use gristmill::{Activation, Threads};

/// Operands of one call that must have one type.
pub(crate) fn same_type(pairs: &[(&str, Type)]) -> Result<(), Failure> {
    match pairs.windows(2).find(|pair| pair[0].1 != pair[1].1) {
        Some(pair) => Err(Failure::invalid(format!("{} and {} have different types", pair[0].0, pair[1].0))),
        None => Ok(()),
    }
}

/// The activation of a code.
pub(crate) fn activation(code: u32) -> Result<Activation, Failure> {
    use Activation::{Gelu, GeluTanh, Identity, Relu, Silu};
    let known = [Identity, Relu, Gelu, GeluTanh, Silu];
    known.get(code as usize).copied().ok_or_else(|| Failure::invalid(format!("unknown activation {code}")))
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

/// As [`get`], to be changed.
///
/// # Safety
/// A pointer that is not null points to a value that lives for `'a` and that nobody else uses meanwhile.
pub(crate) unsafe fn get_mut<'a, T>(name: &str, pointer: *mut T) -> Result<&'a mut T, Failure> {
    // SAFETY: the caller's promise.
    unsafe { pointer.as_mut() }.ok_or_else(|| Failure::null(name))
}
