//! The kernels for C, and for whatever calls C.
//!
//! `include/gristmill.h` is the interface and says what each function computes; this crate implements it over the
//! facade [`gristmill`], whose results it returns to the bit. `cargo build --release -p gristmill-capi` makes
//! `libgristmill_capi.a` and `libgristmill_capi.so`.
//!
//! What C can get wrong becomes a [`Status`](status) and a message for the calling thread: null pointers, sizes that
//! disagree or overflow, unknown types, outputs that overlap an operand. Outputs are then untouched. A panic does not
//! cross the boundary; it becomes a status too. What cannot be checked is whether the memory that a pointer and its
//! sizes describe is there: that is the caller's promise, and the reason why every function is `unsafe`.

pub mod attention;
pub mod cache;
mod dispatch;
pub mod embed;
pub mod gemm;
pub mod handles;
pub mod mask;
pub mod norms;
pub mod rows;
pub mod status;
pub mod view;
