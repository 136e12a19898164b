//! What a function returns, and the message behind it.

use gristmill::{Error, list};
use std::{
    any::Any,
    borrow::Cow,
    cell::RefCell,
    ffi::{CStr, c_char},
    fmt::{self, Display, Write},
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
    cause: Cause,
}

#[derive(Debug)]
enum Cause {
    Said(String),
    Kernel(Error),
}

impl Failure {
    pub(crate) fn null(what: &str) -> Failure {
        Failure { status: NULL_POINTER, cause: Cause::Said(format!("{what} is null")) }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Failure {
        Failure { status: INVALID_ARGUMENT, cause: Cause::Said(message.into()) }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let status = match error {
            Error::OutOfMemory { .. } => OUT_OF_MEMORY,
            Error::Level(_) => UNSUPPORTED,
            _ => INVALID_ARGUMENT,
        };
        Failure { status, cause: Cause::Kernel(error) }
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            Cause::Said(message) => message.fmt(f),
            Cause::Kernel(error) => error.fmt(f),
        }
    }
}

thread_local! {
    /// Up to and with a zero byte.
    static MESSAGE: RefCell<Cow<'static, [u8]>> = const { RefCell::new(Cow::Borrowed(c"".to_bytes_with_nul())) };
}

/// What is kept of a message for which there is no memory.
const NO_MEMORY: &CStr = c"memory could not be had";

/// Text that grows, or says that it cannot. A message has no zero bytes; if it had, they would be left out.
struct Text(Vec<u8>);

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        list::extend(&mut self.0, text.bytes().filter(|&byte| byte != 0)).map_err(|_| fmt::Error)
    }
}

/// Keeps the message of a failure.
fn keep(failure: impl Display) {
    let mut text = Text(Vec::new());
    let whole = write!(text, "{failure}").is_ok() && list::extend(&mut text.0, [0]).is_ok();
    let message = if whole { Cow::Owned(text.0) } else { Cow::Borrowed(NO_MEMORY.to_bytes_with_nul()) };
    // Gone only while the thread ends; nobody asks for the message then.
    let _ = MESSAGE.try_with(|kept| kept.replace(message));
}

/// Runs the body of a function: keeps the message of a failure, stops a panic.
pub(crate) fn guard(body: impl FnOnce() -> Result<(), Failure>) -> Status {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => OK,
        Ok(Err(failure)) => {
            keep(&failure);
            failure.status
        }
        Err(panic) => {
            keep(format_args!("a mistake in gristmill: {}", said(&*panic)));
            INTERNAL
        }
    }
}

fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("it panicked")
}

/// The message of the calling thread's last failure, empty before the first one. It is valid until the thread's next
/// failure.
#[unsafe(no_mangle)]
pub extern "C" fn gristmill_error_message() -> *const c_char {
    MESSAGE.try_with(|kept| kept.borrow().as_ptr().cast()).unwrap_or(c"".as_ptr())
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
