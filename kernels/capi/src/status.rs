//! What a function returns, and the message behind it.

use gristmill::Error;
use std::{
    any::Any,
    cell::RefCell,
    ffi::{CStr, CString, c_char},
    panic::{AssertUnwindSafe, catch_unwind},
};

/// `gristmill_status`: 0 is success.
pub type Status = i32;

/// Done.
pub const OK: Status = 0;
/// A pointer that must not be null is.
pub const NULL_POINTER: Status = 1;
/// Sizes, strides, types or options contradict each other or are out of range, or an output overlaps an operand.
pub const INVALID_ARGUMENT: Status = 2;
/// The instruction set that `GRISTMILL_LEVEL` asks for cannot be used.
pub const UNSUPPORTED: Status = 3;
/// Memory could not be had.
pub const OUT_OF_MEMORY: Status = 4;
/// A mistake in the library.
pub const INTERNAL: Status = 5;

/// Why a call did nothing.
#[derive(Debug)]
pub(crate) struct Failure {
    status: Status,
    message: String,
}

impl Failure {
    pub(crate) fn null(what: &str) -> Failure {
        Failure { status: NULL_POINTER, message: format!("{what} is null") }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Failure {
        Failure { status: INVALID_ARGUMENT, message: message.into() }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let status = match error {
            Error::OutOfMemory { .. } => OUT_OF_MEMORY,
            Error::Level(_) => UNSUPPORTED,
            _ => INVALID_ARGUMENT,
        };
        Failure { status, message: error.to_string() }
    }
}

thread_local! {
    static MESSAGE: RefCell<CString> = RefCell::default();
}

/// Runs the body of a function: keeps the message of a failure, stops a panic.
pub(crate) fn guard(body: impl FnOnce() -> Result<(), Failure>) -> Status {
    let outcome = catch_unwind(AssertUnwindSafe(body));
    let (status, message) = match outcome {
        Ok(Ok(())) => return OK,
        Ok(Err(Failure { status, message })) => (status, message),
        Err(panic) => (INTERNAL, format!("a mistake in gristmill: {}", said(&*panic))),
    };
    // A message has no zero bytes; if it had, it would be left out.
    let message = CString::new(message).unwrap_or_default();
    // Gone only while the thread ends; nobody asks for the message then.
    let _ = MESSAGE.try_with(|kept| kept.replace(message));
    status
}

fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("it panicked")
}

/// The message of the calling thread's last failure, empty before the first one. It is valid until the thread's next
/// failure.
#[unsafe(no_mangle)]
pub extern "C" fn gristmill_error_message() -> *const c_char {
    MESSAGE.try_with(|kept| kept.borrow().as_ptr()).unwrap_or(c"".as_ptr())
}

/// The version of the library, as in `0.1.0`.
#[unsafe(no_mangle)]
pub extern "C" fn gristmill_version() -> *const c_char {
    const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(version) => version,
        Err(_) => panic!("a version has no zero bytes"),
    };
    VERSION.as_ptr()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> String {
        // SAFETY: the message is a string that lives until the next failure.
        unsafe { CStr::from_ptr(gristmill_error_message()) }.to_str().unwrap().to_owned()
    }

    #[test]
    fn failures_and_panics_become_statuses() {
        assert_eq!(guard(|| Ok(())), OK);
        assert_eq!(guard(|| Err(Failure::null("x"))), NULL_POINTER);
        assert_eq!(message(), "x is null");
        assert_eq!(guard(|| Err(Error::OutOfMemory { bytes: 8 }.into())), OUT_OF_MEMORY);
        assert_eq!(guard(|| panic!("number {}", 7)), INTERNAL);
        assert_eq!(message(), "a mistake in gristmill: number 7");
        // A success keeps the message of the failure before it.
        assert_eq!(guard(|| Ok(())), OK);
        assert_eq!(message(), "a mistake in gristmill: number 7");
    }
}
